package relay

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
)

// result says how an event left a destination's queue.
type result int

const (
	resultDelivered result = iota
	resultFound            // its tail or the checkpoint says that it is there already
	resultRejected
	results
)

var resultNames = [results]string{"delivered", "found", "rejected"}

// facts is what the relay knows of itself: the source of /metrics, /status and /readyz. Counters are touched once a batch,
// never once an event, but for receivedEvents and ignoredChanges, which one goroutine owns and which cost an atomic add.
type facts struct {
	receivedEvents  atomic.Uint64
	ignoredChanges  atomic.Uint64
	droppedUnrouted atomic.Uint64
	walEnd          atomic.Uint64 // how far the walsender has read the server's log
	receivedLSN     atomic.Uint64 // taken over by the core
	safeLSN         atomic.Uint64
	stoppedAt       atomic.Uint64 // commit LSN of the event that stops the stream, until it is safe; 0: none
	sentLSN         atomic.Uint64 // confirmed to the server
	oldestCommit    atomic.Int64  // microseconds since 1970, 0: nothing waits
	sessions        atomic.Uint64
	budget          atomic.Pointer[budget]
	measured        atomic.Pointer[measured] // nil: nothing is known, as in an instance that stands by
	totals          atomic.Pointer[park.Totals]
	waitingKeys     atomic.Int64
	wholeBacklogs   atomic.Int64
	parkedSince     atomic.Int64 // rows that came to wait since the last sweep, less those that no longer do
	openEvents      atomic.Int64 // of the log, neither delivered nor parked everywhere
	openBreakers    atomic.Int64
	delivered       atomic.Uint64
	retainedLimit   atomic.Int64 // bytes of log at which the server drops the slot; 0: none

	queries *queries
	tenants *tenants

	events    *prometheus.CounterVec
	failures  *prometheus.CounterVec
	publish   *prometheus.HistogramVec
	commitAck *prometheus.HistogramVec
	settling  prometheus.Histogram
	rows      prometheus.Counter

	parkedTotal *prometheus.CounterVec
	deadEvents  prometheus.Counter
	lostAt      prometheus.Gauge
	breakers    *prometheus.GaugeVec

	mu      sync.Mutex // guards what follows; held for a few instructions, never across I/O
	state   State
	since   time.Time
	reason  string
	failing map[*failure]Blocked
	term    int64
	epoch   uint32
}

func (f *facts) received(lsn event.LSN) {
	if uint64(lsn) > f.receivedLSN.Load() {
		f.receivedLSN.Store(uint64(lsn))
	}
}

func (f *facts) count(sinkName string, r result, n int) {
	if n > 0 {
		f.events.WithLabelValues(sinkName, resultNames[r]).Add(float64(n))
	}
	if n > 0 && r == resultDelivered {
		f.delivered.Add(uint64(n))
	}
}

func (f *facts) parkedEvents(sinkName string, n int) {
	if n > 0 {
		f.parkedTotal.WithLabelValues(sinkName).Add(float64(n))
	}
}

func (f *facts) brokerDown(sinkName string, down bool) {
	f.breakers.WithLabelValues(sinkName).Set(oneIf(down))
}

// published notes one publish. What comes from the table lane says nothing of the way from the commit.
func (f *facts) published(sinkName string, took, sinceCommit time.Duration, table bool) {
	f.publish.WithLabelValues(sinkName).Observe(took.Seconds())
	if table {
		return
	}
	f.commitAck.WithLabelValues(sinkName).Observe(sinceCommit.Seconds())
}

func (f *facts) settled(n int, took time.Duration) {
	f.rows.Add(float64(n))
	f.settling.Observe(took.Seconds())
}

func (f *facts) failed(fail *failure, class sink.Class) {
	f.failures.WithLabelValues(fail.sink, class.String()).Inc()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failing[fail] = Blocked{
		Sink: fail.sink, Destination: fail.name, Since: fail.since, Attempts: fail.attempts, Error: fail.err.Error(),
	}
}

func (f *facts) recovered(fail *failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.failing, fail)
}

// stopped notes that an event stops the stream.
func (f *facts) stopped(e *StoppedError) {
	f.stoppedAt.Store(uint64(e.Position.Commit))
	f.enter(StateStopped, e.Error())
}

// progressed notes that everything up to safe is settled. Only past the event that stopped the stream is it active again: a
// session that has come no further is one more try.
func (f *facts) progressed(safe event.LSN) {
	f.safeLSN.Store(uint64(safe))
	if at := f.stoppedAt.Load(); at != 0 && uint64(safe) > at {
		f.stoppedAt.Store(0)
		f.enter(StateActive, "")
	}
}

// opened notes that a session is open.
func (f *facts) opened(term int64, epoch uint32) {
	f.sessions.Add(1)
	if f.stoppedAt.Load() == 0 {
		f.enter(StateActive, "")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.term, f.epoch = term, epoch
	f.learnt(func(m *measured) { m.active, m.lost, m.logEnd = true, false, 0 }) // it may be another server's
}

// ended notes that a session no longer streams; what it knew last stays.
func (f *facts) ended() {
	f.queries.closed()
	f.learnt(func(m *measured) { m.active = false })
}

// slotLost notes that the log since the checkpoint is lost.
func (f *facts) slotLost() {
	f.lostAt.SetToCurrentTime()
	f.measured.CompareAndSwap(nil, &measured{})
	f.learnt(func(m *measured) { m.active, m.lost = false, true })
}

// learnt changes what is known of the slot between two measurements, where anything is. Only the goroutine of Run calls it.
func (f *facts) learnt(change func(*measured)) {
	if m := f.measured.Load(); m != nil {
		now := *m
		change(&now)
		f.measured.Store(&now)
	}
}

func (f *facts) enter(s State, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.reason, f.since = s, reason, time.Now()
	if s != StateActive && s != StateDraining {
		clear(f.failing)
		f.openBreakers.Store(0)
		f.openEvents.Store(0)
	}
	if s == StateStandby {
		f.measured.Store(nil) // another instance knows
		f.totals.Store(nil)
		f.parkedSince.Store(0)
	}
}

// blocked returns what fails at the moment, the longest first.
func (f *facts) blocked() []Blocked {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.AppendSeq(make([]Blocked, 0, len(f.failing)), maps.Values(f.failing)) // [] in JSON, not null
	slices.SortFunc(all, func(a, b Blocked) int { return a.Since.Compare(b.Since) })
	return all
}
