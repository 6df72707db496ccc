package relay

import "time"

// inquiries are calls in line that publish nothing: probes, and look-ups of partitions. Those whose last call took long may do so again. They have every other
// turn, and half of the publishers at most: topics of a broker that hangs, many as they are, hold up no other that has recovered.
type inquiries[T any] struct {
	brisk, slow []T
	busySlow    int
	lastSlow    bool // the one that left the line last
}

func (q *inquiries[T]) len() int { return len(q.brisk) + len(q.slow) }

func (q *inquiries[T]) push(one T, slow bool) {
	if slow {
		q.slow = append(q.slow, one)
		return
	}
	q.brisk = append(q.brisk, one)
}

// next takes one from the line; ok is false when none may have one of the publishers. With slow, ended has to follow.
func (q *inquiries[T]) next(publishers int) (one T, slow, ok bool) {
	q.lastSlow = len(q.slow) > 0 && q.busySlow < max(1, publishers/2) && (!q.lastSlow || len(q.brisk) == 0)
	switch {
	case q.lastSlow:
		one, q.slow = q.slow[0], q.slow[1:]
		q.busySlow++
		return one, true, true
	case len(q.brisk) > 0:
		one, q.brisk = q.brisk[0], q.brisk[1:]
		return one, false, true
	}
	return one, false, false
}

func (q *inquiries[T]) ended() { q.busySlow-- }

// slowCall is how long a broker that is well does not take.
const slowCall = time.Second

// timed notes of each whom the job was for whether it took long.
func (j *job) timed(now time.Time) {
	slow := now.Sub(j.began) > slowCall
	switch j.kind {
	case jobResolve:
		j.target.failure.slow = slow
	case jobProbe:
		j.probe.failure.slow = slow
	default:
		for _, s := range j.spans {
			s.destination.failure.slow = slow
		}
	}
}
