package relay

import (
	"context"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

const (
	sweepRows  = 5000 // looked at by each part of a sweep
	againMost  = 500  // rows delivered again by one sweep
	finishMost = 2000 // events removed by one statement
	firstSweep = 2 * time.Second
)

// sweeping is what the sweep remembers from one time to the next.
type sweeping struct {
	due        time.Time
	fullDue    time.Time
	busy       bool
	mirrored   string    // id up to which mirrors were compared
	skipped    string    // ... and rows looked through that a person set to SENT
	candidates []string  // ids of rows that were NEW
	behind     event.LSN // ... and how far the log had come after that
	snapshot   string    // with on_sent: keep: taken before behind
	undone     bool      // it is told that the table undoes what settles its rows
}

// sweep looks at the outbox table for what others did to it, when that is due.
func (c *core) sweep(now time.Time) {
	w := &c.sweeping
	if w.busy || c.draining || c.swapped || now.Before(w.due) || !c.pollers.free() {
		return
	}
	w.busy = true
	round := c.newSweep(now)
	c.pollers.give(&task{
		name: "sweep the outbox table", statement: statementSweep,
		run:   round.run,
		then:  func() { c.swept(round) },
		limit: longTask, soft: true,
	})
}

// sweepWake is when the next sweep is due; zero while one is under way.
func (c *core) sweepWake() time.Time {
	if c.sweeping.busy || c.draining || c.swapped || !c.pollers.free() {
		return time.Time{}
	}
	return c.sweeping.due
}

// sweepRound is one sweep: what it is given, and what it brings.
type sweepRound struct {
	before sweeping
	began  time.Time
	keep   bool
	look   bool            // for rows that are NEW
	settle bool            // the candidates of before are below the checkpoint
	left   outbox.Snapshot // rows that it sees are left alone

	published string // what the session streams
	log       zerolog.Logger

	after   sweeping
	looked  bool         // for rows that are NEW
	again   []outbox.Row // to be delivered once more
	dropped int          // rows that a person has set to SENT
	totals  *park.Totals // nil: the sweep was given up before it had counted
}

func (c *core) newSweep(now time.Time) *sweepRound {
	w := &c.sweeping
	r := &sweepRound{before: *w, began: now, keep: c.keep, left: c.leftAlone, published: c.asTable, log: c.cfg.Log}
	r.settle = w.behind > 0 && c.tracker.Safe() >= w.behind // what was in the log then is settled, saved or not
	often := c.table.HasStatusIndex() && r.left.Low() == 0  // else all that are NEW, and left alone, may be read
	r.look = (w.behind == 0 || r.settle) && (often || !now.Before(w.fullDue))
	return r
}

func (r *sweepRound) run(ctx context.Context, s store) error {
	r.after, r.again = r.before, nil
	// What others have failed comes last: of an index that holds every row it may read the whole.
	steps := []func(context.Context, store) error{r.checkPublished, r.repair, r.settled, r.find, r.count, r.failed}
	if r.keep {
		steps = []func(context.Context, store) error{r.checkPublished, r.keepSnapshot, r.count}
	}
	for _, step := range steps {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// checkPublished ends the session where the log does not carry what is inserted into the table, before any of that counts as settled. A missing table is
// told by whatever asks for it.
func (r *sweepRound) checkPublished(ctx context.Context, s store) error {
	now, err := s.published(ctx)
	switch {
	case err != nil, now == "", now == r.published:
		return err
	case wal.SameTable(r.published, now):
		return lost(ctx, s, lostToASwap)
	default:
		return errSwapped
	}
}

// repair brings the mirrors in order, and takes rows that a person set to SENT for skipped.
func (r *sweepRound) repair(ctx context.Context, s store) (err error) {
	skipped := 0
	if r.after.skipped, skipped, err = s.skipSent(ctx, r.before.skipped, sweepRows); err != nil {
		return err
	}
	r.dropped += skipped // the sweep may be tried again
	r.after.mirrored, err = s.repairMirrors(ctx, r.before.mirrored, sweepRows)
	return mirrored(err, r.log)
}

// failed finds rows that others set to FAILED and that are due.
func (r *sweepRound) failed(ctx context.Context, s store) error {
	rows, err := s.dueFailed(ctx, r.left.Low(), againMost)
	if err != nil {
		return err
	}
	return r.deliver(ctx, s, rows)
}

// deliver takes the rows that are to be delivered again, without those that are left alone, and those that the table would not let become settled: each
// sweep would find these anew.
func (r *sweepRound) deliver(ctx context.Context, s store, rows []outbox.Row) error {
	rows = slices.DeleteFunc(rows, func(row outbox.Row) bool { return outbox.SeenBy(&r.left, row.Xmin) })
	if len(rows) == 0 {
		return nil
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = string(rows[i].Event.ID)
	}
	undone, err := s.undone(ctx, ids)
	if err != nil {
		return err
	}
	if len(undone) > 0 && !r.after.undone {
		r.after.undone = true
		r.log.Warn().Int("rows", len(undone)).Str("id", undone[0]).
			Msg("rows stay undelivered though they are settled, as by a trigger of the outbox table; they are not delivered again")
	}
	for i, id := range ids {
		if !slices.Contains(undone, id) {
			r.again = append(r.again, rows[i])
		}
	}
	return nil
}

// settled finds which of the rows that were NEW some time ago still are, though everything that was in the log then is settled: they were set back
// to NEW, or missed.
func (r *sweepRound) settled(ctx context.Context, s store) error {
	if !r.settle || len(r.before.candidates) == 0 {
		return nil
	}
	some := min(againMost, len(r.before.candidates))
	rows, err := s.stillNew(ctx, r.before.candidates[:some])
	if err != nil {
		return err
	}
	r.after.candidates = r.before.candidates[some:]
	return r.deliver(ctx, s, rows)
}

// find remembers the rows that are NEW now, and how far the log has come.
func (r *sweepRound) find(ctx context.Context, s store) (err error) {
	if r.settle && len(r.after.candidates) > 0 {
		return nil // those come first
	}
	if r.settle {
		r.after.behind = 0
	}
	if !r.look {
		return nil
	}
	r.looked = true
	if r.after.candidates, err = s.newRows(ctx, r.left.Low(), sweepRows); err != nil {
		return err
	}
	r.after.behind, err = s.logEnd(ctx)
	return err
}

func (r *sweepRound) count(ctx context.Context, s store) error {
	totals, err := s.count(ctx)
	if err == nil {
		r.totals = &totals
	}
	return err
}

// keepSnapshot stores what is below the checkpoint, where the rows themselves do not say it.
func (r *sweepRound) keepSnapshot(ctx context.Context, s store) error {
	if r.settle {
		if err := s.saveSettled(ctx, r.before.snapshot); err != nil {
			return err
		}
	}
	if r.before.behind > 0 && !r.settle {
		return nil
	}
	snapshot, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	behind, err := s.logEnd(ctx)
	if err != nil {
		return err
	}
	r.after.snapshot, r.after.behind = snapshot, behind
	return nil
}

// sweepRest is for how many times as long as a sweep took nothing is swept: one that has to read very many rows, such as those that are NEW of other shards,
// must not load the database all the time.
const sweepRest = 4

// swept takes what a sweep has found.
func (c *core) swept(r *sweepRound) {
	now := time.Now()
	due := now.Add(max(c.cfg.Table.Sweep, sweepRest*now.Sub(r.began)))
	fullDue := c.sweeping.fullDue
	if r.looked {
		fullDue = now.Add(c.cfg.Table.FullSweep)
	}
	c.sweeping = r.after
	c.sweeping.due, c.sweeping.fullDue, c.sweeping.busy = due, fullDue, false
	c.finishDue = true
	if r.totals != nil {
		c.facts.totals.Store(r.totals)
		c.facts.parkedSince.Store(0)
	}
	if len(r.again) > 0 {
		c.sweeping.busy = true // until those are parked: the next sweep would find them once more
		c.deliverAgain(r.again)
	}
	if r.dropped > 0 {
		c.nudged()
	}
}

// deliverAgain parks rows of the outbox as replays: others have set them back to NEW, or to FAILED.
func (c *core) deliverAgain(found []outbox.Row) {
	var rows []park.Row
	for i := range found {
		rows = append(rows, rowsOf(c.cfg, &found[i])...)
	}
	dropped := dropped(rows)
	c.facts.droppedUnrouted.Add(uint64(dropped))
	if n := len(found) - dropped; n > 0 {
		c.cfg.Log.Info().Int("rows", n).Msg("rows that others set back to NEW or FAILED are delivered again")
	}
	c.pollers.give(&task{
		name: "park rows that are to be delivered again", statement: statementPark,
		run: func(ctx context.Context, s store) error {
			first, err := s.nextReplays(ctx, len(found))
			if err != nil {
				return err
			}
			park.NumberReplays(rows, first)
			return s.insert(ctx, rows)
		},
		then: func() {
			c.sweeping.busy = false
			c.finishDue = c.finishDue || dropped > 0
			c.entered(rows)
		},
	})
}

// entered takes note of rows that were parked beside the log lane.
func (c *core) entered(rows []park.Row) {
	for i := range rows {
		row := &rows[i]
		if row.State != park.Waiting {
			continue
		}
		at := row.Destination
		if _, known := c.sinks[at.Sink]; !known {
			continue
		}
		c.facts.parkedSince.Add(1)
		c.enter(row)
	}
}

// dispatchFinish removes what is done everywhere and passed by the checkpoint, when something may be.
func (c *core) dispatchFinish() {
	if !c.finishDue || c.finishing || !c.pollers.free() {
		return
	}
	c.finishDue, c.finishing = false, true
	passed := c.passed()
	var more bool
	c.pollers.give(&task{
		name: "remove delivered events from the table lane", statement: statementFinish,
		run: func(ctx context.Context, s store) (err error) {
			var refused *outbox.Refusal
			if more, refused, err = s.finish(ctx, passed, finishMost); refused != nil {
				c.warnRefused(refused.Err, 1, refused.ID)
			}
			return err
		},
		then: func() { c.finishing, c.finishDue = false, c.finishDue || more },
	})
}
