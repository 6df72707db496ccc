package relay

import (
	"context"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
)

// turn is what became of rows while the table lane had its turn at a destination. All of them were loaded at once, so that they are no more than a tail is
// read deep. They are published in batches, one after the other; what has landed is settled while the next batch is published.
type turn struct {
	landed    int         // how many
	unsettled []event.Ref // those that no task settles yet
	refused   []park.Row  // and what becomes of them
	reached   park.Cursor // behind the last of them
	began     time.Time
	ended     bool  // nothing more is published
	tasks     int   // that settle, under way
	err       error // why the rows that are left were not attempted, or are of unknown fate; nil: there are none, or the turn ended between two batches
}

// The rest of the rows, behind a batch or a refusal, is published at once, in the same turn: behind so many refusals at most, and for so long, as others wait for a
// publisher meanwhile.
const (
	refusalsAtOnce = 64
	turnMost       = 250 * time.Millisecond
)

// lentPublished goes on with the turn behind a batch, or behind an event that was refused, or ends it: nothing else is published at the destination until
// what came of it is durable.
func (c *core) lentPublished(j *job) {
	d := j.spans[0].destination
	w := &d.table
	landed, err := prefix(j.errs)
	c.count(d, resultDelivered, j.items[:landed]...)
	w.turn.landed += landed
	w.turn.unsettled = append(w.turn.unsettled, refsOf(w.rows[:landed])...)
	if landed > 0 {
		w.turn.reached = w.rows[landed-1].Cursor()
		d.letGo, d.known = false, j.frontier
	}
	rest := w.rows[landed:]
	goesOn := len(rest) > 0
	if err != nil {
		w.turn.err, goesOn = err, false
		if blames(err) {
			c.count(d, resultRejected, j.items[landed])
			w.turn.reached = rest[0].Cursor()
			c.refuse(&rest[0], err)
			w.turn.refused = append(w.turn.refused, rest[0])
			rest, goesOn = w.turn.passOver(rest[1:])
			goesOn = goesOn && isRejected(err) && sink.FateKnown(err)
		}
	}
	w.rows = append(w.rows[:0], rest...)
	if goesOn && !j.suspect && !d.blocked() && !c.draining && len(w.turn.refused) < refusalsAtOnce && time.Since(w.turn.began) < turnMost {
		w.turn.err = nil
		if len(rest) > 0 {
			d.sink.publishLent(c.cfg, d)
			if c.settlesApart(w.turn.unsettled) && c.pollers.free() {
				c.settleLent(d, w.turn.unsettled, nil)
				w.turn.unsettled = nil
			}
			return
		}
	}
	c.endTurn(d)
}

// passOver leaves out what waits behind the event that was refused last. Where it is dead and later events of its key may pass it, the turn goes on only
// without those: that it is dead has to be durable before they are published.
func (t *turn) passOver(rows []park.Row) (rest []park.Row, goesOn bool) {
	last := &t.refused[len(t.refused)-1]
	ofItsKey := func(r park.Row) bool { return r.Key == last.Key }
	if last.State == park.Dead && !last.Blocks {
		return rows, !slices.ContainsFunc(rows, ofItsKey)
	}
	return slices.DeleteFunc(rows, ofItsKey), true
}

// blames tells whether an error counts as a refusal of the event itself. What is wrong with the destination costs no attempt, and what
// may have landed is decided by the tail.
func blames(err error) bool {
	return isRejected(err) || sink.ClassOf(err) == sink.Retry && sink.FateKnown(err)
}

// endTurn writes what came of the turn and is not written yet. Where much has landed and a clerk is free, two statements share it: one alone keeps a
// single core of the server busy.
func (c *core) endTurn(d *destination) {
	t := &d.table.turn
	t.ended = true
	var failures []park.Failure
	for _, f := range t.refused {
		failures = append(failures, park.Failure{Ref: f.Ref(), Attempts: f.Attempts, Due: f.Due, Reason: f.Reason, State: f.State, Blocks: f.Blocks})
	}
	refs := t.unsettled
	t.unsettled = nil
	if c.settlesApart(refs) && c.pollers.spare() > 1 {
		half := len(refs) / 2
		c.settleLent(d, refs[:half], nil)
		refs = refs[half:]
	}
	switch {
	case len(refs)+len(failures) > 0:
		c.settleLent(d, refs, failures)
	case t.tasks == 0:
		c.lentSettled(d)
	}
}

