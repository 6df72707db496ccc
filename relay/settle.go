package relay

import (
	"context"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
)

const (
	settleInterval = 50 * time.Millisecond // how long delivered events gather before their rows are settled
	settleAtOnce   = 1000                  // so many are settled without waiting
	settleMost     = 5000                  // in one statement; when so many more have gathered meanwhile, a clerk settles them
	settleTimeout  = time.Minute           // of a round, at least; a connection that is silent for longer is given up with its session
)

// settlement is one round of the settler: rows to settle, then a checkpoint to write. The core makes it, the settler gives it back. A clerk's has rows only.
type settlement struct {
	entries  []*entry
	ids      [][]byte
	save     event.LSN // zero: none
	snapshot outbox.Snapshot
	refused  []outbox.Refusal
	took     time.Duration
	err      error
}

// settler runs settlements, one at a time, on a connection of its own.
type settler struct {
	store    store
	requests <-chan *settlement
	done     chan<- *settlement
	timeout  time.Duration // of a round
	queries  *queries
	log      zerolog.Logger
}

func (s *settler) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-s.requests:
			r.err = s.settle(ctx, r)
			s.done <- r // has room for the only one
		}
	}
}

// settle settles the rows, then writes the checkpoint. What another session's lock or a deadlock refused is tried again here:
// only confirming waits for it, not delivery.
func (s *settler) settle(ctx context.Context, r *settlement) error {
	notify := func(err error, wait time.Duration) {
		s.log.Warn().Err(err).Stringer("again_in", wait.Round(time.Millisecond)).Msg("settling the outbox rows is held up; confirming waits")
	}
	return retryLocked(ctx, notify, func() error { return s.once(ctx, r) })
}

// retryLocked runs it until another session's lock, or a deadlock, no longer refuses it. notify is told of each refusal.
func retryLocked(ctx context.Context, notify backoff.Notify, run func() error) error {
	try := func() (struct{}, error) {
		err := run()
		if err != nil && !outbox.Retryable(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}
	_, err := backoff.Retry(ctx, try, backoff.WithNotify(notify), backoff.WithMaxElapsedTime(0))
	return err
}

func (s *settler) once(ctx context.Context, r *settlement) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if len(r.ids) > 0 {
		done := s.queries.begin(statementSettle)
		err = r.settle(ctx, s.store)
		if done(); err != nil {
			return err
		}
	}
	if r.save == 0 {
		return nil
	}
	defer s.queries.begin(statementCheckpoint)()
	return s.store.save(ctx, r.save)
}

// settle settles the rows, by one statement unless the table refuses some.
func (r *settlement) settle(ctx context.Context, s store) (err error) {
	started := time.Now()
	r.snapshot, r.refused, err = s.settle(ctx, r.ids)
	r.took = time.Since(started)
	return err
}

// requestSettlement gives the settler its next round when it is free and something is due; while it is busy, a clerk may help.
func (c *core) requestSettlement(now time.Time) {
	if c.settling {
		c.settleBeside()
		return
	}
	r := &settlement{}
	if len(c.settleQueue) > 0 && (c.settleHurries() || !now.Before(c.settleDue)) {
		c.takeRows(r)
	}
	c.saveNow = c.saveNow && c.tracker.Safe() > c.saved
	if c.wantsSave() && (c.draining || c.saveNow || !now.Before(c.saveDue)) {
		r.save = c.tracker.Safe()
		c.saveDue = now.Add(c.cfg.CheckpointInterval)
		c.progress, c.saveNow = false, false
	}
	if len(r.ids) == 0 && r.save == 0 {
		return
	}
	c.settling = true
	c.requests <- r
	c.settleBeside()
}

// takeRows moves as many rows from the queue to r as one statement settles. A row that is locked holds the memory of all that are named with it: that leaves
// some for others.
func (c *core) takeRows(r *settlement) {
	n := 0
	for bytes := 0; n < min(len(c.settleQueue), c.settleMost) && int64(bytes) <= c.budget.limit/4; n++ {
		bytes += c.settleQueue[n].event.Size()
	}
	r.entries = append(r.entries, c.settleQueue[:n]...)
	c.settleQueue = slices.Delete(c.settleQueue, 0, n)
	c.settleHeld = false // they are named again; the answer tells
	for _, e := range r.entries {
		r.ids = append(r.ids, e.event.ID)
	}
}

// settleBeside lets a clerk settle rows while the settler is busy, where as many have gathered as one statement takes, or memory is short: on a table with many
// indexes this is most of the work, and one connection keeps a single core of the server busy. Nor do they wait for a locked row, unless it is one of them.
func (c *core) settleBeside() {
	few := len(c.settleQueue) < c.settleMost && !c.budget.starved.Load()
	if c.settlingBeside || c.settleHeld || few || len(c.settleQueue) == 0 || c.pollers.spare() < 2 { // one is left for the table lane
		return
	}
	r := &settlement{}
	c.takeRows(r)
	c.settlingBeside = true
	c.pollers.give(&task{
		name: "settle rows", statement: statementSettle,
		run: r.settle,
		then: func() {
			c.settlingBeside = false
			c.rowsSettled(r)
		},
	})
}

// settleHurries tells whether the rows that gather are settled before they are due.
func (c *core) settleHurries() bool {
	return !c.settleHeld && (c.draining || len(c.settleQueue) >= settleAtOnce)
}

// wantsSave tells whether the checkpoint is worth writing: events have passed, the server asks, or the log has run far.
func (c *core) wantsSave() bool {
	safe := c.tracker.Safe()
	return safe > c.saved && (c.progress || c.saveNow || safe-c.saved >= idleSave)
}

// settlementDone takes a round's result.
func (c *core) settlementDone(r *settlement) error {
	c.settling = false
	if r.err != nil {
		return r.err
	}
	if len(r.entries) > 0 {
		c.rowsSettled(r)
	}
	if r.save > 0 {
		c.saved = r.save
		c.endDoubt()
		if c.rerouteDue {
			c.rerouteDue = false
			c.reroute()
		}
		c.finishDue, c.unfinished = c.finishDue || c.unfinished, false
		c.confirm(r.save)
	}
	return nil
}

// warnRefused says, once a minute at most, that the table refuses to have rows settled.
func (c *core) warnRefused(err error, rows int, id []byte) {
	c.refusals.Warn().Err(err).Int("rows", rows).Bytes("id", id).
		Msg("the outbox table refuses that rows are settled, as by a trigger or a constraint; their events are delivered, and they stay as they are")
}

// rowsSettled ends the events whose transaction the statement could see. The others are settled again.
func (c *core) rowsSettled(r *settlement) {
	if len(r.refused) > 0 {
		c.warnRefused(r.refused[0].Err, len(r.refused), r.refused[0].ID)
	}
	again := 0
	for _, e := range r.entries {
		if r.snapshot.Visible(e.event.Xid) {
			c.settle(e)
			continue
		}
		c.settleQueue = append(c.settleQueue, e)
		again++
	}
	c.settleHeld = again > 0
	if len(c.settleQueue) > 0 {
		c.settleDue = time.Now().Add(settleInterval)
	}
	c.facts.settled(len(r.entries)-again, r.took)
}
