package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

// resharding takes a table from one layout to another. Nothing is decided before the transaction that records the beginning of the new slots: until
// then slots of the new layout have no record, and only the old one can go on; from then on the old slots are of no use, and only the new one can.
// Meanwhile slots of both are there, so that instances of neither start.
type resharding struct {
	out       io.Writer // of a sink that writes there
	log       zerolog.Logger
	conn      *pgx.Conn      // holds the locks of the new layout
	cfg       *config.Config // of the old layout
	old, next []*config.Config
}

// beginning is where the new layout begins.
type beginning struct {
	position  event.LSN // everything that was committed before it is the old layout's
	settled   string    // a snapshot that sees nothing of the new layout's
	leases    []lease.Lease
	published []string // what is published for each lease's slot, read before the position was taken
	server    *wal.Server
	before    []checkpoint.Record // of the old layout, which has come to the position
}

// run returns the position at which the new layout begins, 0 where an earlier run has recorded it, and the slots that it has dropped.
func (r *resharding) run(ctx context.Context) (position event.LSN, dropped []string, err error) {
	if err := r.takeLocks(ctx, r.conn, r.next); err != nil {
		return 0, nil, err
	}
	done, err := r.decided(ctx)
	if err != nil {
		return 0, nil, err
	}
	short := context.WithoutCancel(ctx) // for what is not broken off any more
	var b beginning
	if !done {
		if b, err = r.prepare(ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx) // and not what it made of a statement
			}
			return 0, nil, errors.Join(err, r.undo(short))
		}
		if err := r.decide(short, b); err != nil {
			return 0, nil, err
		}
	}
	if dropped, err = r.dropSlots(short, r.old); err != nil {
		return 0, nil, fmt.Errorf("the new layout has begun; drop the slots of the old one by running it again: %w", err)
	}
	return b.position, dropped, nil
}

// decided tells whether an earlier run has recorded the beginning of the new slots.
func (r *resharding) decided(ctx context.Context) (bool, error) {
	n := 0
	for _, part := range r.next {
		d := &part.Database
		record, found, err := checkpoint.Load(ctx, r.conn, d.Schema, d.Slot)
		if err != nil && !errors.Is(err, lease.ErrNotMigrated) {
			return false, err
		}
		if !found {
			continue
		}
		slot, err := wal.SlotStatus(ctx, r.conn, d.Slot)
		switch {
		case errors.Is(err, wal.ErrSlotMissing):
			return false, fmt.Errorf("schema %q holds the record of slot %q, which is gone, from an earlier time: remove it by outboxd migrate down with %s",
				d.Schema, d.Slot, part.Shard().Layout())
		case err != nil:
			return false, err
		case slot.ConfirmedFlush > record.Confirmed:
			return false, fmt.Errorf("slot %q stands beyond its record, so it was not outboxd reshard that made it: outboxd slot drop and outboxd migrate down with %s, and run it again",
				d.Slot, part.Shard().Layout())
		}
		n++
	}
	if n == len(r.next) {
		for _, part := range r.next { // which would not be, where another table's instance has these names, or on a standby
			if err := unfit(wal.Verify(ctx, r.conn, r.source(part))); err != nil {
				return false, err
			}
		}
	}
	if n > 0 && n < len(r.next) {
		return false, fmt.Errorf("%d of %d slots of %s have a record, so it was not outboxd reshard that made them: outboxd slot drop and outboxd migrate down with that layout, and run it again",
			n, len(r.next), r.next[0].Shard().Layout())
	}
	return n > 0, nil
}

// unfit is what of the error of a check says that the shard cannot be what it is taken for. That its slot is lost or busy is no part of that.
func unfit(_ *wal.Server, err error) error {
	failed := wal.CheckErrors(err)
	passing := func(e *wal.CheckError) bool {
		return slices.Contains([]wal.Check{wal.CheckSlotLost, wal.CheckSlotActive, wal.CheckSenders}, e.Check)
	}
	if len(failed) > 0 && !slices.ContainsFunc(failed, func(e *wal.CheckError) bool { return !passing(e) }) {
		return nil
	}
	return err
}

// prepare makes the slots of the new layout, takes the position, and delivers everything before it.
func (r *resharding) prepare(ctx context.Context) (b beginning, err error) {
	if err := r.oldIsStopped(ctx); err != nil {
		return b, err
	}
	if _, err := r.oldRecords(ctx); err != nil {
		return b, err
	}
	for _, part := range r.next {
		if b.server, err = r.makeSlot(ctx, part); err != nil {
			return b, err
		}
		published, err := wal.Published(ctx, r.conn, r.source(part))
		if err != nil {
			return b, err
		}
		b.published = append(b.published, published)
	}
	if err := r.oldIsStopped(ctx); err != nil { // beside the new slots none starts any more
		return b, err
	}
	if err := r.choose(ctx, &b); err != nil {
		return b, fmt.Errorf("take a position of the log: %w", err)
	}
	r.log.Info().Stringer("until", b.position).Msg("delivering what was committed until now, as the old layout")
	if err := r.deliver(ctx, b.position); err != nil {
		return b, err
	}
	if b.before, err = r.oldRecords(ctx); err != nil {
		return b, err
	}
	for _, record := range b.before {
		if record.Confirmed < b.position || record.Adopt != nil {
			return b, fmt.Errorf("slot %q has come to %s, not to %s, or older rows are not adopted: run it again", record.Slot, record.Confirmed, b.position)
		}
	}
	return b, r.newAreSound(ctx, b.position)
}

