package relay

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
)

// restored is what is parked when a session begins.
type restored struct {
	at    map[park.Destination]park.Summary
	keys  map[park.Destination][]park.WaitingKey
	whole bool // there are too many keys: all wait, and keys holds only those that a scan has to pass over

	strays map[string]bool // ids of events without a destination above the checkpoint
}

// restore reads what is parked. It comes after the term was raised, so that nothing of the session before comes later.
func restore(ctx context.Context, s store, checkpoint event.Position, limit int) (r restored, err error) {
	strays, err := s.straysAbove(ctx, checkpoint)
	if err != nil {
		return r, err
	}
	r.strays = make(map[string]bool, len(strays))
	for _, id := range strays {
		r.strays[id] = true
	}
	summaries, err := s.summaries(ctx)
	if err != nil {
		return r, err
	}
	r.at = make(map[park.Destination]park.Summary, len(summaries))
	for _, one := range summaries {
		r.at[one.Destination] = one
	}
	return r, r.restoreKeys(ctx, s, limit)
}

// restoreKeys reads which keys wait. When there are too many to remember, every key of a destination with parked events waits until a scan has
// delivered them; the scan passes over the keys that dead rows hold back, and those are looked at one by one.
func (r *restored) restoreKeys(ctx context.Context, s store, limit int) error {
	r.keys = make(map[park.Destination][]park.WaitingKey)
	add := func(k park.WaitingKey) { r.keys[k.Destination] = append(r.keys[k.Destination], k) }
	err := s.keys(ctx, limit, add)
	if !errors.Is(err, park.ErrTooMany) {
		return err
	}
	clear(r.keys)
	r.whole = true
	return s.blockedKeys(ctx, limit, func(k park.WaitingKey) {
		k.Blocked = false // rows before the dead one may wait: the first load of the key tells
		add(k)
	})
}

// restoreWaiting gives a new destination what waits there since before the session, or since the target was assumed.
func (c *core) restoreWaiting(d *destination) {
	s, ok := c.parkedAt[d.place()]
	if !ok || s.Waiting+s.Dead == 0 {
		return
	}
	if s.MayHaveLanded {
		d.mayHaveLanded(s.LandedAfter)
	}
	if c.allWait {
		c.holdAll(d)
	}
	d.addKeys(c.keysAt[d.place()])
	delete(c.keysAt, d.place())
	c.waitsAt(d)
}

// addKeys notes which keys have rows.
func (d *destination) addKeys(keys []park.WaitingKey) {
	for _, k := range keys {
		due := micros(k.Due)
		if k.Blocked {
			due = lane.Never
		}
		d.lane.Keys.Add(k.Key, due)
	}
}

// wakeParked makes the destinations at which something has waited, or held back what comes, since before the session. Those of a sink that is not
// configured any more keep their events.
func (c *core) wakeParked() {
	for at, s := range c.parkedAt {
		if s.Waiting == 0 && len(c.keysAt[at]) == 0 || at.Sink == "" { // neither waits nor holds back
			continue
		}
		if _, known := c.sinks[at.Sink]; !known {
			if s.Waiting == 0 {
				continue
			}
			c.cfg.Log.Error().Str("sink", at.Sink).Str("destination", at.Name).Int("events", s.Waiting).
				Msg("events are parked for a sink that is not configured: configure it again, or outboxd events skip")
			continue
		}
		t := c.target(route.Destination{Sink: at.Sink, Name: s.Target})
		t.parkedUnder(at.Name)
		if t.partitions == nil && !t.resolving {
			t.resolving = true
			t.resolve()
		}
	}
	if c.parkedAt[park.Destination{}].Waiting > 0 {
		c.reroute()
	}
}

// parkedUnder notes that events of the target wait under the name.
func (t *target) parkedUnder(name string) {
	if !slices.Contains(t.parked, name) {
		t.parked = append(t.parked, name)
	}
}

// homeless returns the names under which events wait and that are none of the partitions: the target's own, where those could not be asked
// for, and partitions that it had.
func (t *target) homeless(partitions []string) []string {
	return slices.DeleteFunc(slices.Clone(t.parked), func(name string) bool { return slices.Contains(partitions, name) })
}

