package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/wal"
)

// ErrLogLost says that the log between the checkpoint and the slot is gone: the slot was dropped, moved or made anew by
// somebody else.
var ErrLogLost = errors.New("the log since the checkpoint is lost")

const (
	openTimeout   = 30 * time.Second
	createTimeout = time.Hour // of the first slot, which waits for every open transaction
)

// open brings the session to the point where it streams. The order matters: the instance has the lock before it raises the term, so that
// a running one is not cut off by one that only tries; and the checkpoint is read after that, because the instance before may
// have moved it until then.
func (s *session) open(parent context.Context) error {
	patient, cancel := context.WithCancel(parent)
	defer cancel()
	defer context.AfterFunc(s.relay.stopping, cancel)() // while a session opens there is nothing to drain
	if err := s.becomeActive(patient); err != nil {
		return err
	}
	ctx, cancelOpening := context.WithTimeout(patient, openTimeout)
	defer cancelOpening()
	if err := s.prepare(ctx, patient); err != nil {
		return err
	}
	ctx, cancelOpening = context.WithTimeout(patient, openTimeout) // a new slot may have taken its time
	defer cancelOpening()
	if err := s.openStream(ctx); err != nil {
		return err
	}
	return s.keepAlive(patient, s.ready)
}

// keepAlive does what is left of the opening, while the server gets a status at every interval: nothing is received yet, to adopt rows and to read what is
// parked may take longer than wal_sender_timeout, and a stream that is silent for that long is ended. What is confirmed stays where the stream began. When it returns,
// nobody touches the stream.
func (s *session) keepAlive(parent context.Context, rest func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	opened := make(chan struct{})
	var status sync.WaitGroup
	status.Go(func() {
		tick := time.NewTicker(s.relay.cfg.StatusInterval)
		defer tick.Stop()
		for {
			if err := s.stream.Confirm(s.stream.Start); err != nil {
				cancel(err)
				return
			}
			select {
			case <-tick.C:
			case <-opened:
				return
			}
		}
	})
	err := rest(ctx)
	close(opened)
	status.Wait()
	if err != nil && parent.Err() == nil && ctx.Err() != nil {
		return context.Cause(ctx) // why the statement was broken off
	}
	return err
}

// ready takes the session from its open stream to where it can work.
func (s *session) ready(ctx context.Context) error {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := s.takeTerm(opening); err != nil {
		return err
	}
	s.relay.lost = nil
	if err := s.readLeftAlone(); err != nil {
		return err
	}
	if err := s.adopt(ctx, s.store(s.tables)); err != nil {
		return err
	}
	if err := rerouteDoubtful(ctx, &s.relay.cfg, s.store(s.tables)); err != nil {
		return err
	}
	var err error
	if s.maxRetained, err = wal.KeepLimit(ctx, s.tables); err != nil {
		return err
	}
	if s.restored, err = restore(ctx, s.store(s.tables), s.confirmed(), s.relay.cfg.Table.MaxKeys); err != nil {
		return err
	}
	if s.routing, s.unsure, err = openRouting(ctx, s.store(s.tables), &s.record, s.relay.cfg.Routes, s.epochs()); err != nil {
		return err
	}
	if s.unsure.all {
		s.relay.cfg.Log.Info().Stringer("until", s.unsure.until.Commit).
			Msg("a session with other routes did not end in order: what the log holds is parked before it is published, as some may have landed")
	}
	return limitStatements(ctx, s.tables, s.relay.cfg.StatementTimeout)
}

// becomeActive waits until no other instance is active.
func (s *session) becomeActive(patient context.Context) (err error) {
	ctx, cancel := context.WithTimeout(patient, openTimeout)
	defer cancel()
	cfg := &s.relay.cfg
	if s.control, err = s.connect(ctx, ""); err != nil {
		return err
	}
	if s.started, err = wal.Started(ctx, s.control.PgConn()); err != nil {
		return err
	}
	if err := wal.CheckPooler(ctx, s.control, func(ctx context.Context) (*pgx.Conn, error) { return s.connect(ctx, "") }); err != nil {
		return err
	}
	if err := s.admit(ctx); err != nil {
		return err
	}
	alone, err := park.TryLock(ctx, s.control, cfg.Schema, cfg.WAL.Slot)
	if err != nil || alone {
		s.relay.locked = s.relay.locked || alone
		return err
	}
	if cfg.Until > 0 && !s.relay.locked { // else it is our own session before, which the server has not ended yet
		return ErrOtherActive
	}
	if s.relay.facts.currentState() != StateStandby {
		cfg.Log.Info().Msg("another instance is active; standing by")
	}
	s.relay.facts.enter(StateStandby, "another instance is active")
	if err := park.Lock(patient, s.control, cfg.Schema, cfg.WAL.Slot); err != nil {
		return err
	}
	return s.admit(patient) // the wait may have been long enough for a migration
}