// oldRecords are the records of the old layout, whose slots are there and which has nothing parked.
func (r *resharding) oldRecords(ctx context.Context) (all []checkpoint.Record, err error) {
	for _, part := range r.old {
		d, layout := &part.Database, part.Shard().Layout()
		record, found, err := checkpoint.Load(ctx, r.conn, d.Schema, d.Slot)
		if err != nil && !errors.Is(err, lease.ErrNotMigrated) {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("slot %q has no checkpoint: reshard goes by the layout until now, which is %s by the configuration: correct that, or run outboxd with it first", d.Slot, layout)
		}
		if _, err := wal.SlotStatus(ctx, r.conn, d.Slot); errors.Is(err, wal.ErrSlotMissing) {
			return nil, fmt.Errorf("slot %q is gone, so there is no position to go on from: run outboxd with %s, which makes it anew, until what is due is delivered", d.Slot, layout)
		} else if err != nil {
			return nil, err
		}
		if err := r.nothingParked(ctx, part); err != nil {
			return nil, err
		}
		all = append(all, record)
	}
	return all, nil
}

func (r *resharding) nothingParked(ctx context.Context, part *config.Config) error {
	d := &part.Database
	parked, err := park.Count(ctx, r.conn, d.Schema, d.Slot)
	if err != nil {
		return err
	}
	if n := parked.Waiting + parked.Dead; n > 0 {
		list := "outboxd events list"
		if part.Shard().Split() {
			list += fmt.Sprintf(" --set shards.number=%d", part.Shards.Number)
		}
		return fmt.Errorf("deliveries are parked in schema %q: %d: run outboxd with %s until %s is empty (retry or skip what is dead)", d.Schema, n, part.Shard().Layout(), list)
	}
	return nil
}

// deliver runs the old layout until the position. When ctx ends it is stopped, in order.
func (r *resharding) deliver(ctx context.Context, until event.LSN) (err error) {
	goredis.SetLogger(redisLog{r.log})
	working := context.WithoutCancel(ctx)
	running, err := openFleet(working, r.old, instanceOptions{
		registry: prometheus.NewRegistry(), out: zerolog.SyncWriter(r.out), log: r.log, until: until, beside: r.next[0].Shard().Layout(),
	})
	defer func() { err = errors.Join(err, running.close()) }()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, running.stop)()
	err = running.run(working, func(_ zerolog.Logger, err error) error {
		if _, unfinished := errors.AsType[*relay.UnfinishedError](err); unfinished {
			return fmt.Errorf("deliver as the old layout: %w: let outboxd run until all brokers take what is due", err)
		}
		return err
	})
	return errors.Join(ctx.Err(), err)
}

// decide records the beginning of the new slots. Epochs rise from one layout to the next, so that positions do. An error before the commit changes nothing.
func (r *resharding) decide(ctx context.Context, b beginning) error {
	tx, err := r.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}) // what is parked is looked at behind the wait for a lease
	if err != nil {
		return errors.Join(err, r.undo(ctx))
	}
	if err := r.record(ctx, tx, b); err != nil {
		_ = tx.Rollback(ctx) // where it fails, the connection is closed, and nothing is committed either
		return errors.Join(err, r.undo(ctx))
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("record the beginning of the new slots: run it again, which goes on from what was recorded: %w", err)
	}
	return nil
}

func (r *resharding) record(ctx context.Context, tx pgx.Tx, b beginning) error {
	first := checkpoint.Record{SystemID: b.server.SystemID, Timeline: b.server.Timeline, Confirmed: b.position}
	epoch := time.Now().Unix() // what nextEpoch of package checkpoint does within one slot; NewEpoch takes it as the clock
	var skipped, settled []string
	for _, record := range b.before {
		promotions := max(0, b.server.Timeline-record.Timeline)
		epoch = max(epoch, int64(record.Epoch)+int64(promotions)+1)
		skipped, settled = append(skipped, record.SkippedSnapshot), append(settled, record.SettledSnapshot)
	}
	var err error
	if first.SkippedSnapshot, err = outbox.Latest(skipped...); err != nil {
		return err
	}
	if r.cfg.OnSent == outbox.Keep {
		settled = append(settled, b.settled)
	}
	if first.SettledSnapshot, err = outbox.Latest(settled...); err != nil { // also of rows that were kept before they are marked
		return err
	}
	for _, part := range r.old {
		if err := r.leftNothing(ctx, tx, part); err != nil {
			return err
		}
	}
	for i, lease := range b.leases {
		first.Published = b.published[i]
		if _, err := checkpoint.NewEpoch(ctx, tx, lease, first, time.Unix(epoch, 0)); err != nil {
			return err
		}
	}
	return nil
}

// leftNothing makes sure that the old layout has no parked row, of whatever state: its event's outbox row is not settled, and would look due to the new one.
// What people ask of events comes before that, or behind the commit, as they lock the lease.
func (r *resharding) leftNothing(ctx context.Context, tx pgx.Tx, part *config.Config) error {
	d := &part.Database
	if _, err := park.Raise(ctx, tx, d.Schema, d.Slot, holder()); err != nil {
		return err
	}
	left, err := park.Any(ctx, tx, d.Schema, d.Slot)
	if left {
		err = fmt.Errorf("deliveries are parked in schema %q, or done with an outbox row that somebody holds locked: run it again", d.Schema)
	}
	return err
}
