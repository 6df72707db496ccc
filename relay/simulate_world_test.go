package relay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink/format"
)

const (
	firstXid  = 100
	mostTxs   = 8 // in one history
	forEver   = 1 << 30
	simSweep  = 2 * time.Second
	simSecond = simSweep + time.Millisecond // long enough for everything that waits for a time
)

// world is one history of the simulation: a script of choices, and the models that it moves.
type world struct {
	script []byte // of choices; when it has come to its end, everything works
	off    string // the protection that is switched off; empty: none

	db         *simDatabase
	broker     *simBroker
	relay      *Relay
	publisher  *publisher
	places     []park.Destination
	instances  []*instance // the last has raised the term last; those before were frozen and do not know it
	zombies    []func()    // what ended sessions have sent, and the server may still do
	fate       publishFate // of the batch that is published
	acting     int64       // the term of the session that does something
	lostAnswer bool        // a connection that is cut has its last statement done
	locked     bool        // the application holds the rows of the outbox
	commits    int
	gone       map[string]*simRow // of transactions that a promotion has lost
	acts       []act              // what people did
	reroutes   bool               // processes begin with different routes
	moved      bool               // ... the last with those of mailX

	checked map[string]int // entries of each destination that were found right
	notes   []string       // nil: none are taken
}

// note adds a line to the history, if it is to be read.
func (w *world) note(text string, values ...any) {
	if w.notes != nil {
		w.notes = append(w.notes, fmt.Sprintf(text, values...))
	}
}

// choose takes the next choice of the script, among n.
func (w *world) choose(n int) int {
	if len(w.script) == 0 {
		return 0
	}
	b := w.script[0]
	w.script = w.script[1:]
	return int(b) % n
}

// simRelay is what is the same for all histories.
func simRelay() *Relay {
	cfg := Config{
		Router: simRouter("z"), Routes: "z", BatchMessages: 2, BatchBytes: 1 << 20, Concurrency: 3, PublishTimeout: time.Minute,
		RetryBase: 10 * time.Microsecond, RetryMax: 10 * time.Microsecond, // with jitter less than a step of time
		Table: TableConfig{
			BatchSize: 2, MaxConcurrent: 4, MaxAttempts: 2, BackoffBase: 100 * time.Microsecond, Multiplier: 1,
			Sweep: simSweep, FullSweep: simSweep,
		},
		MaxRetainedWAL: 3 * simTxBytes, MemoryBudget: 1 << 20, CheckpointInterval: 100 * time.Millisecond,
		Outbox: outbox.Config{}.WithDefaults(), Log: zerolog.Nop(), Registry: prometheus.NewRegistry(),
	}
	cfg.largestBatch = cfg.BatchMessages + 1 // so that a turn of the table lane can be two batches
	return New(cfg)
}

// simRouter has routes of which that of mail leads to the destination.
func simRouter(mail string) *route.Router {
	router, err := route.New([]route.Rule{
		{Match: route.Match{Topic: "orders"}, To: []route.Target{{Sink: "a", Destination: "x"}, {Sink: "b", Destination: "y"}}, Blocks: true},
		{Match: route.Match{Topic: "mail"}, To: []route.Target{{Sink: "a", Destination: mail}}},
	}, map[string]route.Kind{"a": route.Redis, "b": route.Redis}, route.Shard{})
	if err != nil {
		panic(err)
	}
	return router
}

// mailX are routes by which mail shares a destination with orders.
var mailX = simRouter("x")

