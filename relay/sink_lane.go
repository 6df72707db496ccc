package relay

import (
	"slices"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// sinkLane is one sink with the work that waits for it.
type sinkLane struct {
	name        string
	sink        sink.Sink
	partitioner sink.Partitioner // nil when it has none
	concurrency [jobKinds]int
	busy        [jobKinds]int
	jobs        [jobKinds]chan *job
	spare       []*job

	unresolved line[*target]
	unread     line[*destination]
	ready      line[*destination] // for what comes from the log
	lent       line[*destination] // for what comes from the table
	busyLent   int
	parks      []*destination // in line for being parked
	probes     line[probe]

	draining bool     // the session ends
	down     *failure // the whole broker fails; nil when it does not
	spilling bool     // ... and its events are parked instead of being waited for
}

// active tells whether anything is in flight or could be.
func (s *sinkLane) active() bool {
	return s.busy != [jobKinds]int{} || s.down == nil && s.ready.len()+s.unread.len()+s.lent.len()+s.unresolved.len() > 0 || len(s.parks) > 0
}

// dispatch hands out jobs as far as publishers are free. A channel of jobs has room for all of them, so it never blocks.
func (s *sinkLane) dispatch(cfg *Config) {
	for s.busy[jobProbe] < s.concurrency[jobProbe] {
		p, suspect, ok := s.probes.next(s.concurrency[jobProbe])
		if !ok {
			break
		}
		s.start(&job{kind: jobProbe, sink: s, probe: p, suspect: suspect})
	}
	if s.down != nil {
		return // one probe speaks for all
	}
	for s.busy[jobResolve] < s.concurrency[jobResolve] {
		t, suspect, ok := s.unresolved.next(s.concurrency[jobResolve])
		if !ok {
			break
		}
		s.start(&job{kind: jobResolve, sink: s, target: t, suspect: suspect})
	}
	for s.busy[jobTail] < s.concurrency[jobTail] {
		d, _, ok := s.unread.next(s.concurrency[jobTail])
		if !ok {
			break
		}
		d.leaveLine()
		d.lane.Read()
		s.start(d.tailJob(cfg))
	}
	for most := max(1, s.concurrency[jobPublish]/2); s.busyLent < most && s.busy[jobPublish] < s.concurrency[jobPublish]; {
		d, _, ok := s.lent.next(most)
		if !ok {
			break
		}
		d.leaveLine()
		s.lend(cfg, d)
	}
	for s.busy[jobPublish] < s.concurrency[jobPublish] {
		d, _, ok := s.ready.next(s.concurrency[jobPublish])
		if !ok {
			break
		}
		d.leaveLine()
		if d.lane.HeadWaits() { // since it stands in line
			if d.suspect() {
				s.ready.busySuspects--
			}
			d.enqueue()
			continue
		}
		s.start(s.nextBatch(cfg, d))
	}
}

// pull takes the destination out of whatever line it stands in.
func (s *sinkLane) pull(d *destination) {
	if !d.queued {
		return
	}
	d.queued = false
	for _, line := range []*[]*destination{
		&s.unread.healthy, &s.unread.suspect, &s.ready.healthy, &s.ready.suspect, &s.lent.healthy, &s.lent.suspect, &s.parks,
	} {
		if i := slices.Index(*line, d); i >= 0 {
			*line = slices.Delete(*line, i, i+1)
			return
		}
	}
}

func (s *sinkLane) start(j *job) {
	s.busy[j.kind]++
	j.began = time.Now()
	s.jobs[j.kind] <- j
}

// ended takes note that a job's publisher is free again.
func (s *sinkLane) ended(j *job) {
	s.busy[j.kind]--
	if j.table {
		s.busyLent--
	}
	if !j.suspect {
		return
	}
	switch {
	case j.kind == jobProbe:
		s.probes.busySuspects--
	case j.kind == jobResolve:
		s.unresolved.busySuspects--
	case j.kind == jobTail:
		s.unread.busySuspects--
	case j.table:
		s.lent.busySuspects--
	default:
		s.ready.busySuspects--
	}
}

// nextBatch takes from the given destination and the healthy ones in line what one publish may hold. A destination that failed goes
// alone, so that it holds nobody up.
func (s *sinkLane) nextBatch(cfg *Config, first *destination) *job {
	j := s.spareJob()
	j.suspect = first.suspect()
	size := 0
	for d := first; ; {
		if d.lane.HeadWaits() { // since it stands in line
			d.enqueue()
			if len(s.ready.healthy) == 0 {
				return j
			}
			d = s.ready.nextHealthy()
			d.leaveLine()
			continue
		}
		from := len(j.items)
		j.items = d.lane.Take(j.items, cfg.BatchMessages-from, cfg.BatchBytes-size)
		for _, item := range j.items[from:] {
			size += item.Size
		}
		j.spans = append(j.spans, span{destination: d, from: from, to: len(j.items)})
		if j.suspect || len(s.ready.healthy) == 0 || len(j.items) >= cfg.BatchMessages || size >= cfg.BatchBytes {
			return j
		}
		d = s.ready.nextHealthy()
		d.leaveLine()
	}
}

func (s *sinkLane) spareJob() *job {
	if n := len(s.spare); n > 0 {
		j := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return j
	}
	return &job{kind: jobPublish, sink: s}
}

// reuse keeps a publish's memory for the next one.
func (s *sinkLane) reuse(j *job) {
	if j.kind != jobPublish {
		return
	}
	clear(j.items)
	clear(j.errs)
	clear(j.spans)
	*j = job{kind: jobPublish, sink: s, items: j.items[:0], errs: j.errs[:0], spans: j.spans[:0]}
	s.spare = append(s.spare, j)
}
