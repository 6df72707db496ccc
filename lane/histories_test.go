package lane_test

import (
	"testing"

	"github.com/outboxd/outboxd/lane"
)

// script runs a history on a destination that has n events, then lets it come to rest, and tells whether a promise broke.
func script(t *testing.T, lacks protection, n int, history func(*lanes, testing.TB)) bool {
	f := &found{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := newLanes(lacks)
		w.committed = n
		for range n {
			w.receive()
		}
		w.lane.Read()
		w.readTail(f)
		history(w, f)
		w.settle(f)
	}()
	<-done
	return f.failed
}

// deliver publishes the next count events of the log.
func (w *lanes) deliver(count int) {
	w.publishing = values(w.lane.Take(nil, count, 1<<20))
	w.answer(w.publish(w.publishing, itself, maxBatch))
}

// cut publishes the next count events of the log, of which the broker takes the first few before the connection is cut; the rest it may take
// later.
func (w *lanes) cut(count, applied int) {
	w.publishing = values(w.lane.Take(nil, count, 1<<20))
	n := w.publish(w.publishing, itself, applied)
	w.lateRest(w.publishing[n:], itself)
	w.lane.Published(0, false, w.dispose)
}

// applyLate lets the broker take what a cut connection left.
func (w *lanes) applyLate() {
	w.broker = append(w.broker, w.late...)
	w.late = nil
}

func (w *lanes) parkNext(count int) {
	w.park(count)
	w.insert()
	w.parked()
}

// cureAndLoad lets the broker take a parked event from now on, and loads what is due.
func (w *lanes) cureAndLoad(id int) {
	w.poison[id], w.table[id].due = false, true
	w.now++
	w.lane.Keys.Rouse(w.now)
	w.load()
}

// lend gives the table lane its turn with what is loaded.
func (w *lanes) lend() {
	w.lane.Lend()
	w.lent, w.loaded = w.loaded, nil
}

// lendAndPublish does so and publishes it; nothing is settled.
func (w *lanes) lendAndPublish() (landed int) {
	w.lend()
	return w.publish(w.lent, w.lentFrontier(), maxBatch)
}

// readNext reads the tail after an unknown fate.
func (w *lanes) readNext(t T) {
	w.lane.Read()
	w.readTail(t)
}

func (w *lanes) replay() {
	w.restart()
	for range w.committed {
		w.receive()
	}
}

// Each history is harmless with all rules, and breaks a promise without its own. Events 1, 4, 7 are of one key.
func TestHistories(t *testing.T) {
	for _, h := range []struct {
		name    string
		lacks   protection
		events  int
		history func(*lanes, testing.TB)
	}{
		{"the last message is the table lane's; after a restart later events of the log are replayed", noFrontier, 2, func(w *lanes, _ testing.TB) {
			w.poison[1] = true
			w.deliver(2)
			w.parkNext(1)
			w.deliver(1)
			w.cureAndLoad(1)
			w.settleLent(w.lendAndPublish(), true)
			w.replay()
		}},
		{"1: the settle of a batch of the table lane is lost, then events of other keys are published", shallowTail, 2, func(w *lanes, t testing.TB) {
			w.poison[1] = true
			w.deliver(2)
			w.parkNext(1)
			w.cureAndLoad(1)
			w.lendAndPublish()
			w.replay()
			w.readNext(t)
			w.deliver(1)
		}},
		{"7: the process dies between a refusal and its park", noPrefix, 2, func(w *lanes, _ testing.TB) {
			w.poison[1] = true
			w.deliver(2)
			w.replay()
		}},
		{"13: a batch whose connection was cut lands after it was published again", noFence, 2, func(w *lanes, t testing.TB) {
			w.cut(2, 0)
			w.readNext(t)
			w.deliver(2)
			w.applyLate()
		}},
		{"14: a batch whose connection was cut lands while the tail is read", readFirst, 2, func(w *lanes, t testing.TB) {
			w.cut(2, 0)
			w.readNext(t)
			w.deliver(2)
		}},
		{"15: the tail of events of unknown fate is to be read while they are parked", readBesidePark, 2, readWhileParking},
		{"16: the table lane publishes two loads and dies before it settles them", unsettledBatch, 2 * maxBatch, publishTwice},
		{"17: the table lane's batch is larger than the tail that is read after a crash", shallowTail, maxBatch, func(w *lanes, _ testing.TB) {
			w.lane.Keys.HoldAll()
			w.parkNext(maxBatch)
			w.load()
			w.lendAndPublish()
			w.replay()
		}},
		{"18: the table lane delivers the last row of a key while another event of it is parked", lateWait, 7, parkBehindTheLast},
		{"19: events that landed before a restart are parked because the destination does not answer", noDoubt, 5, func(w *lanes, _ testing.TB) {
			w.deliver(3)
			w.deliver(2)
			w.replay()
			w.lane.Keys.HoldAll()
			w.parkNext(3)
			w.parkNext(2)
		}},
	} {
		t.Run(h.name, func(t *testing.T) {
			if script(t, whole, h.events, h.history) {
				t.Error("a promise broke")
			}
			if !script(t, h.lacks, h.events, h.history) {
				t.Error("without the rule nothing broke: the history does not test it")
			}
		})
	}
}

func readWhileParking(w *lanes, t testing.TB) {
	w.cut(2, 2)
	if w.lacks == readBesidePark {
		decided := w.publishing
		w.readNext(t)
		w.parking, w.doubt = decided, false
		w.insert()
		for _, id := range decided {
			w.lane.Keys.Add(keyOf(id), w.now)
		}
		return
	}
	w.lane.Keys.HoldAll()
	w.park(2)
	mustPanic(t, "a tail read beside a park", w.lane.Read)
	w.insert()
	w.parked()
}

func publishTwice(w *lanes, t testing.TB) {
	w.lane.Keys.HoldAll()
	w.parkNext(maxBatch)
	w.parkNext(maxBatch)
	w.load()
	n := w.lendAndPublish()
	if w.lacks == unsettledBatch {
		w.publish([]int{4, 5, 6}, itself, maxBatch)
		w.replay()
		return
	}
	mustPanic(t, "a second batch before the first is settled", w.lane.Lend)
	w.settleLent(n, true)
	w.load()
	w.lendAndPublish()
	w.replay()
}

func parkBehindTheLast(w *lanes, t testing.TB) {
	w.poison[1] = true
	w.deliver(1)
	w.parkNext(1)
	w.deliver(2) // 2 and 3
	w.cureAndLoad(1)
	w.park(1) // 4 is to be parked behind 1, the last row of which is loaded
	mustPanic(t, "the table lane's turn beside a park", w.lane.Lend)
	w.insert()
	w.parked()
	w.settleLent(w.lendAndPublish(), true)
	if w.lacks == lateWait {
		w.lane.Keys = lane.Waiting{}
		w.deliver(3) // 5, 6, 7
		w.lane.Keys.Add(keyOf(4), w.now)
		return
	}
	w.deliver(3)
	if !w.lane.HeadWaits() {
		t.Error("event 7 does not wait behind event 4")
	}
}