func (s *session) admit(ctx context.Context) error {
	if s.relay.cfg.Admit == nil {
		return nil
	}
	return s.relay.cfg.Admit(ctx, s.control)
}

// prepare makes sure that there is a slot with its record: the first one, a new one in the place of one that was lost, or the one
// that is there.
func (s *session) prepare(ctx, patient context.Context) (err error) {
	cfg := &s.relay.cfg
	if s.published, err = wal.Published(ctx, s.control, cfg.WAL); err != nil { // before it is verified
		return err
	}
	if s.table, err = outbox.Describe(ctx, s.control, cfg.Outbox); err != nil {
		return err
	}
	var found bool
	if s.record, found, err = checkpoint.Load(ctx, s.control, cfg.Schema, cfg.WAL.Slot); err != nil {
		return err
	}
	if s.record.Epoch != s.relay.epoch { // another instance has made a new slot since
		s.relay.lost = nil
	}
	s.relay.epoch = s.record.Epoch
	switch {
	case s.relay.lost != nil, !found && cfg.WAL.Create:
		return s.begin(patient, found)
	default:
		return s.prepareSlot(ctx, found)
	}
}

// openStream opens the stream at the checkpoint.
func (s *session) openStream(ctx context.Context) (err error) {
	source := s.relay.cfg.WAL
	source.SystemID, source.Timeline, source.Started = s.record.SystemID, s.record.Timeline, s.started
	s.stream, err = wal.Open(ctx, source, s.record.Confirmed)
	return lostIf(s.record.Epoch > 0, err)
}

// takeTerm raises the term, hears of commands from then on, and reads the record, which nobody else moves any more.
func (s *session) takeTerm(ctx context.Context) error {
	if err := s.raise(ctx); err != nil {
		return err
	}
	if _, err := s.control.Exec(ctx, "LISTEN "+pgx.Identifier{park.Channel(s.relay.cfg.WAL.Slot)}.Sanitize()); err != nil {
		return fmt.Errorf("listen for commands: %w", err)
	}
	return s.loadRecord(ctx)
}

// raise opens the connection for writing and raises the term, once a session.
func (s *session) raise(ctx context.Context) (err error) {
	if s.tables != nil {
		return nil
	}
	if s.tables, err = s.connect(ctx, tableLockTimeout); err != nil {
		return err
	}
	if s.lease, err = park.Raise(ctx, s.tables, s.relay.cfg.Schema, s.relay.cfg.WAL.Slot, s.relay.cfg.Holder); err != nil {
		return err
	}
	for _, broker := range s.relay.cfg.Sinks {
		if b, ok := broker.(sink.SessionSink); ok {
			b.BeginSession()
		}
	}
	return nil
}

// tableLockTimeout keeps a settle that waits for a row that the application holds from holding the lease for long: the next
// session could not raise its term.
const tableLockTimeout = "5s"

