package relay

import "time"

// line is where destinations, and what is asked of a broker, wait for a publisher. Those that failed last time, or took long, may take as long as a call can: they
// get every other turn and half of the publishers at most, so that the rest goes on.
type line[T any] struct {
	healthy, suspect []T
	busySuspects     int
	lastSuspect      bool // the one that left the line last
}

func (l *line[T]) len() int { return len(l.healthy) + len(l.suspect) }

func (l *line[T]) push(one T, suspect bool) {
	if suspect {
		l.suspect = append(l.suspect, one)
		return
	}
	l.healthy = append(l.healthy, one)
}

// next takes one from the line; ok is false when none may have one of the publishers. Behind a suspect, busySuspects is to be lowered when its job has ended.
func (l *line[T]) next(publishers int) (one T, suspect, ok bool) {
	if len(l.suspect) > 0 && l.busySuspects < max(1, publishers/2) && (!l.lastSuspect || len(l.healthy) == 0) {
		l.lastSuspect = true
		l.busySuspects++
		one, l.suspect = l.suspect[0], l.suspect[1:]
		return one, true, true
	}
	if len(l.healthy) == 0 {
		return one, false, false
	}
	return l.nextHealthy(), false, true
}

// nextHealthy takes the first that is no suspect; there must be one.
func (l *line[T]) nextHealthy() T {
	l.lastSuspect = false
	one := l.healthy[0]
	l.healthy = l.healthy[1:]
	return one
}

// slowCall: a healthy broker answers faster than this.
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
