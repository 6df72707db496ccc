package relay

import (
	"context"
	"maps"
	"time"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
)

// unsure is what a session does not know of those before, where they ended in disorder: by which routes, and to how many partitions, they gave events behind
// the checkpoint to destinations. What a tail, or a parked event, says of the events before it holds only for those that were given to its destination
// then, too. So events up to a position are parked, and the tail tells by their ids which of them have landed.
type unsure struct {
	until  event.Position // zero: there is none
	all    bool           // at all destinations; else at those of topics whose number of partitions has changed
	passed bool           // the log was received so far
	held   map[*destination]struct{}
}

// openRouting records by which routes the session gives events to destinations, before it does, and returns what is in doubt.
func openRouting(ctx context.Context, s store, record *checkpoint.Record, routes string, at epochs) (r checkpoint.Routing, u unsure, err error) {
	before := record.Routing
	if before == nil {
		r.Routes = routes
		return r, u, s.saveRouting(ctx, &r)
	}
	end, err := s.logEnd(ctx)
	if err != nil {
		return r, u, err
	}
	u = unsure{until: event.Position{Epoch: at.at(end), Commit: end}, all: before.Mixed || before.Routes != routes, held: map[*destination]struct{}{}}
	if !u.all {
		return *before, u, nil
	}
	r = checkpoint.Routing{Routes: routes, Mixed: true}
	return r, u, s.saveRouting(ctx, &r)
}

// inDoubt tells whether what comes to the target may be in doubt.
func (c *core) inDoubt(t *target) bool {
	if c.unsure.until.IsZero() || !c.unsure.all && !t.repartitioned {
		return false
	}
	return !c.unsure.passed || len(t.waiting) > 0 && !t.waiting[0].event.Position.After(c.unsure.until)
}

// hold lets a new destination do nothing but be parked for, until all that is in doubt there is parked.
func (c *core) hold(d *destination) {
	d.held = true
	c.unsure.held[d] = struct{}{}
	d.mayHaveLanded(c.start)
	c.holdAll(d)
}

// receivedUpTo takes note of how far the log was received.
func (c *core) receivedUpTo(lsn event.LSN) {
	if !c.unsure.until.IsZero() && lsn >= c.unsure.until.Commit {
		c.unsure.passed = true
	}
}

// releaseHeld lets the destinations go on at which nothing in doubt is left to be parked.
func (c *core) releaseHeld() {
	if !c.unsure.passed {
		return
	}
	for d := range c.unsure.held {
		if d.lane.State() == lane.Parking || d.lane.Len() > 0 && !d.lane.Oldest().Position.After(c.unsure.until) {
			continue
		}
		d.held = false
		delete(c.unsure.held, d)
		d.lane.Keys.Rouse(micros(time.Now())) // what was parked may stand before a dead event that holds its key
		c.goOn(d)
	}
}

// endDoubt records the routing as it is now, when the checkpoint has passed all that is in doubt.
func (c *core) endDoubt() {
	if c.unsure.until.IsZero() || c.saved < c.unsure.until.Commit {
		return
	}
	c.unsure.until, c.routing.Mixed = event.Position{}, false
	for key, n := range c.partitions {
		if c.routing.Partitions[key] = n; n == 1 {
			delete(c.routing.Partitions, key)
		}
	}
	c.recordRouting()
}

// differentNumbers stands for the number of a target's partitions where events behind the checkpoint may have been given to different numbers of them.
const differentNumbers = 0

// recordPartitions sees to it that it is on record to how many partitions the target's events are given. done is false while that is being written; the target
// goes on when it is durable.
func (c *core) recordPartitions(t *target, names []string) (done bool) {
	key, n := t.sink.name+" "+t.name, len(names)
	known, onRecord := c.routing.Partitions[key]
	if known == n || !onRecord && n == 1 {
		return true
	}
	if onRecord {
		t.repartitioned = true
		c.partitions[key] = n
		n = differentNumbers
		if known == n {
			return true
		}
		c.cfg.Log.Info().Str("sink", t.sink.name).Str("destination", t.name).Int("partitions", len(names)).Int("before", known).
			Msg("it has other partitions: what the log holds for it is parked before it is published, as some may have landed")
	}
	if c.routing.Partitions == nil {
		c.routing.Partitions = map[string]int{}
	}
	c.routing.Partitions[key] = n
	if c.routing.Mixed {
		return true // which puts them in doubt, too
	}
	t.recording = true
	c.unrecorded = append(c.unrecorded, answered{t, names})
	c.recordRouting()
	return false
}

// answered is a target with its partitions.
type answered struct {
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

// clean tells, when a session has come to its end, whether nothing behind the checkpoint was published, by this one or one before.
func (c *core) clean() bool {
	u := &c.unsure
	return c.stopped == nil && !c.settling && c.tracker.Open() == 0 && (c.tracker.Safe() <= c.saved || !c.progress) && (u.until.IsZero() || u.passed)
}