// settlesApart tells whether there are enough refs for a statement, and its wait for the disk, of their own: at least two, because endTurn halves them.
func (c *core) settlesApart(refs []event.Ref) bool { return len(refs) > max(1, c.cfg.largestBatch/4) }

// settleLent settles events of the turn that have landed, then writes failed attempts.
func (c *core) settleLent(d *destination, refs []event.Ref, failures []park.Failure) {
	t := &d.table.turn
	at, passed := d.place(), c.passed()
	t.tasks++
	c.pollers.giveFirst(&task{
		name: "settle parked events", statement: statementDeliver, at: at,
		run: func(ctx context.Context, s store) error {
			if len(refs) > 0 {
				if err := c.deliver(ctx, s, at, passed, refs); err != nil {
					return err
				}
				refs = nil // a second try of the task comes here for what follows
			}
			if len(failures) == 0 {
				return nil
			}
			return s.fail(ctx, at, failures)
		},
		then: func() {
			c.unfinished = true
			if c.passed().After(passed) {
				c.finishDue = true // the statement knew an older checkpoint, and the next one may be long in coming
			}
			if t.tasks--; t.tasks == 0 && t.ended {
				c.lentSettled(d)
			}
		},
	})
}

// deliver settles what has landed. An outbox row that the application holds locked is marked later, and one that the table refuses to have marked is found then.
func (c *core) deliver(ctx context.Context, s store, at park.Destination, passed event.Position, refs []event.Ref) error {
	err := s.deliver(ctx, at, passed, refs)
	refused := outbox.Refused(err)
	if refused {
		c.warnRefused(err, len(refs), []byte(refs[0].ID)) // one of them at least
	}
	if refused || outbox.Retryable(err) {
		return s.settleParked(ctx, at, refs)
	}
	return err
}

// lentSettled ends the table lane's turn at the destination.
func (c *core) lentSettled(d *destination) {
	w := &d.table
	err := w.turn.err
	c.facts.parkedSince.Add(-int64(w.turn.landed))
	for i := range w.turn.refused {
		f := &w.turn.refused[i]
		c.mirror(f)
		if f.State == park.Dead {
			c.facts.parkedSince.Add(-1)
			c.logDead(f)
		}
	}
	if w.scan {
		c.scanSettled(d)
	} else {
		c.keysSettled(d)
	}
	w.rows, w.turn, w.busy = nil, turn{}, false // of many destinations, what was delivered would take more memory than all that waits
	c.tableDue = time.Time{}
	d.lane.Return(err == nil || sink.FateKnown(err))
	d.tableLast = true
	readAgain := d.readAgain(err)
	switch {
	case err == nil, isRejected(err):
		c.succeed(&d.failure)
	case readAgain:
	default:
		c.failedAt(d, err)
	}
	d.enqueue()
}

// keysSettled lets each key of the turn go on, wait, or leave.
func (c *core) keysSettled(d *destination) {
	w, now := &d.table, micros(time.Now())
	for i := range w.turn.refused {
		f := &w.turn.refused[i]
		if _, ours := w.keys[f.Key]; ours { // else it is cut
			delete(w.keys, f.Key)
			c.keyRefused(d, f)
		}
	}
	for _, row := range w.rows {
		if _, ours := w.keys[row.Key]; !ours {
			continue // cut, or seen
		}
		delete(w.keys, row.Key)
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
func (c *core) scanSettled(d *destination) {
	w := &d.table
	for i := range w.turn.refused {
		if f := &w.turn.refused[i]; f.State == park.Waiting || f.Blocks {
			c.metInScan(d, f)
		}
	}
	switch {
	case w.turn.err == nil && len(w.rows) == 0:
		if w.advance(w.next) && d.lane.Keys.ScanEnded() {
			c.drainedAt(d)
		}
	case w.turn.landed+len(w.turn.refused) > 0:
		w.advance(w.turn.reached)
	}
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
			return mirrored(err, log)
		},
	})
}

// mirrored is err, unless it says that the table refuses what a mirror writes: nothing more is mirrored then, and nothing else depends on it.
func mirrored(err error, log zerolog.Logger) error {
	if !outbox.Refused(err) {
		return err
	}
	log.Warn().Err(err).Msg("the outbox table refuses to show what becomes of events; their rows stay as they are until they are delivered")
	return nil
}
