package relay

import "github.com/outboxd/outboxd/lane"

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
