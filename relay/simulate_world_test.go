package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
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
	router, err := route.New([]route.Rule{
		{Match: route.Match{Topic: "orders"}, To: []route.Target{{Sink: "a", Destination: "x"}, {Sink: "b", Destination: "y"}}, Blocks: true},
		{Match: route.Match{Topic: "mail"}, To: []route.Target{{Sink: "a", Destination: "z"}}},
	}, map[string]route.Kind{"a": route.Redis, "b": route.Redis})
	if err != nil {
		panic(err)
	}
	cfg := Config{
		Router: router, BatchMessages: 3, BatchBytes: 1 << 20, Concurrency: 3, PublishTimeout: time.Minute,
		RetryBase: 10 * time.Microsecond, RetryMax: 10 * time.Microsecond, // with jitter less than a step of time
		Table: TableConfig{
			BatchSize: 2, MaxConcurrent: 4, MaxAttempts: 2, BackoffBase: 100 * time.Microsecond, Multiplier: 1,
			Sweep: simSweep, FullSweep: simSweep,
		},
		MaxRetainedWAL: 3 * simTxBytes, MemoryBudget: 1 << 20, CheckpointInterval: 100 * time.Millisecond,
		Outbox: outbox.Config{}.WithDefaults(), Log: zerolog.Nop(), Registry: prometheus.NewRegistry(),
	}
	cfg.largestBatch = cfg.BatchMessages
	return New(cfg)
}

func newWorld(r *Relay, script []byte, off string) *world {
	w := &world{script: script, off: off, checked: map[string]int{}, gone: map[string]*simRow{}}
	w.db = &simDatabase{w: w, rows: map[string]*simRow{}, nextXid: firstXid, record: checkpoint.Record{Epoch: 1, Confirmed: 1}, slot: simSlot{confirmed: 1}}
	w.broker = newSimBroker(w)
	w.places = []park.Destination{{}, {Sink: "a", Name: "x"}, {Sink: "a", Name: "z"}, {Sink: "b", Name: "y"}}
	shared := *r
	w.relay = &shared
	w.relay.cfg.Table.MaxKeys = 1 + w.choose(4)
	encoder, err := format.New(format.Raw, format.Options{})
	if err != nil {
		panic(err)
	}
	w.publisher = &publisher{encoder: encoder, timeout: time.Minute, facts: r.facts, largestBatch: r.cfg.largestBatch}
	return w
}

// instance is a session of a process, without its goroutines: the world moves its core, and does what that asks for.
type instance struct {
	w         *world
	core      *core
	sinks     map[string]sink.Sink
	store     simStore
	confirmed atomic.Uint64
	pending   []*pending
	tx, row   int  // what is received next
	cut       *int // so much of the log has its slot sent before it was dropped; nil: it was not
}

// pending is something that the core has asked for.
type pending struct {
	name    string
	publish bool
	tail    string       // the destination whose tail is read
	run     func()       // does it
	then    func() error // gives the core what came of it
}

// start begins a session: of a new process, or the next one of the last. It may end while it opens.
func (w *world) start(process map[string]sink.Sink) {
	if process == nil {
		process = map[string]sink.Sink{}
		for _, name := range []string{"a", "b"} {
			process[name] = &simSink{broker: w.broker, name: name, fences: map[string]int{}}
		}
	}
	w.db.term++
	unlimited := -1
	i := &instance{w: w, sinks: process, store: simStore{w.db, w.db.term, &unlimited}}
	r := *w.relay
	r.cfg.Sinks = process
	s := &session{relay: &r, table: &outbox.Table{}, lease: event.Lease{Term: w.db.term}, record: w.db.load()}
	if w.off != "epochs of timelines" {
		s.timelines = w.db.timelines
	}
	if err := w.open(s, i.store); err != nil {
		w.note("session %d ends while it opens: %v", w.db.term, err)
		return
	}
	confirmed := s.record.Confirmed
	i.confirmed.Store(uint64(confirmed))
	_, i.core = s.assemble(&i.confirmed)
	i.tx = slices.IndexFunc(w.db.log, func(tx *simTx) bool { return tx.end > confirmed })
	if i.tx < 0 {
		i.tx = len(w.db.log)
	}
	w.note("session %d starts at %s", w.db.term, confirmed)
	w.instances = append(w.instances, i)
	i.ask()
}

// ask lets the core hand out work, and gathers it.
func (i *instance) ask() {
	i.core.dispatchTable(time.Now())
	i.tidy()
	i.core.dispatch()
	var asked []*pending
	for _, s := range i.core.sinks {
		for kind := range s.jobs {
			for len(s.jobs[kind]) > 0 {
				asked = append(asked, i.job(<-s.jobs[kind]))
			}
		}
	}
	for _, d := range []*desk{i.core.parker, i.core.pollers} {
		for len(d.todo) > 0 {
			asked = append(asked, i.task(<-d.todo))
		}
	}
	if len(i.core.requests) > 0 {
		asked = append(asked, i.settlement(<-i.core.requests))
	}
	slices.SortStableFunc(asked, func(a, b *pending) int { return strings.Compare(a.name, b.name) })
	i.pending = append(i.pending, asked...)
	if confirmed := event.LSN(i.confirmed.Load()); i == i.w.active() && confirmed > i.w.db.slot.confirmed {
		i.w.db.slot.confirmed = confirmed
	}
}

