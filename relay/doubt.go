package relay

import (
	"context"
	"maps"
	"time"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
)

// doubt is what a session does not know of those before, where they ended in disorder: by which routes, and to how many partitions, they gave events behind
// the checkpoint to destinations. What a tail, or a parked event, says of the events before it holds only for those that were given to its destination
// then, too. So events up to a position are parked, and the tail tells by their ids which of them have landed.
type doubt struct {
	until  event.Position // zero: there is none
	all    bool           // at all destinations; else at those of topics whose number of partitions has changed
	passed bool           // the log was received so far
	held   map[*destination]struct{}
}

// openRouting records by which routes the session gives events to destinations, before it does, and returns what is in doubt.
func openRouting(ctx context.Context, s store, record *checkpoint.Record, routes string, at epochs) (r checkpoint.Routing, d doubt, err error) {
	before := record.Routing
	if before == nil {
		r.Routes = routes
		return r, d, s.saveRouting(ctx, &r)
	}
	end, err := s.logEnd(ctx)
	if err != nil {
		return r, d, err
	}
	d = doubt{until: event.Position{Epoch: at.at(end), Commit: end}, all: before.Mixed || before.Routes != routes, held: map[*destination]struct{}{}}
	if !d.all {
		return *before, d, nil
	}
	r = checkpoint.Routing{Routes: routes, Mixed: true}
	return r, d, s.saveRouting(ctx, &r)
}

// inDoubt tells whether what comes to the target may be in doubt.
func (c *core) inDoubt(t *target) bool {
	if c.doubt.until.IsZero() || !c.doubt.all && !t.repartitioned {
		return false
	}
	return !c.doubt.passed || len(t.waiting) > 0 && !t.waiting[0].event.Position.After(c.doubt.until)
}

// hold lets a new destination do nothing but be parked for, until all that is in doubt there is parked.
func (c *core) hold(d *destination) {
	d.held = true
	c.doubt.held[d] = struct{}{}
	d.mayHaveLanded(c.start)
	c.holdAll(d)
}

// receivedUpTo takes note of how far the log was received.
func (c *core) receivedUpTo(lsn event.LSN) {
	if !c.doubt.until.IsZero() && lsn >= c.doubt.until.Commit {
		c.doubt.passed = true
	}
}

// releaseHeld lets the destinations go on at which nothing in doubt is left to be parked.
func (c *core) releaseHeld() {
	if !c.doubt.passed {
		return
	}
	for d := range c.doubt.held {
		if d.lane.State() == lane.Parking || d.lane.Len() > 0 && !d.lane.Oldest().Position.After(c.doubt.until) {
			continue
		}
		d.held = false
		delete(c.doubt.held, d)
		d.lane.Keys.Rouse(micros(time.Now())) // what was parked may stand before a dead event that holds its key
		c.waitsAt(d)
		d.enqueue()
	}
}

// endDoubt records the routing as it is now, when the checkpoint has passed all that is in doubt.
func (c *core) endDoubt() {
	if c.doubt.until.IsZero() || c.saved < c.doubt.until.Commit {
		return
	}
	c.doubt.until, c.routing.Mixed = event.Position{}, false
	for key, n := range c.partitions {
		if c.routing.Partitions[key] = n; n == 1 {
			delete(c.routing.Partitions, key)
		}
	}
	c.recordRouting()
}

// partitionsRecorded tells whether it is on record to how many partitions the target's events are given. Else it is written, and the target goes on when that
// is durable.
func (c *core) partitionsRecorded(t *target, names []string) bool {
	key, n := t.sink.name+" "+t.name, len(names)
	known, several := c.routing.Partitions[key]
	if known == n || !several && n == 1 {
		return true
	}
	if several { // behind the checkpoint there may be events of both numbers
		t.repartitioned = true
		c.partitions[key] = n
		n = 0
	}
	if several && known == n {
		return true
	}
	if c.routing.Partitions == nil {
		c.routing.Partitions = map[string]int{}
	}
	c.routing.Partitions[key] = n
	if c.routing.Mixed {
		return true // which puts them in doubt, too
	}
	t.recording = true
	c.unrecorded = append(c.unrecorded, resolved{t, names})
	c.recordRouting()
	return false
}

// resolved is a target with its partitions.
type resolved struct {
	target *target
	names  []string
}

// recordRouting writes the routing. One statement is under way, and one more follows with what has come meanwhile.
func (c *core) recordRouting() {
	if !c.recording.begin() {
		return
	}
	r, waiting := c.routing, c.unrecorded
	r.Partitions = maps.Clone(r.Partitions)
	c.unrecorded = nil
	c.pollers.give(&task{
		name: "record how events are routed", statement: statementCheckpoint,
		run: func(ctx context.Context, s store) error { return s.saveRouting(ctx, &r) },
		then: func() {
			for _, w := range waiting {
				w.target.recording = false
				c.partitionsKnown(w.target, w.names)
			}
			if c.recording.end() {
				c.recordRouting()
			}
		},
	})
}

// clean tells whether nothing behind the checkpoint was published, at the end of a session.
func (c *core) clean() bool {
	return c.stopped == nil && c.tracker.Open() == 0 && (c.tracker.Safe() <= c.saved || !c.progress)
}
