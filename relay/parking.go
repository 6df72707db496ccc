package relay

import (
	"context"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
)

const (
	parkMost  = 4000             // rows in one statement
	parkBytes = park.InsertBytes // but for the first destination's
)

// refusal is why the event at the head of a destination's queue was refused: it is parked with it.
type refusal struct {
	position event.Position
	err      error
}

// stray is an event that has no destination. It is parked for a person to decide.
type stray struct {
	entry *entry
	cause error
}

// parking is one statement that parks: events of one or several destinations, and strays.
type parking struct {
	rows   []park.Row
	spans  []*destination
	items  []lane.Item[*entry]
	strays []stray
	bytes  int
}

// dispatchParks parks what has to be parked, when nothing is being parked.
func (c *core) dispatchParks() {
	if !c.parker.idle() {
		return
	}
	p := &parking{}
	for _, s := range c.sinks {
		c.gatherParks(p, s)
	}
	for len(c.strays) > 0 && len(p.rows) < parkMost {
		p.strays = append(p.strays, c.strays[0])
		p.rows = append(p.rows, c.strayRow(c.strays[0]))
		c.strays = c.strays[1:]
	}
	if len(p.rows) == 0 {
		return
	}
	rows := p.rows
	c.parker.give(&task{
		name: "park events", statement: statementPark,
		run: func(ctx context.Context, s store) error {
			return s.insert(ctx, rows)
		},
		then: func() { c.parked(p) },
	})
}

// gatherParks takes from the sink's destinations in line what one statement may hold.
func (c *core) gatherParks(p *parking, s *sinkLane) {
	line := s.parks
	s.parks = nil
	for i, d := range line {
		if len(p.rows) >= parkMost || p.bytes >= parkBytes {
			s.parks = append(s.parks, line[i:]...)
			return
		}
		d.queued = false
		if d.lane.State() != lane.Ready && d.lane.State() != lane.Unread || !d.lane.HeadWaits() {
			d.enqueue()
			continue
		}
		from := len(p.items)
		var doubt bool
		p.items, doubt = d.lane.TakeParks(p.items, parkMost-len(p.rows), parkBytes)
		p.spans = append(p.spans, d)
		for _, item := range p.items[from:] {
			p.bytes += item.Size
			p.rows = append(p.rows, c.parkRow(d, item.Value, doubt))
		}
	}
}

// parkRow is the row of an event that waits for the destination.
func (c *core) parkRow(d *destination, e *entry, doubt bool) park.Row {
	row := park.Row{
		Event: e.event, Destination: d.place(), Target: d.target.name,
		Key: c.keyOf(e), State: park.Waiting, Committed: time.UnixMicro(e.commitTime), Reason: "waits behind an earlier event of its key",
	}
	if err := d.cause(); err != nil && d.lane.Keys.Whole() {
		row.Reason = "the destination fails: " + err.Error()
	}
	switch {
	case d.held:
		row.LandedAfter, row.Reason = c.start, "its route, or its topic's partitions, have changed, and it may have landed"
	case doubt:
		row.LandedAfter = d.lane.Frontier()
	}
	if r := d.refused; r != nil && r.position == e.event.Position {
		c.refuse(&row, r.err)
	}
	return row
}

// refuse notes a refusal of the event on its row: when it is tried again, or that it is dead.
func (c *core) refuse(row *park.Row, err error) {
	t := &c.cfg.Table
	row.Due = t.due(time.Now(), row.Attempts)
	row.Attempts++
	row.Reason = err.Error()
	if row.Attempts >= t.MaxAttempts || t.DeadAtOnce && sink.ClassOf(err) == sink.Rejected {
		row.State = park.Dead
		row.Blocks = c.cfg.Router.Blocks(&row.Event)
	}
}

// strayRow is the row of an event without a destination.
func (c *core) strayRow(s stray) park.Row {
	row := park.Row{
		Event: s.entry.event, Key: c.keyOf(s.entry), State: park.Dead, Reason: s.cause.Error(),
		Committed: time.UnixMicro(s.entry.commitTime),
	}
	for _, required := range []*[]byte{&row.Event.TenantID, &row.Event.Topic} {
		if *required == nil {
			*required = []byte{}
		}
	}
	return row
}

// parked takes note of what is durable in the table.
func (c *core) parked(p *parking) {
	at := 0
	for _, d := range p.spans {
		first := at
		d.lane.Parked(func(i lane.Item[*entry]) {
			c.keyParked(d, &p.rows[at])
			at++
			c.disposed(i.Value)
		})
		if r := d.refused; r != nil && !r.position.After(p.rows[at-1].Event.Position) {
			d.refused = nil
		}
		if !p.rows[first].LandedAfter.IsZero() {
			d.mayHaveLanded(p.rows[first].LandedAfter)
		}
		c.facts.parkedEvents(d.sink.name, at-first)
		d.tableLast, d.table.first = false, false // a park is a turn of the log lane
		c.goOn(d)
	}
	for i, s := range p.strays {
		c.logDead(&p.rows[at+i])
		c.disposed(s.entry)
	}
	c.facts.parkedEvents("", len(p.strays))
}

// keyParked enters a durable row into the waiting set.
func (c *core) keyParked(d *destination, row *park.Row) {
	switch {
	case row.State == park.Waiting:
		c.facts.parkedSince.Add(1)
		d.lane.Keys.Parked(row.Key, micros(row.Due))
	case row.Blocks:
		d.lane.Keys.Parked(row.Key, lane.Never)
	default:
		d.lane.Keys.Dropped(row.Key)
	}
	if row.Attempts == 0 {
		return
	}
	c.mirror(row)
	if row.State == park.Dead {
		c.logDead(row)
	}
}

func (c *core) logDead(row *park.Row) {
	c.facts.deadEvents.Inc()
	c.cfg.Log.Error().Bytes("id", row.Event.ID).Stringer("position", row.Event.Position).Bytes("tenant", row.Event.TenantID).
		Bytes("topic", row.Event.Topic).Str("sink", row.Destination.Sink).Str("destination", row.Destination.Name).
		Int("attempts", row.Attempts).Str("reason", row.Reason).
		Msg("event is dead: outboxd events retry or skip decides")
}

// keyOf returns the hash of the event's key.
func (c *core) keyOf(e *entry) uint64 {
	if e.key == 0 {
		e.key, c.keyBuf = park.KeyOf(&e.event, int(e.replay), c.keyBuf)
	}
	return e.key
}

// micros is a time as the waiting set has it; the zero time is long ago.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