// tidy brings what waits for work in an order that no map has made, so that a seed has one history.
func (i *instance) tidy() {
	byName := func(a, b *destination) int { return strings.Compare(a.name, b.name) }
	for _, s := range i.core.sinks {
		for _, l := range []*line{&s.unread, &s.ready, &s.lent} {
			slices.SortStableFunc(l.healthy, byName)
			slices.SortStableFunc(l.suspect, byName)
		}
		slices.SortStableFunc(s.parks, byName)
		slices.SortStableFunc(s.probes, func(a, b probe) int { return strings.Compare(a.name, b.name) })
	}
}

func (i *instance) job(j *job) *pending {
	p := &pending{
		publish: j.kind == jobPublish,
		run:     func() { i.w.publisher.do(context.Background(), j) },
		then:    func() error { i.core.finished(j); return nil },
	}
	p.name = [...]string{"resolve", "tail", "publish", "probe"}[j.kind] + " " + j.sink.name + " " + j.probe.name
	if j.kind == jobTail {
		p.tail = j.spans[0].destination.name
	}
	for _, s := range j.spans {
		p.name += " " + s.destination.name
	}
	return p
}

func (i *instance) task(t *task) *pending {
	return &pending{
		name: strings.TrimSpace(t.name + " " + t.at.Name),
		run:  func() { t.err = t.run(context.Background(), i.store) },
		then: func() error { return i.core.taskDone(t) },
	}
}

func (i *instance) settlement(r *settlement) *pending {
	s := &settler{store: i.store, timeout: time.Minute, queries: i.w.relay.facts.queries}
	return &pending{
		name: "settle and save",
		run:  func() { r.err = s.once(context.Background(), r) },
		then: func() error { return i.core.settlementDone(r) },
	}
}

// active is the session that has the term; nil when there is none.
func (w *world) active() *instance {
	if n := len(w.instances); n > 0 && w.instances[n-1].store.term == w.db.term {
		return w.instances[n-1]
	}
	return nil
}

// receive hands over the next events of the log, n at most, as the receiver does.
func (i *instance) receive(n int) {
	log := i.w.db.log
	if i.cut != nil {
		log = log[:*i.cut]
	}
	c := &chunk{}
	h := &handover{chunk: c}
	for i.tx < len(log) && len(c.entries) < n {
		tx := log[i.tx]
		if i.row == 0 {
			h.marks = append(h.marks, mark{kind: markBegin, at: len(c.entries), time: time.Now().UnixMicro()})
		}
		e := tx.rows[i.row].event
		c.entries = append(c.entries, entry{event: e, chunk: c, commitTime: time.Now().UnixMicro()})
		if i.row++; i.row == len(tx.rows) {
			h.marks = append(h.marks, mark{kind: markCommit, at: len(c.entries), lsn: tx.end})
			i.tx, i.row = i.tx+1, 0
		}
	}
	if i.row == 0 && i.tx == len(log) && i.cut == nil {
		h.marks = append(h.marks, mark{kind: markKeepalive, at: len(c.entries), lsn: i.w.db.end()})
	}
	h.entries = c.entries
	h.marks = append(h.marks, mark{kind: markChunkFull, at: len(c.entries)})
	if len(c.entries) > 0 {
		i.w.note("session %d receives %d events", i.store.term, len(c.entries))
	}
	i.core.receive(h, true)
}

// finish does something that the core has asked for, and tells it.
func (i *instance) finish(n int) {
	p := i.pending[n]
	i.pending = slices.Delete(i.pending, n, n+1)
	i.w.acting = i.store.term
	p.run()
	i.w.note("session %d: %s", i.store.term, p.name)
	if err := p.then(); err != nil {
		i.w.note("session %d ends: %v", i.store.term, err)
		if !errors.Is(err, event.ErrTermLost) && !errors.Is(err, errSimCut) {
			panic(fmt.Sprintf("a session ends: %v", err))
		}
		i.w.end(i)
		return
	}
	i.ask()
}

// end ends a session. Statements that it has sent may still be done, batches may still land, and a late reading of a tail may fence off the
// next session.
func (w *world) end(i *instance) {
	w.instances = slices.DeleteFunc(w.instances, func(other *instance) bool { return other == i })
	w.acting = i.store.term
	for _, p := range i.pending {
		switch {
		case p.publish:
			w.fate = fateLate
			p.run()
			w.fate = fateLands
		case p.tail != "":
			w.zombies = append(w.zombies, func() { w.broker.topic(p.tail).fence++ })
		default:
			w.zombies = append(w.zombies, p.run)
		}
	}
	i.pending = nil
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
		for _, at := range w.destinations(r) {
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

// destinations says where a row's event goes, by the routes of simRelay.
func (w *world) destinations(r *simRow) []park.Destination {
	switch string(r.event.Topic) {
	case "orders":
		return []park.Destination{{Sink: "a", Name: "x"}, {Sink: "b", Name: "y"}}
	case "mail":
		return []park.Destination{{Sink: "a", Name: "z"}}
	}
	return []park.Destination{{}}
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
