package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

// resharding takes a table from one layout to another. Nothing is decided before the transaction that records the beginning of the new slots: until
// then slots of the new layout have no record, and only the old one can go on; from then on the old slots are of no use, and only the new one can.
// Meanwhile slots of both are there, so that instances of neither start.
type resharding struct {
	app       *app
	log       zerolog.Logger
	conn      *pgx.Conn
	cfg       *config.Config // of the old layout
	old, next []*config.Config
}

// beginning is where the new layout begins.
type beginning struct {
	position event.LSN // everything that was committed before it is the old layout's
	settled  string    // a snapshot that sees nothing of the new layout's
	leases   []event.Lease
	server   *wal.Server
}

// run returns the position at which the new layout begins.
func (r *resharding) run(ctx context.Context) (event.LSN, error) {
	if err := r.takeLocks(ctx, r.conn, r.next); err != nil {
		return 0, err
	}
	position, done, err := r.decided(ctx)
	if err != nil {
		return 0, err
	}
	if !done {
		b, before, err := r.prepare(ctx)
		if err != nil {
			return 0, errors.Join(err, r.undo(ctx))
		}
		if err := r.decide(ctx, b, before); err != nil {
			return 0, fmt.Errorf("record the beginning of the new slots: run it again, which goes on from what was recorded: %w", err)
		}
		position = b.position
	}
	return position, r.dropOld(ctx)
}

// lingers is how long the server may take to notice that a process was killed, or that a session has ended.
const lingers = 10 * time.Second

// takeLocks makes sure that no instance of a layout is active, and that none becomes it while conn lives.
func (r *resharding) takeLocks(ctx context.Context, conn *pgx.Conn, parts []*config.Config) error {
	for _, part := range parts {
		take := func() (struct{}, error) {
			free, err := park.TryLock(ctx, conn, part.Database.Schema, part.Database.Slot)
			switch {
			case err != nil:
				err = backoff.Permanent(err)
			case !free:
				err = fmt.Errorf("slot %q: %w", part.Database.Slot, relay.ErrOtherActive)
			}
			return struct{}{}, err
		}
		if _, err := backoff.Retry(ctx, take, backoff.WithMaxElapsedTime(lingers)); err != nil {
			return err
		}
	}
	return nil
}

// decided tells whether an earlier run has recorded the beginning of the new slots, and where it was.
func (r *resharding) decided(ctx context.Context) (position event.LSN, done bool, err error) {
	n := 0
	for _, part := range r.next {
		d := &part.Database
		record, found, err := checkpoint.Load(ctx, r.conn, d.Schema, d.Slot)
		if errors.Is(err, event.ErrNotMigrated) {
			continue
		}
		if err != nil {
			return 0, false, err
		}
		if !found {
			continue
		}
		if _, err := wal.SlotStatus(ctx, r.conn, d.Slot); errors.Is(err, wal.ErrSlotMissing) {
			return 0, false, fmt.Errorf("schema %q holds the record of slot %q, which is gone, from an earlier time: remove it by outboxd migrate down with %s",
				d.Schema, d.Slot, part.Shard().Layout())
		} else if err != nil {
			return 0, false, err
		}
		position = record.Confirmed
		n++
	}
	if n > 0 && n < len(r.next) {
		return 0, false, fmt.Errorf("%d of %d slots of %s have a record: it was not outboxd reshard that made them", n, len(r.next), r.next[0].Shard().Layout())
	}
	return position, n > 0, nil
}

// prepare makes the slots of the new layout, takes the position, and delivers everything before it. It returns the records of the old one.
func (r *resharding) prepare(ctx context.Context) (b beginning, old []checkpoint.Record, err error) {
	if err := r.oldIsStopped(ctx); err != nil {
		return b, nil, err
	}
	if _, err := r.oldRecords(ctx); err != nil {
		return b, nil, err
	}
	for _, part := range r.next {
		if b.server, err = r.makeSlot(ctx, part); err != nil {
			return b, nil, err
		}
	}
	if err := r.choose(ctx, &b); err != nil {
		return b, nil, fmt.Errorf("take a position of the log: %w", err)
	}
	r.log.Info().Stringer("until", b.position).Msg("delivering what was committed until now, as the old layout")
	if err := r.deliver(ctx, b.position); err != nil {
		return b, nil, err
	}
	if old, err = r.oldRecords(ctx); err != nil {
		return b, nil, err
	}
	for _, record := range old {
		if record.Confirmed < b.position || record.Adopt != nil {
			return b, nil, fmt.Errorf("slot %q has come to %s, not to %s", record.Slot, record.Confirmed, b.position)
		}
	}
	return b, old, nil
}

// oldIsStopped makes sure that no instance of the old layout is active.
func (r *resharding) oldIsStopped(ctx context.Context) error {
	conn, err := connect(ctx, r.cfg, nil)
	if err != nil {
		return err
	}
	return errors.Join(r.takeLocks(ctx, conn, r.old), closeConn(ctx, conn))
}

