package relay

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
)

// nudged looks again at what is parked: a person's command has retried, skipped or replayed events. However many commands there are, one
// look is under way, and one more follows where it may have missed something.
func (c *core) nudged() {
	if c.draining || !c.looking.begin() {
		return
	}
	passed, limit := c.passed(), c.cfg.Table.MaxKeys
	var fresh restored
	c.pollers.give(&task{
		name: "look at what a command has changed", statement: statementLoad,
		run: func(ctx context.Context, s store) (err error) {
			fresh, err = restore(ctx, s, passed, limit)
			return err
		},
		limit: longTask,
		then: func() {
			c.refreshed(fresh)
			if c.looking.end() {
				c.nudged()
			}
		},
	})
}

// refreshed enters what is parked into the waiting sets, and lets every key try again.
func (c *core) refreshed(fresh restored) {
	c.unfinished, c.finishDue = true, true
	now := micros(time.Now())
	for d := range c.waiting { // also where the only row was skipped
		d.lane.Keys.Rouse(now)
		if d.lane.Keys.Whole() {
			d.table.again() // what is new may stand before the cursor
		}
	}
	c.tableDue = time.Time{}
	for at, s := range fresh.at {
		if s.Waiting+s.Dead == 0 || at.Sink == "" {
			continue
		}
		if _, known := c.sinks[at.Sink]; !known {
			continue
		}
		c.refreshAt(c.target(route.Destination{Sink: at.Sink, Name: s.Target}), at, s, fresh)
	}
	if fresh.at[park.Destination{}].Waiting > 0 {
		c.reroute()
	}
}

// refreshAt does so at one destination. Where it is not known yet, it gets what is parked when it is.
func (c *core) refreshAt(t *target, at park.Destination, s park.Summary, fresh restored) {
	d := t.find(at.Name)
	if d == nil && t.partitions != nil && !t.assumed {
		if s.Waiting > 0 { // dead ones stay where they are until a person retries them
			c.spread(t, at)
		}
		return
	}
	if d == nil {
		c.parkedAt[at] = s
		c.keysAt[at] = fresh.keys[at]
		c.allWait = c.allWait || fresh.whole
		t.parkedUnder(at.Name)
		if !t.assumed && !t.rehoming && !t.resolving { // else when its partitions are known
			t.resolving = true
			t.resolve()
		}
		return
	}
	whole := d.lane.Keys.Whole() || fresh.whole
	if whole {
		c.holdAll(d)
	}
	if !whole || fresh.whole {
		d.addKeys(fresh.keys[at])
	}
	c.waitsAt(d)
	d.enqueue()
}

func (t *target) find(name string) *destination {
	i := slices.IndexFunc(t.partitions, func(d *destination) bool { return d.name == name })
	if i < 0 {
		return nil
	}
	return t.partitions[i]
}

// spread gives events that were parked under another name of the target, such as its own, to its partitions. One at a time does: the look that
// follows finds what else there is. Two would load the same events, and the second could park again what is delivered and removed by then.
func (c *core) spread(t *target, from park.Destination) {
	if t.spreading {
		return
	}
	t.spreading = true
	partitioner := t.sink.partitioner
	names := make([]string, len(t.partitions))
	for i, d := range t.partitions {
		names[i] = d.name
	}
	c.pollers.give(&task{
		name: "give parked events to their partitions", statement: statementMove,
		run: func(ctx context.Context, s store) error {
			_, err := moveAll(ctx, s, from, names, partitioner.Partition)
			return err
		},
		then: func() {
			t.spreading = false
			c.nudged()
		},
		limit: longTask,
	})
}

// enter notes a row that was parked beside the log lane.
func (c *core) enter(row *park.Row) {
	at := row.Destination
	t := c.target(route.Destination{Sink: at.Sink, Name: row.Target})
	d := t.find(at.Name)
	if d == nil {
		s := c.parkedAt[at]
		s.Destination, s.Target = at, row.Target
		s.Waiting++
		keys := append(c.keysAt[at], park.WaitingKey{Destination: at, Key: row.Key, Due: row.Due})
		c.refreshAt(t, at, s, restored{keys: map[park.Destination][]park.WaitingKey{at: keys}})
		return
	}
	if d.lane.Keys.Whole() {
		d.table.again()
	}
	d.lane.Keys.Parked(row.Key, micros(row.Due))
	c.waitsAt(d)
	d.enqueue()
}

// rerouteMost is how many events one reroute takes; a person who retries more of them does it in several steps.
const rerouteMost = 1000

// reroute gives events that had no destination, and that a person has retried, to those that they have now. One at a time, and one more after
// it where it was asked for meanwhile: two would load the same events, and the second could park again what is delivered and removed by then.
func (c *core) reroute() {
	if !c.rerouting.begin() {
		return
	}
	var strays []park.Row
	c.pollers.give(&task{
		name: "load events without a destination", statement: statementLoad,
		run: func(ctx context.Context, s store) (err error) {
			strays, _, err = s.loadAfter(ctx, park.Destination{}, park.Cursor{}, rerouteMost, parkBytes)
			return err
		},
		then: func() { c.rerouted(strays) },
	})
}

// errMayHaveLanded says that events came to wait where they may have landed before: the tail has to be read back before anything is published there.
var errMayHaveLanded = errors.New("an event that may have landed already was given its destination")

func (c *core) rerouted(strays []park.Row) {
	if len(strays) == 0 {
		c.reroutedAll()
		return
	}
	var rows []park.Row
	var done []park.Row
	var failures []park.Failure
	passed := c.passed()
	for _, s := range strays {
		if !s.Event.Position.IsZero() && s.Replay == 0 && s.Event.Position.After(passed) {
			c.rerouteDue = true // events before it may still be in the log alone
			continue
		}
		found, err := c.cfg.Router.Route(&s.Event)
		if err != nil && (!errors.Is(err, route.ErrUnrouted) || !c.cfg.DropUnrouted) {
			failures = append(failures, park.Failure{Ref: s.Ref(), Attempts: s.Attempts + 1, Reason: err.Error(), State: park.Dead})
			continue
		}
		done = append(done, s)
		for _, to := range found {
			row := s
			row.Destination, row.Target = park.Destination{Sink: to.Sink, Name: to.Name}, to.Name
			row.State, row.Attempts, row.Due, row.ParkedAt = park.Waiting, 0, time.Time{}, time.Time{}
			rows = append(rows, row)
		}
	}
	c.pollers.give(&task{
		name: "give events a destination", statement: statementMove,
		run: func(ctx context.Context, s store) error {
			if err := s.insert(ctx, rows); err != nil {
				return err
			}
			if err := s.settleParked(ctx, park.Destination{}, refsOf(done)); err != nil {
				return err
			}
			return s.fail(ctx, park.Destination{}, failures)
		},
		then: func() {
			if slices.ContainsFunc(rows, func(r park.Row) bool { return !r.LandedAfter.IsZero() }) {
				c.halt(errMayHaveLanded) // the next session reads what is parked, and then the tails
				return
			}
			c.entered(rows)
			c.rerouting.again = c.rerouting.again || len(strays) == rerouteMost && !c.rerouteDue
			c.reroutedAll()
		},
	})
}

// reroutedAll ends a reroute.
func (c *core) reroutedAll() {
	if c.rerouting.end() {
		c.reroute()
	}
}