func newWorld(r *Relay, script []byte, off string) *world {
	w := &world{script: script, off: off, checked: map[string]int{}, gone: map[string]*simRow{}}
	w.db = &simDatabase{w: w, rows: map[string]*simRow{}, tailRead: map[park.Destination]event.Position{}, nextXid: firstXid, record: checkpoint.Record{Epoch: 1, Confirmed: 1}, slot: simSlot{confirmed: 1}}
	w.broker = newSimBroker(w)
	w.places = []park.Destination{{}, {Sink: "a", Name: "x"}, {Sink: "a", Name: "z"}, {Sink: "b", Name: "y"}}
	shared := *r
	w.relay = &shared
	w.relay.cfg.Table.MaxKeys = 1 + w.choose(4)
	w.reroutes = w.choose(4) == 3
	encoder, err := format.New(format.Raw, format.Options{})
	if err != nil {
		panic(err)
	}
	w.publisher = &publisher{encoder: encoder, timeout: time.Minute, facts: r.facts, largestBatch: r.cfg.largestBatch}
	return w
}

const simTxBytes = 1000

// commit makes a transaction with a few events.
func (w *world) commit() {
	if w.commits == mostTxs {
		return
	}
	tx := w.begin()
	for range 1 + w.choose(3) {
		kind := w.choose(24)
		topic := []string{"orders", "orders", "orders", "orders", "orders", "mail", "mail", "none"}[kind/3]
		r := w.insert(tx, '1'+byte(kind%3), topic)
		for _, at := range slices.Concat(w.homes(r)...) {
			w.broker.topic(at.Name).poison[string(r.event.ID)] = []int{0, 0, 0, 0, 0, 1, 2, forEver}[w.choose(8)]
		}
	}
}

// begin puts a transaction into the log.
func (w *world) begin() *simTx {
	w.commits++
	n := event.LSN(len(w.db.log) + 1)
	tx := &simTx{commit: n * simTxBytes, end: n*simTxBytes + 8, xid: w.db.xid()}
	w.db.log = append(w.db.log, tx)
	return tx
}

// insert gives the transaction one more event.
func (w *world) insert(tx *simTx, key byte, topic string) *simRow {
	ordinal := len(tx.rows) + 1
	r := &simRow{tx: tx, xmin: tx.xid, status: "NEW", serial: 100*w.commits + ordinal, event: event.Event{
		ID: fmt.Appendf(nil, "%d.%d", w.commits, ordinal), TenantID: []byte("t"), AggregateType: []byte("k"), AggregateID: []byte{key},
		Topic: []byte(topic), Payload: []byte("1"),
		Xid: tx.xid, Position: event.Position{Commit: tx.commit, Ordinal: uint32(ordinal)}, Status: []byte("NEW"),
	}}
	tx.rows = append(tx.rows, r)
	w.db.rows[string(r.event.ID)] = r
	w.note("commit %s of key %c to %s", r.event.ID, key, topic)
	return r
}

// homes says where a row's event goes: to all of one of the lists, by the routes that were in use.
func (w *world) homes(r *simRow) [][]park.Destination {
	switch string(r.event.Topic) {
	case "orders":
		return [][]park.Destination{{{Sink: "a", Name: "x"}, {Sink: "b", Name: "y"}}}
	case "mail":
		if w.reroutes {
			return [][]park.Destination{{{Sink: "a", Name: "z"}}, {{Sink: "a", Name: "x"}}}
		}
		return [][]park.Destination{{{Sink: "a", Name: "z"}}}
	}
	return [][]park.Destination{{{}}}
}

// somewhere tells whether all destinations of one of the lists are so.
func (w *world) somewhere(r *simRow, is func(park.Destination) bool) bool {
	return slices.ContainsFunc(w.homes(r), func(all []park.Destination) bool {
		return !slices.ContainsFunc(all, func(at park.Destination) bool { return !is(at) })
	})
}

// pass lets time pass for all.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	for _, i := range slices.Clone(w.instances) {
		i.core.retryFailed(time.Now())
		i.ask()
	}
}

// some returns one of the instances, mostly the last; nil when there is none.
func (w *world) some() *instance {
	n := len(w.instances)
	if n == 0 {
		return nil
	}
	return w.instances[cmp.Or(min(w.choose(4)+1, n), n)-1]
}
