package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/decode"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/format"
	"github.com/outboxd/outboxd/wal"
)

// Config is what a relay is made of. Everything without a stated default must be set.
type Config struct {
	WAL     wal.Config     // the replication connection, the slot, the publication, the table
	Schema  string         // of outboxd's own tables
	Outbox  outbox.Config  // how delivered rows are settled
	Columns decode.Columns // names of the outbox table's columns
	Holder  string         // who holds the lease: host name and process

	StatementTimeout time.Duration // after which the server ends a statement on the tables; 0: its own limit. Tasks that read much have 15 minutes
	JIT              bool          // let the server compile queries

	// Admit looks at the database at the beginning of each session, before a broker is spoken to. Its error, such as that of a schema
	// of outboxd's own that this program was not made for, ends the session. Nil looks at nothing.
	Admit func(context.Context, *pgx.Conn) error

	Router       *route.Router
	Routes       string               // fingerprint of all that decides an event's destinations; empty: a change goes unnoticed
	DropUnrouted bool                 // drop events that no route matches instead of parking them
	Sinks        map[string]sink.Sink // by name; the caller closes them after Run
	NewEncoder   func() *format.Encoder
	AtLeastOnce  bool // tails are not read: a crash repeats what was in flight

	BatchMessages  int           // in one publish, 1 to sink.MaxBatch
	BatchBytes     int           // in one publish; a single larger event goes alone
	Concurrency    int           // publishes at once, per sink
	PublishTimeout time.Duration // of one call of a sink
	RetryBase      time.Duration // first wait after a failure; doubles each time, with jitter
	RetryMax       time.Duration // longest wait

	Table          TableConfig
	MaxRetainedWAL int64 // bytes of log held back in an outage of a broker, beyond which its events are parked
	StopWhenLost   bool  // a lost slot ends Run, instead of being made anew from the table
	SkipBacklog    bool  // rows older than the first slot are left alone

	// Until ends Run when everything that was committed before this position is disposed of, recorded and confirmed, and nothing that was committed at it
	// or later was published. Run then waits for no other instance. 0: it does not end.
	Until event.LSN

	MemoryBudget       int64 // bytes of events in flight
	StatusInterval     time.Duration
	CheckpointInterval time.Duration
	ShutdownTimeout    time.Duration // for what is in flight when Run is asked to stop

	MeasureInterval time.Duration // between two looks at the slot and the standbys, one statement each; 0: only in an outage
	MaxTenants      int           // with metrics of their own; the others are counted together. 0: no metrics by tenant

	largestBatch int // that may have landed at one destination before it was settled: sink.MaxBatch; the simulation's is smaller

	Log      zerolog.Logger
	Registry prometheus.Registerer
}

// StoppedError says which event stops the stream, because it can never be delivered as it is. Nothing is confirmed past
// it, so nothing is lost; the stream goes on when the cause is gone.
type StoppedError struct {
	ID       string
	Position event.Position
	Tenant   string
	Topic    string
	Cause    error
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("event %s (tenant %s, topic %s) at %s: %v", e.ID, e.Tenant, e.Topic, e.Position, e.Cause)
}

// Unwrap returns the decoder's error.
func (e *StoppedError) Unwrap() error { return e.Cause }

// UnfinishedError says that a stop could not finish everything in time. Nothing is lost: it is delivered after the next start.
type UnfinishedError struct{ Transactions int }

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("%d transactions were not delivered before the shutdown timeout", e.Transactions)
}

// errStopped ends a session because Run was asked to stop, or has come to Config.Until.
var errStopped = errors.New("stopped")

// ErrOtherActive says that another instance is active where Run does not wait for it.
var ErrOtherActive = errors.New("another instance is active: stop all of them, the standbys too")

// Relay streams the outbox to the sinks through both lanes, one session after the other.
type Relay struct {
	cfg      Config
	facts    *facts
	stopping context.Context // ended by stop
	stop     context.CancelFunc
	lastStop string // the last stop that was logged
	lost     error  // the log since the checkpoint is lost, and why: the next session makes a new slot, unless another instance has
	epoch    uint32 // of the record that the last session read, with which the log was lost
	locked   bool   // a session has had the lock
}

// New returns a relay that does nothing until Run.
func New(cfg Config) *Relay {
	cfg.Table.MaxKeys = cmp.Or(cfg.Table.MaxKeys, maxKeys)
	cfg.largestBatch = cmp.Or(cfg.largestBatch, sink.MaxBatch)
	r := &Relay{cfg: cfg, facts: newFacts(cfg.Registry, cfg.MaxTenants)}
	r.stopping, r.stop = context.WithCancel(context.Background())
	r.facts.enter(StateConnecting, "starting")
	promauto.With(cfg.Registry).NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "ready", Help: "1 while /readyz answers 200, 0 while it does not.",
	}, func() float64 { return oneIf(r.Ready() == nil) })
	return r
}