// oldRecords are the records of the old layout, whose slots are there and which has nothing parked.
func (r *resharding) oldRecords(ctx context.Context) (all []checkpoint.Record, err error) {
	for _, part := range r.old {
		d := &part.Database
		record, found, err := checkpoint.Load(ctx, r.conn, d.Schema, d.Slot)
		if err != nil {
			return nil, err
		}
		if _, err := wal.SlotStatus(ctx, r.conn, d.Slot); err != nil && !errors.Is(err, wal.ErrSlotMissing) {
			return nil, err
		} else if !found || err != nil {
			return nil, fmt.Errorf("slot %q has delivered nothing, so there is nothing to go on from: reshard goes by the configuration until now, %s",
				d.Slot, part.Shard().Layout())
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
		return fmt.Errorf("%d events are parked in schema %q: run outboxd with %s until outboxd events list is empty (retry or skip what is dead)",
			n, d.Schema, part.Shard().Layout())
	}
	return nil
}

// makeSlot makes all that a shard of the new layout needs, but its record. A slot that is there without one is of a run that was killed.
func (r *resharding) makeSlot(ctx context.Context, part *config.Config) (*wal.Server, error) {
	d := &part.Database
	err := migrations.Verify(ctx, r.conn, migrationOptions(part, ""))
	if errors.Is(err, event.ErrNotMigrated) {
		_, err = migrations.Up(ctx, r.conn, migrationOptions(part, ""))
	}
	if err != nil {
		return nil, fmt.Errorf("make schema %q (its owner can make it before, by outboxd migrate up or migrate sql --role with the new configuration): %w", d.Schema, err)
	}
	if err := r.nothingParked(ctx, part); err != nil {
		return nil, err
	}
	if err := r.dropSlot(ctx, part); err != nil {
		return nil, err
	}
	r.log.Info().Str("slot", d.Slot).Msg("making a slot, which waits for the transactions that are open")
	source := walConfig(part, true)
	source.Others = nil // the old layout's are there
	server, err := wal.Setup(ctx, r.conn, source)
	if err != nil {
		return nil, err
	}
	for _, warning := range server.Warnings {
		r.log.Warn().Str("finding", warning).Msg("PostgreSQL has something to look at; outboxd goes on")
	}
	return server, nil
}

// choose takes the position: behind the beginning of every new slot, and on the disk, so that the old slots will come to it.
func (r *resharding) choose(ctx context.Context, b *beginning) (err error) {
	if b.settled, err = outbox.ReadSnapshot(ctx, r.conn); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		var position string
		if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = local`); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&position); err != nil {
			return err
		}
		if b.position, err = event.ParseLSN(position); err != nil {
			return err
		}
		for _, part := range r.next {
			lease, err := park.Raise(ctx, tx, part.Database.Schema, part.Database.Slot, holder())
			if err != nil {
				return err
			}
			b.leases = append(b.leases, lease)
		}
		return nil
	})
}

// deliver runs the old layout until the position. When ctx ends it is stopped, in order.
func (r *resharding) deliver(ctx context.Context, until event.LSN) (err error) {
	goredis.SetLogger(redisLog{r.log})
	working := context.WithoutCancel(ctx)
	running := fleet{}
	defer func() { err = errors.Join(err, running.close()) }()
	o := instanceOptions{
		registry: prometheus.NewRegistry(), out: zerolog.SyncWriter(r.app.out), log: r.log,
		until: until, beside: r.next[0].Shard().Layout(),
	}
	for _, part := range r.old {
		i, err := openInstance(working, part, o)
		if err != nil {
			return err
		}
		running = append(running, i)
	}
	defer context.AfterFunc(ctx, running.stop)()
	err = running.each(func(i *instance) error {
		err := i.relay.Run(working)
		if err != nil {
			running.stop()
		}
		return err
	})
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// decide records the beginning of the new slots. Epochs rise from one layout to the next, so that positions do.
func (r *resharding) decide(ctx context.Context, b beginning, old []checkpoint.Record) error {
	next := checkpoint.Record{SystemID: b.server.SystemID, Timeline: b.server.Timeline, Confirmed: b.position}
	epoch := time.Now().Unix()
	var skipped []string
	for _, record := range old {
		promotions := max(0, b.server.Timeline-record.Timeline)
		epoch = max(epoch, int64(record.Epoch)+int64(promotions)+1)
		skipped = append(skipped, record.SkippedSnapshot)
	}
	var err error
	if next.SkippedSnapshot, err = outbox.Latest(skipped...); err != nil {
		return err
	}
	if outbox.OnSent(r.cfg.OnSent) == outbox.Keep {
		next.SettledSnapshot = b.settled
	}
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		for _, lease := range b.leases {
			if _, err := checkpoint.NewEpoch(ctx, tx, lease, next, time.Unix(epoch, 0)); err != nil {
				return err
			}
		}
		return nil
	})
}

// undo removes the new slots, so that the old layout can go on, also when ctx has ended.
func (r *resharding) undo(ctx context.Context) (err error) {
	ctx = context.WithoutCancel(ctx)
	if r.conn.IsClosed() { // as a statement does that was interrupted
		conn, err := connect(ctx, r.cfg, nil)
		if err != nil {
			return fmt.Errorf("remove what was made (outboxd slot drop does it, with %s): %w", r.next[0].Shard().Layout(), err)
		}
		r.conn = conn
	}
	for _, part := range r.next {
		if left := r.dropSlot(ctx, part); left != nil {
			err = errors.Join(err, fmt.Errorf("remove what was made (outboxd slot drop does it, with %s): %w", part.Shard().Layout(), left))
		}
	}
	return err
}

// dropOld drops the old slots.
func (r *resharding) dropOld(ctx context.Context) error {
	for _, part := range r.old {
		if err := r.dropSlot(ctx, part); err != nil {
			return fmt.Errorf("the new layout has begun; drop the slots of the old one by running it again: %w", err)
		}
	}
	return nil
}

// dropSlot drops the shard's slot where there is one.
func (r *resharding) dropSlot(ctx context.Context, part *config.Config) error {
	drop := func() (struct{}, error) {
		err := wal.DropSlot(ctx, r.conn, part.Database.Slot)
		switch {
		case errors.Is(err, wal.ErrSlotMissing):
			err = nil
		case err != nil && !errors.Is(err, wal.ErrSlotActive):
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}
	_, err := backoff.Retry(ctx, drop, backoff.WithMaxElapsedTime(lingers))
	return err
}
