package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/decode"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/wal"
)

const (
	resolvesAtOnce = 4  // per sink
	tailsAtOnce    = 16 // per sink
	probesAtOnce   = 4  // per sink
	handovers      = 4  // on their way from the receiver to the core
	spareChunks    = 16
	closeTimeout   = 3 * time.Second
)

// session is one life of the stream: connections, a term, and the memory of what is in flight. Its goroutines end together.
type session struct {
	relay   *Relay
	control *pgx.Conn // opens the session, then watches for the server's shutdown
	started string    // when its server was: all other connections have to lead to that one
	tables  *pgx.Conn // the settler's
	stream  *wal.Stream
	table   *outbox.Table
	lease   lease.Lease
	record  checkpoint.Record

	restored    restored
	maxRetained int64           // max_slot_wal_keep_size in bytes; 0: none
	leftAlone   outbox.Snapshot // rows that it sees are not delivered, or were, while rows were kept

	published    string    // what is published as the table
	swappedUntil event.LSN // where that is not what the slot was read as: what the log holds before is delivered, and then the slot counts as lost

	routing checkpoint.Routing // how events are given to destinations from now on
	unsure  unsure             // ... and what is not known of the sessions before

	timelines []event.LSN // where those began that came since the record was made
}

func (s *session) epochs() epochs { return epochs{first: s.record.Epoch, starts: s.timelines} }

// confirmed is the checkpoint: what stands below it is disposed of everywhere.
func (s *session) confirmed() event.Position {
	return event.Position{Epoch: s.epochs().at(s.record.Confirmed), Commit: s.record.Confirmed}
}

// runSession opens a session and works in it until it ends; the error says why.
func (r *Relay) runSession(ctx context.Context) error {
	s := &session{relay: r}
	defer s.close()
	if err := s.open(ctx); err != nil {
		if r.isStopping() {
			return errStopped
		}
		return err
	}
	r.facts.opened(s.lease.Term, s.epochs().newest())
	r.facts.retainedLimit.Store(s.maxRetained)
	defer r.facts.ended()
	level := zerolog.InfoLevel
	if r.facts.currentState() == StateStopped {
		level = zerolog.DebugLevel // a new try at the event that stops the stream is no good news
	}
	r.cfg.Log.WithLevel(level).Uint32("epoch", s.epochs().newest()).Int64("term", s.lease.Term).
		Stringer("from", s.record.Confirmed).Msg("streaming")
	return s.work(ctx)
}

// close ends the connections; what they had to say was said before.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.stream != nil {
		s.logClose("replication", s.stream.Close(ctx))
	}
	if s.tables != nil {
		s.logClose("table", wal.CloseConn(ctx, s.tables))
	}
	if s.control != nil {
		s.logClose("control", s.control.Close(ctx))
	}
}

func (s *session) logClose(connection string, err error) {
	if err != nil {
		s.relay.cfg.Log.Debug().Err(err).Str("connection", connection).Msg("closed in disorder")
	}
}

// work runs the session's goroutines: it ends when the core or any other has ended, and returns when all have.
func (s *session) work(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	var all sync.WaitGroup
	part := func(run func(context.Context) error) {
		all.Go(func() {
			if err := run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	var confirmed atomic.Uint64
	confirmed.Store(uint64(s.record.Confirmed))
	receiver, core := s.assemble(&confirmed)
	part(receiver.run)
	part(func(ctx context.Context) error { return s.watch(ctx, core.nudge) })
	part(s.settler(core).run)
	clerks := s.clerks(core)
	s.relay.facts.queries.opened(len(clerks) + 1) // and the settler
	for _, k := range clerks {
		part(k.run)
	}
	for _, p := range s.publishers(core) {
		part(p.run)
	}
	err := core.run(ctx)
	if err == nil {
		err = errStopped
	}
	cancel(err) // the receiver confirms what the core allowed last, then all end
	all.Wait()
	if errors.Is(err, errStopped) && core.clean() {
		s.leaveClean()
	}
	if s.swappedUntil > 0 {
		err = s.leaveSwapped(err)
	}
	return err
}

// leaveClean notes that nothing behind the checkpoint was published: the next session may have other routes, and doubts nothing.
func (s *session) leaveClean() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := s.store(s.tables).saveRouting(ctx, nil); err != nil {
		s.relay.cfg.Log.Debug().Err(err).Msg("it is not on record that the session ended in order")
	}
}

// assemble makes the receiver and the core, and the channels between them.
func (s *session) assemble(confirmed *atomic.Uint64) (*receiver, *core) {
	cfg := &s.relay.cfg
	var (
		handed   = make(chan *handover, handovers)
		idle     = make(chan *handover, handovers)
		chunks   = make(chan *chunk, spareChunks)
		draining = make(chan struct{})
		budget   = newBudget(cfg.MemoryBudget)
		facts    = s.relay.facts
		now      = time.Now()
		until    = cfg.Until
	)
	if until == 0 || s.swappedUntil > 0 && s.swappedUntil < until {
		until = s.swappedUntil
	}
	facts.budget.Store(budget)
	r := &receiver{
		stream: s.stream, decoder: decode.New(cfg.WAL.Schema, cfg.WAL.Table, cfg.Columns), budget: budget,
		out: handed, idle: idle, chunks: chunks, facts: facts, interval: cfg.StatusInterval, freshStatus: s.freshStatus(),
		until:     until,
		confirmed: confirmed, draining: draining,
	}
	c := &core{
		cfg: cfg, facts: facts, budget: budget, tracker: checkpoint.NewTracker(s.record.Confirmed),
		start:  s.confirmed(),
		epochs: s.epochs(),
		in:     handed, idle: idle, chunks: chunks,
		requests: make(chan *settlement, 1), settled: make(chan *settlement, 1),
		refusals: cfg.Log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute}),
		confirm:  func(lsn event.LSN) { confirmed.Store(uint64(lsn)) },
		keep:     cfg.Outbox.OnSent == outbox.Keep, stopping: s.relay.stopping.Done(), stopReceiving: func() { close(draining) },
		sinks: make(map[string]*sinkLane), targets: make(map[route.Destination]*target), failing: make(map[*failure]struct{}),
		targetLimit: maxTargets,
		saved:       s.record.Confirmed, saveDue: now, settleMost: settleMost,
		table: s.table, parkedAt: s.restored.at, keysAt: s.restored.keys, allWait: s.restored.whole, parkedStrays: s.restored.strays, leftAlone: s.leftAlone,
		asTable: s.published, swapped: s.swappedUntil > 0, routing: s.routing, unsure: s.unsure, partitions: map[string]int{},
		maxRetained: retainedLimit(cfg.MaxRetainedWAL, s.maxRetained),
		waiting:     make(map[*destination]struct{}), parker: newDesk(1), pollers: newDesk(cfg.Table.MaxConcurrent + 1),
		tasks: make(chan *task, cfg.Table.MaxConcurrent+2), nudge: make(chan struct{}, 1),
	}
	c.sweeping.due = now.Add(min(firstSweep, cfg.Table.Sweep))
	for name, broker := range cfg.Sinks {
		c.sinks[name] = newSinkLane(name, broker, cfg.Concurrency)
		facts.brokerDown(name, false) // the session before may have ended while it was
	}
	c.makeResults()
	c.wakeParked()
	return r, c
}

