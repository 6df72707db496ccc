package relay

import (
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
)

// failure is what goes wrong at a destination, and when to try again.
type failure struct {
	sink   string
	name   string // the destination's
	target string // of the destination; empty for a target's own failure

	destination *destination // nil for a target's own failure

	err      error
	since    time.Time
	attempts int
	retryAt  time.Time
	backoff  *backoff.ExponentialBackOff
	slow     bool   // its last call took long
	open     bool   // nothing is tried but a probe, until one succeeds
	retry    func() // puts the work back where it is dispatched from
}

// target is what a route's destination stands for: one destination, or one per partition.
type target struct {
	sink       *sinkLane
	name       string
	partitions []*destination // none until they are known
	resolving  bool
	asked      bool     // a resolve is in line or in flight
	rehoming   bool     // what was parked under other names is given to its partitions, before those are used
	spreading  bool     // ... while they are
	recording  bool     // ... while their number is written, which is not on record
	assumed    bool     // the partitions could not be asked for: all is parked under the target's own name
	parked     []string // names under which events of it wait; some may be none of its partitions
	waiting    []*entry // events that came before the partitions were known
	failure    failure

	repartitioned bool // other sessions may have given events to another number of partitions
}

// newTarget makes the target of a name. Where the sink has no partitions, it has its destination at once.
func (c *core) newTarget(s *sinkLane, name string) *target {
	t := &target{sink: s, name: name}
	t.failure = failure{sink: s.name, name: name}
	t.failure.retry = func() {
		if t.failure.open {
			c.probe(s, &t.failure)
			return
		}
		t.resolve()
	}
	if s.partitioner == nil {
		c.split(t, []string{name})
	}
	return t
}

// split makes the destinations of the target's partitions.
func (c *core) split(t *target, names []string) {
	t.resolving = false
	t.partitions = make([]*destination, len(names))
	for i, name := range names {
		t.partitions[i] = c.newDestination(t, name)
	}
}

func (c *core) newDestination(t *target, name string) *destination {
	d := &destination{sink: t.sink, target: t, name: name}
	d.failure = failure{sink: t.sink.name, name: name, target: t.name, destination: d}
	d.failure.retry = func() { c.retry(d) }
	frontier, doubtful := c.start, c.inDoubt(t)
	for _, parked := range []string{name, t.name} { // under its own name all partitions' events were parked
		if known, ok := c.parkedAt[park.Destination{Sink: t.sink.name, Name: parked}]; ok && known.Highest.After(frontier) && !doubtful {
			frontier = known.Highest
		}
	}
	d.lane = lane.New(frontier, c.epochs.newest(), c.keyOf)
	c.restoreWaiting(d)
	if doubtful {
		c.hold(d)
	}
	if t.sink.spilling {
		c.holdAll(d)
	}
	return d
}

// idle tells whether nothing of the target waits, is in flight or fails.
func (t *target) idle() bool {
	for _, d := range t.partitions {
		if d.lane.Len() > 0 || d.queued || d.failure.attempts > 0 || d.lane.State() == lane.Reading || d.table.busy || d.held || !d.lane.Keys.Empty() {
			return false
		}
	}
	return t.partitions != nil && !t.assumed
}

// push queues the event at its destination, or disposes of it where it has been already.
func (t *target) push(c *core, e *entry) {
	if t.partitions == nil {
		t.waiting = append(t.waiting, e)
		if !t.resolving {
			t.resolving = true
			t.resolve()
		}
		return
	}
	d := t.partitions[0]
	if n := len(t.partitions); n > 1 {
		c.keyBuf = e.event.AppendKey(c.keyBuf[:0])
		d = t.partitions[t.sink.partitioner.Partition(c.keyBuf, n)]
	}
	item := lane.Item[*entry]{Position: e.event.Position, Size: e.event.Size(), Value: e}
	if !d.lane.Push(item) {
		c.count(d, resultFound, item)
		c.disposed(e)
		return
	}
	d.enqueue()
}

func (t *target) resolve() {
	if !t.asked {
		t.asked = true
		t.sink.unresolved.push(t, t.failure.slow)
	}
}

