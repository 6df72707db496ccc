package relay

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// step does what the script says next.
func (w *world) step() {
	switch w.choose(32) {
	case 0, 1, 2:
		w.commit()
	case 3, 4:
		w.show()
	case 5, 6, 7, 8:
		if i := w.some(); i != nil {
			i.receive(1 + w.choose(4))
			i.ask()
		}
	case 9, 10:
		w.pass([]time.Duration{time.Millisecond, 60 * time.Millisecond, 200 * time.Millisecond, simSecond}[w.choose(4)])
	case 11:
		w.crash()
	case 12:
		w.disturb()
	case 13:
		w.linger()
	case 14:
		w.network()
	default:
		w.work()
	}
}

// show makes a transaction visible.
func (w *world) show() {
	if hidden := slices.DeleteFunc(slices.Clone(w.db.log), func(tx *simTx) bool { return tx.visible }); len(hidden) > 0 {
		hidden[w.choose(len(hidden))].visible = true
	}
}

// work finishes something that a session has asked for, or begins a session where there is none.
func (w *world) work() {
	if w.active() == nil {
		w.start(nil)
		return
	}
	i := w.some()
	if len(i.pending) == 0 {
		w.pass(time.Millisecond)
		return
	}
	p := i.pending[w.choose(len(i.pending))]
	w.fate, w.lostAnswer, w.locked = fateLands, false, false
	switch w.choose(12) {
	case 0, 1:
		w.fate = publishFate(w.choose(int(fates)))
	case 2:
		*i.store.limit, w.lostAnswer = w.choose(3), w.choose(2) == 0
	case 3:
		w.locked = true
	}
	i.proceed(p)
	*i.store.limit, w.fate, w.locked = -1, fateLands, false
}

// crash ends a session: the process dies, its connections break, or it is frozen while another takes over.
func (w *world) crash() {
	i := w.active()
	if i == nil {
		return
	}
	kind := w.choose(6)
	w.note("session %d: %s", i.store.term, [...]string{
		"the process dies", "the connection breaks", "is frozen", "the slot is dropped", "a standby takes the server's place", "is asked to stop",
	}[kind])
	switch {
	case kind == 0:
		w.end(i)
	case kind == 5:
		w.stop(i)
	case kind == 1:
		for n := len(i.pending) - 1; n >= 0; n-- { // its publishers end before the next session begins
			if p := i.pending[n]; p.publish || p.tail != "" {
				i.pending = slices.Delete(i.pending, n, n+1)
				if p.publish && !p.ran && w.choose(2) == 0 {
					w.fate, w.acting = publishFate(w.choose(int(fates))), i.store.term
					p.run()
					w.fate = fateLands
				}
			}
		}
		w.end(i)
		if i.database == linkWorks {
			w.start(i.sinks)
		}
	case kind == 3:
		w.end(i)
		w.db.slot.gone = true
		sent := len(w.db.log)
		for _, frozen := range w.instances {
			frozen.cut = cmp.Or(frozen.cut, &sent)
		}
	case kind == 4:
		w.promote()
	case len(w.instances) < 2:
		w.start(nil)
	}
}

// stop lets a session end in order, as far as the time for that allows.
func (w *world) stop(i *instance) {
	i.core.drain(time.Minute)
	i.core.receive(nil, false)
	for range w.choose(40) {
		i.ask()
		if len(i.pending) == 0 || i.core.drained() {
			break
		}
		i.finish(w.choose(len(i.pending)))
		if w.active() != i {
			return // it has ended by an error
		}
	}
	if i.core.finish() == nil && (i.core.clean() || w.off == "end in order known") {
		w.note("session %d leaves nothing behind the checkpoint", i.store.term)
		if err := i.store.saveRouting(context.Background(), nil); err != nil {
			panic(err)
		}
	}
	w.end(i)
}

// disturb changes how the brokers are, or what a person wants.
func (w *world) disturb() {
	switch name := []string{"a", "b"}[w.choose(2)]; w.choose(7) {
	case 0:
		w.broker.down[name] = !w.broker.down[name]
		w.note("broker %s is down: %v", name, w.broker.down[name])
	case 1, 2:
		t := w.broker.topic(w.places[1+w.choose(3)].Name)
		t.refuses = !t.refuses
		w.note("destinations refuse: %v", t.refuses)
	case 3, 4:
		w.person()
	default:
		for _, name := range []string{"x", "y", "z"} {
			w.broker.topic(name).refuses = false
		}
		clear(w.broker.down)
		w.note("brokers work")
	}
}

// linger does something that an ended session has left behind.
func (w *world) linger() {
	if n := len(w.zombies); n > 0 && w.choose(2) == 0 {
		at := w.choose(n)
		run := w.zombies[at]
		w.zombies = slices.Delete(w.zombies, at, at+1)
		w.note("what an ended session has sent is done")
		run()
		return
	}
	if n := len(w.broker.late); n > 0 {
		w.broker.land(w.choose(n))
		return
	}
	w.db.add(w.db.undurable)
	w.db.undurable = nil
}

// run plays the script to its end. It panics with what is wrong.
func (w *world) run() {
	for len(w.script) > 0 {
		w.step()
		w.check()
	}
	w.conclude()
}

// conclude lets everything work until all is done.
func (w *world) conclude() {
	w.note("from here on everything works")
	w.mend()
	for range 40 {
		w.settleDown()
		if w.unfinished() == "" {
			return
		}
		w.pass(simSecond)
	}
	panic("it comes to no end: " + w.unfinished())
}

// mend ends all faults.
func (w *world) mend() {
	for len(w.zombies)+len(w.broker.late)+len(w.db.undurable) > 0 {
		w.linger()
		for len(w.broker.late) > 0 {
			w.broker.land(0)
		}
		w.check()
	}
	w.reconnect()
	clear(w.broker.down)
	for _, t := range w.broker.topics {
		t.refuses = false
	}
	for _, tx := range w.db.log {
		tx.visible = true
	}
	for len(w.instances) > 1 {
		w.end(w.instances[0])
	}
	if w.active() == nil {
		w.start(nil)
	}
}

// settleDown does all that can be done without waiting.
func (w *world) settleDown() {
	for round := 0; ; round++ {
		i := w.active()
		if i == nil {
			w.start(nil)
			i = w.active()
		}
		i.receive(forEver)
		i.ask()
		if len(i.pending) == 0 {
			return
		}
		if round > 1000 {
			panic(fmt.Sprintf("it does the same without end: %s", i.pending[0].name))
		}
		i.finish(0)
		w.check()
	}
}
