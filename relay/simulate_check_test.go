package relay

import (
	"fmt"
	"slices"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/park"
)

// check panics where a promise is broken. It reads what the broker holds and what is in the tables, and nothing else.
func (w *world) check() {
	for _, at := range w.places[1:] {
		w.checkOrder(at)
	}
	for _, i := range w.instances {
		if used := i.core.budget.used.Load(); used < 0 || used > i.core.budget.limit {
			panic(fmt.Sprintf("memory: %d of %d bytes are used", used, i.core.budget.limit))
		}
	}
	passed := w.db.passed()
	for _, tx := range w.db.log {
		for _, r := range tx.rows {
			w.checkRow(r, tx.end <= passed)
		}
	}
}

// checkOrder looks at what has come to a destination since it was looked at last: once, committed, and in order by key.
func (w *world) checkOrder(at park.Destination) {
	entries := w.broker.topic(at.Name).entries
	for n := w.checked[at.Name]; n < len(entries); n++ {
		e := entries[n]
		r := w.row(e.ID)
		if r == nil || !slices.Contains(slices.Concat(w.homes(r)...), at) {
			panic(fmt.Sprintf("misplaced: %s has nothing to do at %s", e.ID, at))
		}
		for _, before := range entries[:n] {
			switch {
			case before.ID == e.ID && before.Replay == e.Replay && !r.loose:
				panic(fmt.Sprintf("doubled: %s at %s", e.ID, at))
			case e.Replay == 0 && before.Replay == 0 && w.row(before.ID).comesBehind(r) && !w.excused(r, at) && !w.rerouted(r, w.row(before.ID)):
				panic(fmt.Sprintf("order: %s behind %s at %s", e.ID, before.ID, at))
			}
		}
	}
	for n := w.checked[at.Name]; n < len(entries); n++ {
		w.checkActs(at, n)
	}
	w.checked[at.Name] = len(entries)
}

// checkRow looks at one event: below what is confirmed, it is in each of its destinations or parked for it, and its row is settled or parked; a
// row is SENT only when it is delivered everywhere.
func (w *world) checkRow(r *simRow, confirmed bool) {
	id := string(r.event.ID)
	over := func(at park.Destination) bool { return w.landed(r, at) || w.skipped(r, at) }
	everywhere := w.somewhere(r, over)
	if confirmed && !r.loose && !w.somewhere(r, func(at park.Destination) bool {
		p := w.parkedAt(r, at)
		return over(at) || p != nil && p.State != park.Done && p.State != park.Skipped
	}) {
		panic(fmt.Sprintf("lost: %s is confirmed, and is neither where it should be nor waits for it", id))
	}
	if r.loose {
		return
	}
	if r.status == "SENT" && !everywhere {
		panic(fmt.Sprintf("lost: the row of %s is SENT before it is delivered everywhere", id))
	}
	if confirmed && r.status == "NEW" && !r.reset && !w.db.isParked(id) {
		panic(fmt.Sprintf("unsettled: %s is confirmed, and its row is neither settled nor parked", id))
	}
}

// comesBehind tells whether r is a later event of the other's key.
func (r *simRow) comesBehind(other *simRow) bool {
	return string(r.event.AggregateID) == string(other.event.AggregateID) && r.serial > other.serial
}

// rerouted tells whether one of the rows may have been given to another destination by a change of the routes, which keeps no order.
func (w *world) rerouted(rows ...*simRow) bool {
	return slices.ContainsFunc(rows, func(r *simRow) bool { return len(w.homes(r)) > 1 })
}

func (w *world) landed(r *simRow, at park.Destination) bool {
	for _, e := range w.broker.topic(at.Name).entries {
		if e.ID == string(r.event.ID) && e.Replay == 0 {
			return true
		}
	}
	return false
}

func (w *world) parkedAt(r *simRow, at park.Destination) *park.Row {
	return w.db.find(at, event.Ref{ID: string(r.event.ID)})
}

// unfinished says what is still to be done; empty when nothing is.
func (w *world) unfinished() string {
	if w.db.record.Confirmed < w.db.end() {
		return fmt.Sprintf("the checkpoint is %s of %s", w.db.record.Confirmed, w.db.end())
	}
	if i := w.active(); i != nil && i.core.budget.used.Load() > 0 {
		return fmt.Sprintf("%d bytes are not given back", i.core.budget.used.Load())
	}
	for _, r := range w.db.inOrder() {
		if !r.loose && !w.somewhere(r, func(at park.Destination) bool { return w.replayed(r, at) }) {
			return fmt.Sprintf("%s is not delivered once more", r.event.ID)
		}
		over := func(at park.Destination) bool { return w.landed(r, at) || w.skipped(r, at) || r.loose }
		everywhere := w.somewhere(r, over)
		if !w.somewhere(r, func(at park.Destination) bool {
			p := w.parkedAt(r, at)
			return over(at) || p != nil && (p.State == park.Dead || w.heldBack(p))
		}) {
			return fmt.Sprintf("%s is not delivered", r.event.ID)
		}
		if everywhere && !r.loose && !w.undecided(r) && (r.status != "SENT" || w.db.isParked(string(r.event.ID))) {
			return fmt.Sprintf("the row of %s is %s", r.event.ID, r.status)
		}
	}
	return ""
}

// undecided tells whether a row of the event is dead, or held back by a dead one, although it has landed: a session that was cut off has delivered what
// the next one gave up or adopted.
func (w *world) undecided(r *simRow) bool {
	return slices.ContainsFunc(w.db.parked, func(p *park.Row) bool {
		return string(p.Event.ID) == string(r.event.ID) && (p.State == park.Dead || p.State == park.Waiting && w.heldBack(p))
	})
}

// heldBack tells whether a dead event holds the waiting row back.
func (w *world) heldBack(p *park.Row) bool {
	return slices.ContainsFunc(w.db.parked, func(dead *park.Row) bool {
		return dead.Destination == p.Destination && dead.Key == p.Key && dead.State == park.Dead && dead.Blocks &&
			p.Event.Position.After(dead.Event.Position)
	})
}