// retainedLimit is how much log may be held back in an outage: as configured, and well below what PostgreSQL keeps before it drops the slot.
func retainedLimit(configured, keep int64) int64 {
	if keep == 0 {
		return configured
	}
	return min(configured, keep/2)
}

// clerks makes those of both desks.
func (s *session) clerks(c *core) []*clerk {
	var all []*clerk
	for _, d := range []*desk{c.parker, c.pollers} {
		for range d.clerks {
			all = append(all, &clerk{
				connect: s.connectClerk, store: s.store, statements: s.relay.cfg.StatementTimeout,
				todo: d.todo, done: c.tasks, queries: s.relay.facts.queries, log: s.relay.cfg.Log,
			})
		}
	}
	return all
}

// store is what tasks ask of PostgreSQL, by the connection.
func (s *session) store(conn *pgx.Conn) store {
	return database{conn: conn, table: s.table, lease: s.lease, source: s.relay.cfg.WAL}
}

// freshStatus is the status of a row that the log lane delivers; nil when the table has no status column.
func (s *session) freshStatus() []byte {
	if s.relay.cfg.Columns.Status == "" {
		return nil
	}
	return []byte(s.relay.cfg.Outbox.Statuses.New)
}

func newSinkLane(name string, broker sink.Sink, publishes int) *sinkLane {
	s := &sinkLane{name: name, sink: broker}
	s.partitioner, _ = broker.(sink.Partitioner)
	s.concurrency = [jobKinds]int{jobResolve: resolvesAtOnce, jobTail: tailsAtOnce, jobPublish: publishes, jobProbe: probesAtOnce}
	for kind, n := range s.concurrency {
		s.jobs[kind] = make(chan *job, n)
	}
	return s
}

// publishers makes the publishers of every sink.
func (s *session) publishers(c *core) []*publisher {
	cfg := &s.relay.cfg
	var all []*publisher
	for _, lane := range c.sinks {
		for kind, n := range lane.concurrency {
			for range n {
				all = append(all, &publisher{
					jobs: lane.jobs[kind], results: c.results, encoder: cfg.NewEncoder(), timeout: cfg.PublishTimeout,
					facts: s.relay.facts, largestBatch: cfg.largestBatch, atLeastOnce: cfg.AtLeastOnce,
				})
			}
		}
	}
	return all
}

func (s *session) settler(c *core) *settler {
	return &settler{
		store: s.store(s.tables), requests: c.requests, done: c.settled,
		timeout: max(settleTimeout, s.relay.cfg.StatementTimeout+lateness),
		queries: s.relay.facts.queries, log: s.relay.cfg.Log,
	}
}

// watch waits for the control connection to break, and for commands. A server that shuts down ends ordinary connections at once, but waits for
// the replication connection to confirm everything, which it may never do while a broker is down.
func (s *session) watch(ctx context.Context, nudge chan<- struct{}) error {
	for {
		_, err := s.control.WaitForNotification(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("control connection: %w", err)
		}
		select {
		case nudge <- struct{}{}:
		default: // one is on its way
		}
	}
}
