package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

// lingers is how long the server may take to notice that a process was killed, or that a session has ended.
const lingers = 10 * time.Second

// connect opens a connection that may be idle as long as the old layout delivers.
func (r *resharding) connect(ctx context.Context) (*pgx.Conn, error) {
	parsed, err := walConfig(r.cfg, false).SessionConfig()
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx, r.cfg, parsed)
	if err != nil {
		return nil, err
	}
	if err := wal.LiftLimits(ctx, conn.PgConn()); err != nil {
		return nil, errors.Join(err, wal.CloseConn(ctx, conn))
	}
	return conn, nil
}

// awaited does something, again and again while an instance or a sender is still there.
func awaited(ctx context.Context, do func() error) error {
	try := func() (struct{}, error) {
		err := do()
		if err != nil && !errors.Is(err, relay.ErrOtherActive) && !errors.Is(err, wal.ErrSlotActive) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}
	_, err := backoff.Retry(ctx, try, backoff.WithMaxElapsedTime(lingers))
	return err
}

// takeLocks makes sure that no instance of a layout is active, and that none becomes it while conn lives.
func (r *resharding) takeLocks(ctx context.Context, conn *pgx.Conn, parts []*config.Config) error {
	for _, part := range parts {
		err := awaited(ctx, func() error {
			free, err := park.TryLock(ctx, conn, part.Database.Schema, part.Database.Slot)
			if err == nil && !free {
				err = fmt.Errorf("slot %q: %w", part.Database.Slot, relay.ErrOtherActive)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// oldIsStopped makes sure that no instance of the old layout is active, and that none streams any more that has lost its lock.
func (r *resharding) oldIsStopped(ctx context.Context) error {
	conn, err := r.connect(ctx)
	if err != nil {
		return err
	}
	return errors.Join(r.oldIsIdle(ctx, conn), wal.CloseConn(ctx, conn))
}

func (r *resharding) oldIsIdle(ctx context.Context, conn *pgx.Conn) error {
	if err := r.takeLocks(ctx, conn, r.old); err != nil {
		return err
	}
	for _, part := range r.old {
		err := awaited(ctx, func() error {
			slot, err := wal.SlotStatus(ctx, conn, part.Database.Slot)
			if err == nil && slot.Active {
				err = fmt.Errorf("slot %q: %w", part.Database.Slot, relay.ErrOtherActive)
			}
			return err
		})
		if err != nil && !errors.Is(err, wal.ErrSlotMissing) { // of which oldRecords tells
			return err
		}
	}
	_, err := conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`) // closing does not wait for the server
	return err
}

// newAreSound makes sure that the new slots will send everything from the position on: they have waited for as long as the old layout has delivered.
func (r *resharding) newAreSound(ctx context.Context, position event.LSN) error {
	for _, part := range r.next {
		slot, err := wal.SlotStatus(ctx, r.conn, part.Database.Slot)
		if err != nil {
			return err
		}
		if slot.Lost() || slot.ConfirmedFlush > position {
			return fmt.Errorf("slot %q was lost or moved meanwhile: run it again", slot.Name)
		}
	}
	return nil
}

// source is what a shard of the new layout reads: the old layout's slots are there.
func (r *resharding) source(part *config.Config) wal.Config {
	c := walConfig(part, true)
	c.Others = nil
	return c
}

// makeSlot makes all that a shard of the new layout needs, but its record. A slot that is there without one is of a run that was killed.
func (r *resharding) makeSlot(ctx context.Context, part *config.Config) (*wal.Server, error) {
	d := &part.Database
	err := migrations.Verify(ctx, r.conn, migrationOptions(part, ""))
	if errors.Is(err, lease.ErrNotMigrated) {
		_, err = migrations.Up(ctx, r.conn, migrationOptions(part, ""))
	}
	if err != nil {
		return nil, fmt.Errorf("make schema %q (as the table's owner, run outboxd migrate up with %s before, or what outboxd migrate sql --role NAME prints): %w",
			d.Schema, part.Shard().Layout(), err)
	}
	if _, err := r.dropSlots(ctx, []*config.Config{part}); err != nil {
		return nil, err
	}
	r.log.Info().Str("slot", d.Slot).Msg("making a slot, which waits for the transactions that are open")
	server, err := wal.Setup(ctx, r.conn, r.source(part))
	if err != nil {
		return nil, err
	}
	relay.LogFindings(r.log, server)
	return server, nil
}

// choose takes the position, which lies behind the beginning of every new slot. The transaction that raises the terms comes behind it in the log, and its
// commit takes both to the disk, so that the old slots will come to it.
func (r *resharding) choose(ctx context.Context, b *beginning) (err error) {
	if b.settled, err = outbox.ReadSnapshot(ctx, r.conn); err != nil {
		return err
	}
	if b.position, err = wal.LogEnd(ctx, r.conn); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = local`); err != nil {
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

// undo removes the new slots, so that the old layout can go on. ctx does not end with the command's.
func (r *resharding) undo(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("remove the new slots: the old layout cannot start beside them: outboxd slot drop with %s: %w", r.next[0].Shard().Layout(), err)
		}
	}()
	if r.conn.IsClosed() || r.conn.Ping(ctx) != nil { // as a statement does that was interrupted
		_ = wal.CloseConn(ctx, r.conn) // whose locks are taken anew
		conn, err := r.connect(ctx)
		if err != nil {
			return err
		}
		r.conn = conn
		if err := r.takeLocks(ctx, r.conn, r.next); err != nil {
			return err // another run has them, and the slots are its own
		}
		if done, err := r.decided(ctx); err != nil || done {
			return err
		}
	}
	if _, err := r.dropSlots(ctx, r.next); err != nil {
		return err
	}
	r.log.Info().Msg("the new layout has no slots; the old one can go on")
	return nil
}

func (r *resharding) dropSlots(ctx context.Context, parts []*config.Config) (dropped []string, err error) {
	for _, part := range parts {
		slot := part.Database.Slot
		switch failed := awaited(ctx, func() error { return wal.DropSlot(ctx, r.conn, slot) }); {
		case failed == nil:
			dropped = append(dropped, slot)
		case !errors.Is(failed, wal.ErrSlotMissing):
			err = errors.Join(err, failed)
		}
	}
	return dropped, err
}
