package relay

import (
	"fmt"
	"slices"
	"time"

	"github.com/outboxd/outboxd/park"
)

// act is what a person did to an event at a destination.
type act struct {
	kind string // skip, or retry of an event that later ones have passed
	id   string
	at   park.Destination
	term int64 // of the session that was the last one then
}

// person retries, skips or replays something by a command, or changes the row of the outbox by hand.
func (w *world) person() {
	switch w.choose(6) {
	case 0, 1:
		w.retryDead()
	case 2:
		w.skip()
	case 3:
		w.replay()
	default:
		w.reset()
		return // the sweep finds it
	}
	if i := w.active(); i != nil && w.off != "commands are heard" {
		i.pending = append(i.pending, i.command())
	}
}

// command is word of a command, that comes by the connection which the session watches.
func (i *instance) command() *pending {
	var err error
	return &pending{name: "hears of a command", run: func() {}, lose: func() { err = errSimCut }, then: func() error {
		i.core.nudged()
		return err
	}}
}

// decided are the parked rows that wait for a person or may still change, but for those that have landed and are dead all the same.
func (w *world) decided(states ...park.State) (rows []*park.Row) {
	for _, p := range w.db.parked {
		if r := w.db.rows[string(p.Event.ID)]; slices.Contains(states, p.State) && p.Destination.Sink != "" && (p.Replay > 0 || !w.landed(r, p.Destination)) {
			rows = append(rows, p)
		}
	}
	return rows
}

// retryDead is a person who lets dead events be tried again, and has mended what is wrong with some of them.
func (w *world) retryDead() {
	for _, p := range w.decided(park.Dead) {
		if !p.Blocks {
			w.did("retry", p)
		}
		p.State, p.Attempts, p.Due, p.Blocks = park.Waiting, 0, time.Time{}, false
		w.broker.topic(p.Destination.Name).poison[string(p.Event.ID)] = w.choose(2) * forEver
		w.note("a person retries %s at %s", p.Event.ID, p.Destination)
	}
}

// skip is a person who decides that an event is not delivered.
func (w *world) skip() {
	rows := w.decided(park.Waiting, park.Dead)
	if len(rows) == 0 {
		return
	}
	p := rows[w.choose(len(rows))]
	w.note("a person skips %s at %s", p.Event.ID, p.Destination)
	w.did("skip", p)
	p.State, p.Blocks = park.Skipped, false
	if w.off == "skipped rows stay" {
		w.db.parked = slices.DeleteFunc(w.db.parked, func(other *park.Row) bool { return other == p })
	}
}

func (w *world) did(kind string, p *park.Row) {
	if p.Replay == 0 {
		w.acts = append(w.acts, act{kind, string(p.Event.ID), p.Destination, w.db.term})
	} else if kind == "skip" {
		w.db.rows[string(p.Event.ID)].loose = true
	}
}

// sent are rows that are delivered and of which nothing is parked.
func (w *world) sent() (rows []*simRow) {
	for _, r := range w.db.inOrder() {
		if r.tx.end <= w.db.passed() && r.tx.visible && r.status == "SENT" && !w.db.isParked(string(r.event.ID)) && string(r.event.Topic) != "none" {
			rows = append(rows, r)
		}
	}
	return rows
}

// anySent is one of them, nil where there is none.
func (w *world) anySent() *simRow {
	rows := w.sent()
	if len(rows) == 0 {
		return nil
	}
	return rows[w.choose(len(rows))]
}

// replay is a person who wants an event delivered once more.
func (w *world) replay() {
	r := w.anySent()
	if r == nil {
		return
	}
	w.note("a person replays %s", r.event.ID)
	row := r.read()
	parked := rowsOf(&w.relay.cfg, &row)
	w.db.replays++
	park.NumberReplays(parked, w.db.replays)
	r.replays++
	w.db.add(parked)
}

// reset is somebody who sets a row back to NEW.
func (w *world) reset() {
	r := w.anySent()
	if r == nil {
		return
	}
	w.note("somebody sets %s back to NEW", r.event.ID)
	w.db.set(r, "NEW")
	r.replays++
	r.reset = true
}

func (w *world) skipped(r *simRow, at park.Destination) bool {
	return w.acted("skip", string(r.event.ID), at)
}

// excused tells whether the event may come behind later ones of its key: they have passed it while it was dead.
func (w *world) excused(r *simRow, at park.Destination) bool {
	return r.loose || w.acted("retry", string(r.event.ID), at)
}

func (w *world) acted(kind, id string, at park.Destination) bool {
	return slices.ContainsFunc(w.acts, func(a act) bool { return a.kind == kind && a.id == id && a.at == at })
}

// checkActs looks at the n-th entry of a destination: it is no replay that nobody wanted, and nothing that a person had skipped before its session
// began.
func (w *world) checkActs(at park.Destination, n int) {
	t := w.broker.topic(at.Name)
	e := t.entries[n]
	if w.row(e.ID).loose {
		return
	}
	for _, a := range w.acts {
		if a.kind == "skip" && a.id == e.ID && a.at == at && e.Replay == 0 && t.terms[n] > a.term {
			panic(fmt.Sprintf("skip undone: %s at %s", e.ID, at))
		}
	}
	if again := w.replaysAt(e.ID, at); again > w.row(e.ID).replays {
		panic(fmt.Sprintf("doubled: %s is replayed %d times at %s", e.ID, again, at))
	}
}

func (w *world) replaysAt(id string, at park.Destination) (n int) {
	for _, e := range w.broker.topic(at.Name).entries {
		if e.ID == id && e.Replay > 0 {
			n++
		}
	}
	return n
}

// replayed tells whether the event was delivered as many times more as it should, as far as the broker takes it.
func (w *world) replayed(r *simRow, at park.Destination) bool {
	n := w.replaysAt(string(r.event.ID), at)
	for _, p := range w.db.parked {
		if string(p.Event.ID) == string(r.event.ID) && p.Destination == at && p.Replay > 0 && p.State == park.Dead {
			n++
		}
	}
	return n >= r.replays
}
