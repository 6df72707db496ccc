package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/sink"
)

// instance is a session of a process, without its goroutines: the world moves its core, and does what that asks for.
type instance struct {
	w         *world
	core      *core
	sinks     map[string]sink.Sink
	store     simStore
	confirmed atomic.Uint64
	pending   []*pending
	tx, row   int  // what is received next
	database  link // the way to PostgreSQL
	brokers   link // ... and to the brokers
	cut       *int // so much of the log has its slot sent before it was dropped; nil: it was not
}

// pending is something that the core has asked for.
type pending struct {
	name    string
	broker  bool // it is asked of a broker
	publish bool
	tail    string       // the destination whose tail is read
	run     func()       // does it
	ran     bool         // it is done, and its answer is on its way
	lose    func()       // puts an error in the place of its answer
	then    func() error // gives the core what came of it
}

// start begins a session: of a new process, or the next one of the last. It may end while it opens.
func (w *world) start(process map[string]sink.Sink) {
	if process == nil {
		process = map[string]sink.Sink{}
		for _, name := range []string{"a", "b"} {
			process[name] = &simSink{broker: w.broker, name: name, fences: map[string]int{}}
		}
		w.moved = w.reroutes && w.choose(2) == 1
	}
	w.db.term++
	unlimited := -1
	i := &instance{w: w, sinks: process, store: simStore{w.db, w.db.term, &unlimited}}
	r := *w.relay
	r.cfg.Sinks = process
	if w.moved {
		r.cfg.Router, r.cfg.Routes = mailX, "x"
	}
	s := &session{relay: &r, table: &outbox.Table{}, lease: lease.Lease{Term: w.db.term}, record: w.db.load()}
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
	i.core.settleMost = 2 // so that clerks settle as well
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
	if confirmed := event.LSN(i.confirmed.Load()); i == i.w.active() && i.database == linkWorks && confirmed > i.w.db.slot.confirmed {
		i.w.db.slot.confirmed = confirmed
	}
}

// tidy brings what waits for work in an order that no map has made, so that a seed has one history.
func (i *instance) tidy() {
	byName := func(a, b *destination) int { return strings.Compare(a.name, b.name) }
	slices.SortStableFunc(i.core.settleQueue, func(a, b *entry) int { return a.event.Position.Compare(b.event.Position) })
	for _, s := range i.core.sinks {
		for _, l := range []*line[*destination]{&s.unread, &s.ready, &s.lent} {
			slices.SortStableFunc(l.healthy, byName)
			slices.SortStableFunc(l.suspect, byName)
		}
		slices.SortStableFunc(s.parks, byName)
		for _, probes := range [][]probe{s.probes.healthy, s.probes.suspect} {
			slices.SortStableFunc(probes, func(a, b probe) int { return strings.Compare(a.name, b.name) })
		}
	}
}

func (i *instance) job(j *job) *pending {
	p := &pending{
		broker: true, publish: j.kind == jobPublish,
		lose: func() { i.noAnswer(j) },
		run:  func() { i.w.publisher.do(context.Background(), j) },
		then: func() error { i.core.finished(j); return nil },
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
		lose: func() { t.err = errSimCut },
		then: func() error { return i.core.taskDone(t) },
	}
}

func (i *instance) settlement(r *settlement) *pending {
	s := &settler{store: i.store, timeout: time.Minute, queries: i.w.relay.facts.queries}
	return &pending{
		name: "settle and save",
		run:  func() { r.err = s.once(context.Background(), r) },
		lose: func() { r.err = errSimCut },
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
	if i.database != linkWorks {
		return
	}
	log := i.w.db.log
	if i.cut != nil {
		log = log[:*i.cut]
	}
	h := &handover{}
	c := &chunk{}
	if n = min(n, i.unread(log), int(i.core.budget.limit)/entryBytes); n > 0 {
		c.entries = make([]entry, 0, n)
		if !i.core.budget.take(c.cost(), time.Millisecond) {
			i.w.note("session %d has no memory for %d events", i.store.term, n)
			if i.w.off == "slow destinations make room" {
				i.core.budget.starved.Store(false)
			}
			return
		}
		h.chunk = c
	}
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
	if n > 0 {
		h.marks = append(h.marks, mark{kind: markChunkFull, at: len(c.entries)})
		i.w.note("session %d receives %d events", i.store.term, len(c.entries))
	}
	i.core.receive(h, true)
}

// unread is how many events of the log it has not received.
func (i *instance) unread(log []*simTx) (n int) {
	for at := i.tx; at < len(log); at++ {
		n += len(log[at].rows)
	}
	return n - i.row
}

// finish does something that the core has asked for, and tells it.
func (i *instance) finish(n int) {
	p := i.pending[n]
	if !p.ran {
		i.arrive(p)
	}
	i.answer(p)
}

// fails ends the session with an error that ends one.
func (i *instance) fails(err error) {
	i.w.note("session %d ends: %v", i.store.term, err)
	if !errors.Is(err, lease.ErrTermLost) && !errors.Is(err, errSimCut) {
		panic(fmt.Sprintf("a session ends: %v", err))
	}
	i.w.end(i)
}

// end ends a session. Statements that it has sent may still be done, batches may still land, and a late reading of a tail may fence off the
// next session.
func (w *world) end(i *instance) {
	w.instances = slices.DeleteFunc(w.instances, func(other *instance) bool { return other == i })
	for _, p := range i.pending {
		if !p.ran {
			i.leave(p)
		}
	}
	i.pending = nil
}

// leave leaves something behind that was sent, and that nobody hears of any more.
func (i *instance) leave(p *pending) {
	w := i.w
	w.acting = i.store.term
	switch {
	case p.publish:
		before := w.fate
		w.fate = fateLate
		p.run()
		w.fate = before
	case p.tail != "":
		w.zombies = append(w.zombies, func() { w.broker.topic(p.tail).fence++ })
	default:
		w.zombies = append(w.zombies, p.run)
	}
}
