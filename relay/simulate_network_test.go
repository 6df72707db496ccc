package relay

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/outboxd/outboxd/sink"
)

// link is what the network does on the way between an instance and PostgreSQL, or the brokers.
type link int

const (
	linkWorks link = iota
	linkCut        // nothing comes through: calls hang until their deadline, and may arrive behind it
	linkDeaf       // calls arrive, and their answers do not
	links
)

// network breaks a way of an instance, or mends all of them. The server may give up the session, so that another instance takes over.
func (w *world) network() {
	i := w.some()
	if i == nil {
		return
	}
	if w.choose(4) == 0 {
		w.reconnect()
		return
	}
	how := link(1 + w.choose(int(links)-1))
	way := w.choose(3)
	if way != 1 {
		i.database = how
	}
	if way != 0 {
		i.brokers = how
	}
	w.note("session %d: %s of %s are lost", i.store.term, [...]string{"", "calls", "answers"}[how], [...]string{"PostgreSQL", "the brokers", "PostgreSQL and the brokers"}[way])
	if i == w.active() && i.database != linkWorks && w.choose(2) == 0 && len(w.instances) < 2 {
		w.start(nil)
	}
}

// reconnect mends all ways.
func (w *world) reconnect() {
	w.note("the network works")
	for _, i := range w.instances {
		i.database, i.brokers = linkWorks, linkWorks
	}
}

// way is the one that a call takes.
func (i *instance) way(p *pending) link {
	if p.broker {
		return i.brokers
	}
	return i.database
}

// proceed lets a call arrive, its answer come back, or its deadline pass.
func (i *instance) proceed(p *pending) {
	way := i.way(p)
	switch {
	case p.ran, way == linkCut && i.w.choose(3) == 0:
		i.answer(p)
	case way == linkCut: // it hangs
	default:
		i.arrive(p)
		if way == linkWorks && i.w.choose(4) < 3 {
			i.answer(p)
		}
	}
}

// arrive lets a call be done.
func (i *instance) arrive(p *pending) {
	i.w.acting = i.store.term
	p.run()
	p.ran = true
	i.w.note("session %d: %s", i.store.term, p.name)
}

// answer gives the core the answer of a call, or what it takes for one at the call's deadline.
func (i *instance) answer(p *pending) {
	i.pending = slices.DeleteFunc(i.pending, func(other *pending) bool { return other == p })
	if i.way(p) != linkWorks {
		i.w.note("session %d: no answer: %s", i.store.term, p.name)
		if !p.ran {
			i.leave(p)
		}
		p.lose()
	}
	if err := p.then(); err != nil {
		i.fails(err)
		return
	}
	i.ask()
}

// noAnswer is what a job brings whose answer does not come before its deadline. The connection is given up with it.
func (i *instance) noAnswer(j *job) {
	err := &sink.Error{Class: sink.Unavailable, Err: errors.New("no answer before the deadline")}
	switch i.w.choose(3) {
	case 0:
		err.Class = sink.Retry
	case 1:
		err.Broker = true
	}
	j.err, j.refs = err, nil
	if j.kind != jobPublish {
		return
	}
	j.errs = j.errs[:0]
	for range j.items {
		j.errs = append(j.errs, err)
	}
	for _, s := range j.spans {
		delete(i.sinks[j.sink.name].(*simSink).fences, s.destination.name)
	}
}

// leaderIsCutOff: the leader's park of an event hangs. Its successor delivers the event. The network works again, and the park arrives.
func leaderIsCutOff(w *world) {
	w.insert(w.begin(), '1', "mail")
	w.broker.topic("z").poison["1.1"] = 1
	publishes := func() *instance {
		i := w.receiving(1)
		i.finishNamed("tail", "check the term", "publish")
		return i
	}
	leader := publishes()
	leader.database = linkCut
	publishes()
	leader.database = linkWorks
	leader.finishNamed("park events")
}

func TestLeaderThatWasCutOffParksNothingBehindItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if fault, lines := playRare(simRelay(), leaderIsCutOff, ""); fault != "" {
			t.Errorf("%s\n=> %s", strings.Join(lines, "\n"), fault)
		}
		if fault, lines := playRare(simRelay(), leaderIsCutOff, "term"); fault == "" {
			t.Errorf("nothing breaks though no term is checked:\n%s", strings.Join(lines, "\n"))
		}
	})
}
