package relay

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// statement is what a piece of database work is for: the label of its times. The set is fixed.
type statement int

const (
	statementOther      statement = iota
	statementSettle               // mark or delete rows that the log lane delivered
	statementCheckpoint           // write the checkpoint
	statementPark                 // park events
	statementLoad                 // load parked events, or what a command changed
	statementDeliver              // settle parked events that were delivered, found or refused
	statementMirror               // show refusals on outbox rows
	statementFinish               // remove what is delivered everywhere
	statementMove                 // give parked events to other destinations
	statementSweep                // one sweep with all its statements
	statementMeasure              // slot and standbys
	statements
)

var statementNames = [statements]string{"other", "settle", "checkpoint", "park", "load", "deliver", "mirror", "finish", "move", "sweep", "measure"}

// queries knows how the session's database work goes. Its methods may be called from any goroutine.
type queries struct {
	times    [statements]prometheus.Observer
	count    atomic.Uint64 // of all statements but sweep and measure, which nothing waits for
	nanos    atomic.Int64  // ... and their time
	held     atomic.Int64  // connections that are always in use: the replication and the control connection
	busy     atomic.Int64  // connections that are at work
	workers  atomic.Int64  // connections that work can be on
	workTime atomic.Int64  // nanoseconds of all work
}

func newQueries(factory promauto.Factory) *queries {
	q := &queries{}
	times := factory.NewHistogramVec(histogram("database_query_seconds",
		"Time of one attempt at a piece of database work, by what it is for: one statement for most, all of them for a sweep."), []string{"statement"})
	for s, name := range statementNames {
		q.times[s] = times.WithLabelValues(name)
	}
	return q
}

// begin notes that a connection is at work; the caller calls done when it no longer is.
func (q *queries) begin(s statement) (done func()) {
	started := time.Now()
	q.busy.Add(1)
	return func() {
		took := time.Since(started)
		q.busy.Add(-1)
		q.times[s].Observe(took.Seconds())
		q.workTime.Add(int64(took))
		if s != statementSweep && s != statementMeasure {
			q.count.Add(1)
			q.nanos.Add(int64(took))
		}
	}
}

// opened notes that a session has its connections, and closed that they are gone.
func (q *queries) opened(workers int) {
	q.held.Store(heldConnections)
	q.workers.Store(int64(workers))
}

func (q *queries) closed() { q.held.Store(0) }

// heldConnections are the replication and the control connection.
const heldConnections = 2

// inUse is how many connections are in use, most how many there can be.
func (q *queries) inUse() int64 { return q.held.Load() + q.busy.Load() }
func (q *queries) most() int64  { return heldConnections + q.workers.Load() }

func (q *queries) status() Database {
	return Database{
		Connections: q.inUse(), ConnectionsMax: q.most(), Workers: q.workers.Load(),
		WorkSeconds: time.Duration(q.workTime.Load()).Seconds(),
		Queries:     q.count.Load(), QuerySeconds: time.Duration(q.nanos.Load()).Seconds(),
	}
}