// destination is one place with an order of its own: a stream, a topic, a partition.
type destination struct {
	sink    *sinkLane
	target  *target
	name    string
	lane    *lane.Destination[*entry]
	failure failure
	queued  bool          // it stands in one of the sink's lists
	since   time.Time     // when there was something to do here again; zero while there is nothing
	lined   time.Time     // when it got in line
	waited  time.Duration // in line since then, before its turns

	refused   *refusal  // why the event at the head of the queue is to be parked
	table     tableWork // what the table lane does here
	tableLast bool      // the table lane had the last turn
	letGo     bool      // the sink did not know the destination's end when it was last asked to publish here

	held        bool           // events are in doubt here, and all are parked before anything else
	doubt       bool           // parked events may have landed here
	landedAfter event.Position // ... behind this position
	known       event.Position // how far the tail spoke when this session last read it, or published; what others append behind it speaks of later positions
}

// mayHaveLanded notes that parked events may have landed behind the position: the next tail is read back to it.
func (d *destination) mayHaveLanded(after event.Position) {
	if !d.doubt || d.landedAfter.After(after) {
		d.landedAfter = after
	}
	d.doubt = true
}

// cause is why nothing is delivered here; nil when it is not known.
func (d *destination) cause() error {
	switch {
	case d.failure.err != nil:
		return d.failure.err
	case d.sink.down != nil:
		return d.sink.down.err
	case d.target.assumed:
		return d.target.failure.err
	default:
		return nil
	}
}

// blocked tells whether nothing is attempted at the destination for now.
func (d *destination) blocked() bool {
	return d.failure.waits() || d.failure.open || d.sink.down != nil
}

// suspect tells whether the destination failed last time.
func (d *destination) suspect() bool { return d.failure.attempts > 0 }

// enqueue puts the destination in line for what it needs next, if it needs anything and may have it.
func (d *destination) enqueue() {
	if d.queued {
		return
	}
	state, queued := d.lane.State(), d.lane.Queued() > 0
	switch {
	case d.blocked(), d.target.assumed, d.held: // nothing but being parked
		if state != lane.Ready && state != lane.Unread || !queued || !d.lane.Keys.Whole() {
			return
		}
		d.sink.parks = append(d.sink.parks, d)
	case state == lane.Unread && (queued || d.table.loaded):
		d.sink.unread.push(d, d.suspect())
	case state != lane.Ready:
		return
	case d.table.loaded && (!d.tableLast || !queued):
		d.sink.lent.push(d, d.suspect())
	case queued && d.lane.HeadWaits():
		if d.waitsBriefly() {
			if !d.table.loaded {
				return
			}
			d.sink.lent.push(d, d.suspect())
			break
		}
		d.sink.parks = append(d.sink.parks, d)
	case queued:
		d.sink.ready.push(d, d.suspect())
	default:
		d.since, d.waited = time.Time{}, 0
		return
	}
	d.lineUp()
}

// lineUp notes that the destination stands in a line from now on.
func (d *destination) lineUp() {
	d.queued, d.lined = true, time.Now()
	if d.since.IsZero() {
		d.since = d.lined
	}
}

// mostlyInLine tells whether it has stood in line for more than half of the time since there was something to do.
func (d *destination) mostlyInLine(now time.Time) bool {
	waited := d.waited
	if d.queued {
		waited += now.Sub(d.lined)
	}
	return waited > now.Sub(d.since)/2
}

// waitsBriefly tells whether the backlog in the table is so near its end that the log's events had better wait than be parked.
func (d *destination) waitsBriefly() bool {
	return !d.sink.draining && d.lane.Keys.Whole() && d.refused == nil && d.table.scan && d.table.end && d.lane.Queued() < waitMost
}

// waitMost is how many events may wait for the end of a backlog.
const waitMost = 1000

// waits tells whether the failure holds the destination back for now.
func (f *failure) waits() bool { return !f.retryAt.IsZero() }

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

// leaveLine notes that the destination has its turn.
func (d *destination) leaveLine() {
	d.queued = false
	d.waited += time.Since(d.lined)
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