// unassume goes on with a target whose partitions could not be asked for before.
func (c *core) unassume(t *target, names []string) {
	t.parkedUnder(t.name)
	from := t.homeless(names)
	if len(from) == 0 {
		t.assumed, t.resolving = false, false
		c.goOn(t.partitions[0])
		return
	}
	d := t.partitions[0]
	if d.lane.State() == lane.Parking {
		t.failure.retryAt = time.Now().Add(c.cfg.RetryBase)
		c.failing[&t.failure] = struct{}{}
		return
	}
	t.sink.pull(d)
	// What is in the queue goes to its partition, behind what is parked.
	for d.lane.Len() > 0 {
		t.waiting = append(t.waiting, d.lane.Shift().Value)
	}
	delete(c.waiting, d)
	delete(c.unsure.held, d)
	t.partitions, t.assumed = nil, false
	c.rehome(t, from, names)
}

// rehome gives the events that wait under other names to the target's partitions, each name's in position order. Events that come meanwhile
// wait in memory.
func (c *core) rehome(t *target, from, names []string) {
	t.rehoming, t.parked = true, nil
	sinkName, partitioner := t.sink.name, t.sink.partitioner
	var blocked []park.WaitingKey
	c.pollers.give(&task{
		name: "give parked events to their partitions", statement: statementMove,
		run: func(ctx context.Context, s store) error {
			for _, name := range from {
				keys, err := moveAll(ctx, s, park.Destination{Sink: sinkName, Name: name}, names, partitioner.Partition)
				if blocked = append(blocked, keys...); err != nil {
					return err
				}
			}
			return nil
		},
		then:  func() { c.rehomed(t, from, names, blocked) },
		limit: longTask,
	})
}

// moveAll gives what waits at a destination to the partitions that the keys choose, and before that the dead events that hold some of it back.
// It returns the keys of those.
func moveAll(
	ctx context.Context, s store, from park.Destination, names []string, partition func([]byte, int) int,
) (blocked []park.WaitingKey, err error) {
	for {
		rows, err := s.blocking(ctx, from, parkMost, parkBytes)
		if err != nil {
			return blocked, err
		}
		if len(rows) == 0 {
			break
		}
		if err := place(ctx, s, from, rows, names, partition); err != nil {
			return blocked, err
		}
		for i := range rows {
			blocked = append(blocked, park.WaitingKey{Destination: rows[i].Destination, Key: rows[i].Key})
		}
	}
	for end := false; !end; {
		var rows []park.Row
		if rows, end, err = s.loadAfter(ctx, from, park.Cursor{}, parkMost, parkBytes); err != nil {
			return blocked, err
		}
		if err := place(ctx, s, from, rows, names, partition); err != nil {
			return blocked, err
		}
	}
	return blocked, nil
}

// place moves rows to the partitions that their keys choose.
func place(ctx context.Context, s store, from park.Destination, rows []park.Row, names []string, partition func([]byte, int) int) error {
	for i := range rows {
		rows[i].Destination.Name = names[partition(rows[i].Event.AppendKey(nil), len(names))]
	}
	return s.move(ctx, from, rows)
}

func refsOf(rows []park.Row) []event.Ref {
	refs := make([]event.Ref, len(rows))
	for i := range rows {
		refs[i] = rows[i].Ref()
	}
	return refs
}

func (c *core) rehomed(t *target, from, names []string, blocked []park.WaitingKey) {
	t.rehoming = false
	c.split(t, names)
	for _, k := range blocked {
		t.find(k.Destination.Name).lane.Keys.Add(k.Key, 0) // rows before the dead one may wait: the first load of the key tells
	}
	for _, d := range t.partitions {
		for _, name := range from {
			if s := c.parkedAt[park.Destination{Sink: t.sink.name, Name: name}]; s.MayHaveLanded {
				d.mayHaveLanded(s.LandedAfter)
			}
		}
		d.mayHaveLanded(c.start) // it could not be asked when the session began
		c.holdAll(d)
	}
	c.pushWaiting(t)
	for _, d := range t.partitions {
		d.enqueue()
	}
	if len(t.parked) > 0 { // more has come to wait under such names meanwhile
		t.parked = nil
		c.nudged()
	}
}