// connect opens an ordinary connection: one that waits for the lock and listens, or, with a lock timeout, one that works on the tables.
func (s *session) connect(ctx context.Context, lockTimeout string) (*pgx.Conn, error) {
	cfg := &s.relay.cfg
	config, err := cfg.WAL.SessionConfig()
	if err != nil {
		return nil, err
	}
	if lockTimeout != "" {
		config.RuntimeParams["lock_timeout"] = lockTimeout
		// A plan that was made while the table of parked events was empty would read the whole of it when it no longer is.
		config.RuntimeParams["enable_seqscan"] = "off"
		if !cfg.JIT {
			config.RuntimeParams["jit"] = "off"
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", wal.ThroughPooler(err))
	}
	if err := wal.LiftLimits(ctx, conn.PgConn()); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	if err := wal.SameServer(ctx, conn.PgConn(), s.started); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// connectClerk opens a clerk's connection.
func (s *session) connectClerk(ctx context.Context) (*pgx.Conn, error) {
	conn, err := s.connect(ctx, tableLockTimeout)
	if err != nil {
		return nil, err
	}
	if err := limitStatements(ctx, conn, s.relay.cfg.StatementTimeout); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// limitStatements lets the server end statements that take longer; 0 stands for its own limit. It is set when a session has opened: adopting
// older rows and reading what is parked may take their time.
func limitStatements(ctx context.Context, conn *pgx.Conn, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	set := `RESET statement_timeout`
	if limit > 0 {
		set = fmt.Sprintf(`SET statement_timeout = %d`, limit.Milliseconds())
	}
	if _, err := conn.Exec(ctx, set); err != nil {
		return fmt.Errorf("limit the time of statements: %w", err)
	}
	return nil
}

// lost puts on record that the log is lost, though the slot is there, and why, and returns ErrLogLost.
func lost(ctx context.Context, s store, why string) error {
	if err := s.saveLost(ctx, why); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", ErrLogLost, why)
}

// prepareSlot verifies the way to the log. Publication and slot are made only before the first session: afterwards one that is missing
// means that a part of the log is lost, which nothing may hide.
func (s *session) prepareSlot(ctx context.Context, found bool) error {
	source := s.relay.cfg.WAL
	if why := s.record.Lost; why != "" && (why != lostToASwap || !s.otherTable()) { // else what the log holds is delivered first
		return fmt.Errorf("%w: %s", ErrLogLost, why)
	}
	if found {
		source.Create = false
		// Where it stands is not compared yet: the instance before may have moved it since the record was read.
		if _, err := wal.SlotStatus(ctx, s.control, source.Slot); err != nil {
			_, unfit := wal.Verify(ctx, s.control, source)
			switch {
			case failsCheck(unfit, wal.CheckPrimary): // a standby has not the slots of its primary
				return unfit
			case failsCheck(unfit, wal.CheckLayout): // reshard has dropped the slot
				return failedChecks(unfit, func(c wal.Check) bool { return c == wal.CheckLayout })
			}
			return lostIf(true, err)
		}
	}
	server, err := wal.Setup(ctx, s.control, source)
	if err := s.comparePublished(ctx, server, err); err != nil {
		return err
	}
	if err != nil {
		return lostIf(found, err)
	}
	LogFindings(s.relay.cfg.Log, server)
	return nil
}

// LogFindings logs what a verified server has to look at.
func LogFindings(log zerolog.Logger, server *wal.Server) {
	for _, warning := range server.Warnings {
		log.Warn().Str("finding", warning).Msg("PostgreSQL has something to look at; outboxd goes on")
	}
}

// lostIf gives a missing or invalidated slot its meaning where a checkpoint says that there was one.
func lostIf(recorded bool, err error) error {
	if recorded && (errors.Is(err, wal.ErrSlotMissing) || errors.Is(err, wal.ErrSlotLost)) {
		return fmt.Errorf("%w: events committed since then are in the table only: %w", ErrLogLost, err)
	}
	return err
}

func movedError(slot string, confirmed, checkpoint event.LSN) error {
	return fmt.Errorf("%w: slot %q is confirmed at %s, beyond the checkpoint %s; somebody else moved it or made it anew",
		ErrLogLost, slot, confirmed, checkpoint)
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
		first := checkpoint.Record{SystemID: s.stream.SystemID, Timeline: s.stream.Timeline, Confirmed: s.stream.Start, Published: s.published}
		if first.SkippedSnapshot, err = outbox.ReadSlotSnapshot(ctx, s.tables, cfg.WAL.Slot); err != nil {
			return err
		}
		s.record, err = checkpoint.NewEpoch(ctx, s.tables, s.lease, first, time.Now())
		return err
	}
	if s.stream.SlotConfirmed > s.record.Confirmed {
		return movedError(cfg.WAL.Slot, s.stream.SlotConfirmed, s.record.Confirmed)
	}
	if s.record.Published == "" { // it was not known, or a person has removed it: what is there is taken for the same
		if err := checkpoint.SavePublished(ctx, s.tables, s.lease, s.published); err != nil {
			return err
		}
	}
	if s.stream.Timeline != s.record.Timeline {
		cfg.Log.Warn().Int32("timeline", s.stream.Timeline).Int32("before", s.record.Timeline).
			Msg("the server was promoted since the slot was first recorded")
	}
	s.timelines, err = s.stream.TimelineStarts(s.record.Timeline)
	return err
}
