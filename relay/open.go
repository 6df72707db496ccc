package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

// ErrSlotLost says that the log between the checkpoint and the slot is gone: the slot was dropped, moved or made anew by
// somebody else.
var ErrSlotLost = errors.New("the log since the checkpoint is lost")

const (
	openTimeout   = 30 * time.Second
	createTimeout = time.Hour // of the first slot, which waits for every open transaction
)

// open brings the session to the point where it streams. The order matters: the slot is ours before the term is raised, so that
// a running instance is not cut off by one that only tries; and the checkpoint is read again after that, because the
// instance before may have moved it until then.
func (s *session) open(ctx context.Context) error {
	patient, cancel := s.relay.untilStop(ctx)
	defer cancel()
	ctx, cancelOpening := context.WithTimeout(patient, openTimeout)
	defer cancelOpening()
	cfg := &s.relay.cfg
	var err error
	if s.control, err = s.connect(ctx, ""); err != nil {
		return err
	}
	if cfg.CheckSchema != nil {
		if err := cfg.CheckSchema(ctx, s.control); err != nil {
			return err
		}
	}
	record, found, err := checkpoint.Load(ctx, s.control, cfg.Schema, cfg.WAL.Slot)
	if err != nil {
		return err
	}
	if s.table, err = outbox.Describe(ctx, s.control, cfg.Outbox); err != nil {
		return err
	}
	if !found {
		// A new slot waits for all transactions that are open; what comes after it has its time anew.
		s.relay.cfg.Log.Info().Str("slot", cfg.WAL.Slot).Msg("first start: a slot that has to be made waits for the transactions that are open")
		if err := s.prepareFirst(patient); err != nil {
			return err
		}
		ctx, cancelOpening = context.WithTimeout(patient, openTimeout)
		defer cancelOpening()
	} else if err := s.prepareSlot(ctx, found); err != nil {
		return err
	}
	source := cfg.WAL
	source.SystemID = record.SystemID
	if s.stream, err = wal.Open(ctx, source, record.Confirmed); err != nil {
		return lostIf(found, err)
	}
	if s.tables, err = s.connect(ctx, tableLockTimeout); err != nil {
		return err
	}
	if s.lease, err = park.Raise(ctx, s.tables, cfg.Schema, cfg.WAL.Slot, cfg.Holder); err != nil {
		return err
	}
	return s.loadRecord(ctx)
}

// untilStop returns a context that also a stop ends: while a session opens there is nothing to drain.
func (r *Relay) untilStop(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	go func() {
		select {
		case <-r.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// tableLockTimeout keeps a settle that waits for a row that the application holds from holding the lease for long: the next
// session could not raise its term.
const tableLockTimeout = "5s"

// connect opens an ordinary connection; lockTimeout is the server's own unless it is set.
func (s *session) connect(ctx context.Context, lockTimeout string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.relay.cfg.WAL.URL)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "outboxd"
	}
	if lockTimeout != "" {
		config.RuntimeParams["lock_timeout"] = lockTimeout
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return conn, nil
}

// prepareFirst is prepareSlot before the first session.
func (s *session) prepareFirst(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	return s.prepareSlot(ctx, false)
}

// prepareSlot verifies the way to the log. Publication and slot are made only before the first session: afterwards one that is missing
// means that a part of the log is lost, which nothing may hide.
func (s *session) prepareSlot(ctx context.Context, found bool) error {
	source := s.relay.cfg.WAL
	if found {
		source.Create = false
		// Where it stands is not compared yet: the instance before may have moved it since the record was read.
		if _, err := wal.SlotStatus(ctx, s.control, source.Slot); err != nil {
			// A standby has not the slots of its primary.
			if _, unfit := wal.Verify(ctx, s.control, source); failsCheck(unfit, wal.CheckPrimary) {
				return unfit
			}
			return lostIf(true, err)
		}
	}
	server, err := wal.Setup(ctx, s.control, source)
	if err != nil {
		return lostIf(found, err)
	}
	for _, warning := range server.Warnings {
		s.relay.cfg.Log.Warn().Msg(warning)
	}
	return nil
}

// lostIf gives a missing or invalidated slot its meaning where a checkpoint says that there was one.
func lostIf(recorded bool, err error) error {
	if recorded && (errors.Is(err, wal.ErrSlotMissing) || errors.Is(err, wal.ErrSlotLost)) {
		return fmt.Errorf("%w: events committed since then are in the table only, with status NEW: "+
			"run outboxd slot create to begin anew from now: %w", ErrSlotLost, err)
	}
	return err
}

func movedError(slot string, confirmed, checkpoint event.LSN) error {
	return fmt.Errorf("%w: slot %q is confirmed at %s, beyond the checkpoint %s; somebody else moved it or made it anew: "+
		"run outboxd slot drop, then outboxd slot create to begin anew from now", ErrSlotLost, slot, confirmed, checkpoint)
}

// loadRecord reads the checkpoint that the session starts from, or begins the first epoch.
func (s *session) loadRecord(ctx context.Context) (err error) {
	cfg := &s.relay.cfg
	var found bool
	s.record, found, err = checkpoint.Load(ctx, s.tables, cfg.Schema, cfg.WAL.Slot)
	if err != nil {
		return err
	}
	if !found {
		first := checkpoint.Record{SystemID: s.stream.SystemID, Timeline: s.stream.Timeline, Confirmed: s.stream.Start}
		s.record, err = checkpoint.NewEpoch(ctx, s.tables, s.lease, first, time.Now())
		return err
	}
	if s.stream.SlotConfirmed > s.record.Confirmed {
		return movedError(cfg.WAL.Slot, s.stream.SlotConfirmed, s.record.Confirmed)
	}
	if s.stream.Timeline == s.record.Timeline {
		return nil
	}
	cfg.Log.Warn().Int32("timeline", s.stream.Timeline).Int32("before", s.record.Timeline).
		Msg("the server was promoted since the slot was first recorded")
	s.timelines, err = wal.TimelineStarts(ctx, cfg.WAL, s.record.Timeline, s.stream.Timeline)
	return err
}
