package relay

import (
	"context"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
)

// outcome is how a batch of the table lane ended: the first so many rows have landed, then the first failed.
type outcome struct {
	landed int
	err    error // nil: all have landed
	known  bool  // nothing of the rest has landed
	failed *park.Row
}

// lentPublished settles a batch of the table lane: nothing else is published at the destination until that is durable.
func (c *core) lentPublished(j *job) {
	d := j.spans[0].destination
	o := outcome{known: true}
	for o.landed < len(j.errs) && j.errs[o.landed] == nil {
		o.landed++
	}
	if o.landed < len(j.errs) {
		o.err = j.errs[o.landed]
		o.known = fateKnown(o.err)
	}
	c.count(d, resultDelivered, j.items[:o.landed]...)
	rows := d.table.rows
	if o.err != nil && blames(o.err) {
		failed := rows[o.landed]
		c.refuse(&failed, o.err)
		o.failed = &failed
		c.count(d, resultRejected, j.items[o.landed])
	}
	if o.landed == 0 && o.failed == nil {
		c.lentSettled(d, &o)
		return
	}
	c.pollers.giveFirst(c.settleLent(d, rows[:o.landed], &o))
}

// blames tells whether an error counts as a refusal of the event itself. What is wrong with the destination costs no attempt, and what
// may have landed is decided by the tail.
func blames(err error) bool {
	return isRejected(err) || sink.ClassOf(err) == sink.Retry && fateKnown(err)
}

// settleLent makes the task that writes what came of a batch.
func (c *core) settleLent(d *destination, landed []park.Row, o *outcome) *task {
	refs := refsOf(landed)
	var failures []park.Failure
	if f := o.failed; f != nil {
		failures = []park.Failure{{Ref: f.Ref(), Attempts: f.Attempts, Due: f.Due, Reason: f.Reason, State: f.State, Blocks: f.Blocks}}
	}
	at, passed := d.place(), c.passed()
	return &task{
		name: "settle parked events", statement: statementDeliver, at: at,
		run: func(ctx context.Context, s store) error {
			if len(refs) > 0 {
				if err := deliver(ctx, s, at, passed, refs); err != nil {
					return err
				}
				refs = nil // a second try of the task comes here for what follows
			}
			if len(failures) == 0 {
				return nil
			}
			return s.fail(ctx, at, failures)
		},
		then: func() { c.lentSettled(d, o) },
	}
}

// deliver settles what has landed. An outbox row that the application holds locked is marked later.
func deliver(ctx context.Context, s store, at park.Destination, passed event.Position, refs []event.Ref) error {
	err := s.deliver(ctx, at, passed, refs)
	if err != nil && outbox.Retryable(err) {
		return s.settleParked(ctx, at, refs)
	}
	return err
}

// lentSettled ends the table lane's turn at the destination.
func (c *core) lentSettled(d *destination, o *outcome) {
	c.unfinished = true
	c.facts.parkedSince.Add(-int64(o.landed))
	if o.failed != nil {
		c.mirror(o.failed)
		if o.failed.State == park.Dead {
			c.facts.parkedSince.Add(-1)
			c.logDead(o.failed)
		}
	}
	if d.table.scan {
		c.scanSettled(d, o)
	} else {
		c.keysSettled(d, o)
	}
	d.table.rows, d.table.busy = d.table.rows[:0], false
	c.tableDue = time.Time{}
	d.lane.Return(o.known || o.err == nil)
	d.tableLast = true
	switch {
	case o.err == nil, isRejected(o.err):
		c.succeed(&d.failure)
	default:
		c.failedAt(d, o.err)
	}
	d.enqueue()
}

// keysSettled lets each key of the batch go on, wait, or leave.
func (c *core) keysSettled(d *destination, o *outcome) {
	w, now := &d.table, micros(time.Now())
	for i, row := range w.rows[o.landed:] {
		if _, ours := w.keys[row.Key]; !ours {
			continue // cut, or seen
		}
		delete(w.keys, row.Key)
		if i == 0 && o.failed != nil {
			c.keyRefused(d, o.failed)
			continue
		}
		d.lane.Keys.Settled(row.Key, false, now)
	}
	for key, exhausted := range w.keys {
		d.lane.Keys.Settled(key, exhausted, now)
	}
}

// keyRefused lets the key of a refused row wait as the row says.
func (c *core) keyRefused(d *destination, row *park.Row) {
	switch {
	case row.State == park.Waiting:
		d.lane.Keys.Refused(row.Key, micros(row.Due))
	case row.Blocks:
		d.lane.Keys.Refused(row.Key, lane.Never)
	default:
		d.lane.Keys.Settled(row.Key, false, micros(time.Now()))
	}
}

// scanSettled moves the scan on behind what has landed or was refused.
func (c *core) scanSettled(d *destination, o *outcome) {
	w := &d.table
	if o.err == nil {
		if w.advance(w.next) && d.lane.Keys.ScanEnded() {
			c.drainedAt(d)
		}
		return
	}
	f := o.failed
	if f == nil {
		if o.landed > 0 {
			w.advance(w.passed[o.landed-1])
		}
		return
	}
	if f.State == park.Waiting || f.Blocks {
		c.metInScan(d, f)
	}
	w.advance(w.passed[o.landed])
}

// mirror shows on the outbox row what became of a refused event. It holds nothing up, and the sweep repairs what it misses.
func (c *core) mirror(row *park.Row) {
	m := outbox.Mirror{
		ID: string(row.Event.ID), Status: c.cfg.Outbox.Statuses.Failed, RetryCount: row.Attempts, RetryAfter: row.Due, Message: row.Reason,
	}
	if row.State == park.Dead {
		m.Status, m.RetryAfter = c.cfg.Outbox.Statuses.Dead, time.Time{}
	}
	c.mirrors = append(c.mirrors, m)
}

// dispatchMirrors writes the mirrors that have gathered.
func (c *core) dispatchMirrors() {
	if len(c.mirrors) == 0 || !c.pollers.free() {
		return
	}
	mirrors, log := c.mirrors, c.cfg.Log
	c.mirrors = nil
	c.pollers.give(&task{
		name: "mirror states on outbox rows", statement: statementMirror,
		run: func(ctx context.Context, s store) error {
			err := s.mirror(ctx, mirrors)
			if err != nil && outbox.Retryable(err) {
				log.Debug().Err(err).Msg("mirroring states on outbox rows is left to the sweep")
				return nil
			}
			return err
		},
	})
}
