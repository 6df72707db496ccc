package relay

import (
	"context"
	"slices"
	"time"

	"github.com/outboxd/outboxd/lane"
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
		if d.lane.State() != lane.Lent {
			d.sink.pull(d) // it may stand in line with what was loaded
			c.discard(d)
			d.enqueue()
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
	c.goOn(d)
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
	c.goOn(d)
}