// Stop asks Run to finish what is in flight, for ShutdownTimeout at the longest, and to return. Calling it again does nothing.
func (r *Relay) Stop() { r.stop() }

const (
	sessionRetryBase = 200 * time.Millisecond
	sessionRetryMax  = 5 * time.Second
	healthySession   = 30 * time.Second // a session that lasted so long starts the waits anew
	slotPoll         = 100 * time.Millisecond
)

// Run streams until Stop (nil, or *UnfinishedError when the time was too short), until ctx ends (its cause; what is in flight is cut off), or until
// it finds what only a person can mend: a failed check (*wal.CheckError), a lost slot, a replaced server. Everything else ends a session, and the
// next one starts after a wait: broken connections, restarts of the server, what cannot be decoded. With Config.Until it ends as if Stop had been called
// there, or with ErrOtherActive.
func (r *Relay) Run(ctx context.Context) error {
	waits := backoff.NewExponentialBackOff()
	waits.InitialInterval, waits.MaxInterval = sessionRetryBase, sessionRetryMax
	for {
		started := time.Now()
		err := r.runSession(ctx)
		if isLost(err) {
			r.facts.slotLost()
		}
		switch {
		case r.isStopping():
			return r.stopError(err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case ended(err):
			return r.stopError(err)
		case r.cfg.Until > 0 && isStop(err): // nobody waits there for a person
			return err
		case isLost(err) && r.recovers():
			r.lost = err
			r.cfg.Log.Error().Err(err).Msg("the log since the checkpoint is lost; a new slot is made, and the rows that are still due are taken from the table")
		case fatal(err), r.facts.sessions.Load() == 0 && !passing(err) && !isStop(err):
			return err
		}
		if time.Since(started) > healthySession {
			waits.Reset()
		}
		wait := waits.NextBackOff()
		if errors.Is(err, wal.ErrSlotActive) {
			wait = slotPoll // no other instance is active: its sender is about to end
		}
		r.report(err, wait)
		select {
		case <-time.After(wait):
		case <-r.stopping.Done():
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// recovers tells whether a lost slot is made anew.
func (r *Relay) recovers() bool { return !r.cfg.StopWhenLost && r.cfg.WAL.Create }

func (r *Relay) isStopping() bool { return r.stopping.Err() != nil }

// ended tells whether a session has come to an end of its own.
func ended(err error) bool {
	_, unfinished := errors.AsType[*UnfinishedError](err)
	return unfinished || errors.Is(err, errStopped)
}

// stopError is what remains to be said of a session that ended as it was to: by Stop, or at Config.Until.
func (r *Relay) stopError(err error) error {
	if errors.Is(err, errStopped) {
		return nil
	}
	if _, ok := errors.AsType[*UnfinishedError](err); ok {
		return err
	}
	r.cfg.Log.Warn().Err(err).Msg("the session ended before it was asked to stop; the rest is delivered after the next start")
	return nil
}

func isStop(err error) bool {
	_, ok := errors.AsType[*StoppedError](err)
	return ok
}

// report logs why a session ended, and shows it in the status until the next one is open.
func (r *Relay) report(err error, wait time.Duration) {
	stopped, halted := errors.AsType[*StoppedError](err)
	switch {
	case halted:
		again := r.facts.stoppedAt.Load() != 0
		r.facts.stopped(stopped)
		if again && r.lastStop == err.Error() {
			return
		}
		r.lastStop = err.Error()
		r.cfg.Log.Error().Str("id", stopped.ID).Stringer("position", stopped.Position).Str("tenant", stopped.Tenant).
			Str("topic", stopped.Topic).Err(stopped.Cause).
			Msg("an event cannot be delivered; the stream waits at it and nothing is confirmed past it")
	case errors.Is(err, wal.ErrSlotActive):
		if r.facts.currentState() != StateStandby {
			r.cfg.Log.Info().Err(err).Msg("the slot is still in use; waiting for it")
		}
		r.facts.enter(StateStandby, err.Error())
	default:
		r.facts.stoppedAt.Store(0)
		r.facts.enter(StateConnecting, err.Error())
		r.cfg.Log.Warn().Err(err).Stringer("again_in", wait.Round(time.Millisecond)).Msg("session ended; opening the next one")
	}
}
