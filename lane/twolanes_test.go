package lane_test

import (
	"flag"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
)

// maxBatch is the largest batch of the model, and how deep a tail is read where rows wait.
const maxBatch = 3

// T is what the model reports to.
type T interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// row is a parked event; entry is a message in the broker.
type row struct {
	id     int
	done   bool
	due    bool
	landed int // it may have landed behind this frontier; -1: it has not
}

type landedEntry struct{ id, frontier int }

// protection is a rule that a test removes to see the model find the history that it prevents.
type protection int

const (
	whole           protection = iota // all rules hold
	shallowTail                       // the tail is read one entry deep, whatever waits (history 1)
	parkedUncounted                   // rows that are parked do not count for the frontier
	noFrontier                        // messages of the table lane carry no frontier
	noWaiting                         // keys do not wait
	staleLoad                         // what was loaded before a tail was read is published after it
	noDoubt                           // what was parked before the tail was read is not looked for deeper (history 19)
	noPrefix                          // what stands behind a refused event of a batch lands (history 7)
	noFence                           // a late batch of a cut connection lands whenever it comes (history 13)
	readFirst                         // the tail is read before the fence (history 14)
	readBesidePark                    // the tail is read while a park is in flight (history 15)
	unsettledBatch                    // rows of a later load are published before those of the one before are settled (history 16)
	lateWait                          // a key waits only when its park is durable (history 18)
)

// lanes is a destination with both lanes and everything around it: a log that is replayed from the checkpoint, a table, a broker that refuses
// some events, loses answers and applies a cut-off batch late unless it is fenced, and a process that dies.
type lanes struct {
	lacks  protection
	lane   *lane.Destination[int]
	poison map[int]bool // refused by the broker
	now    int64

	committed, received, confirmed int
	disposed                       map[int]bool
	table                          map[int]*row
	broker                         []landedEntry

	publishing []int // the log lane's batch in flight
	late       []landedEntry
	parking    []int
	doubt      bool // the batch being parked may have landed
	refused    int  // the event at the head that was refused; 0: none
	back       int  // parked rows may have landed behind this; -1: none
	loaded     []int
	keys       map[uint64]bool // of the load: exhausted
	lent       []int
}

func newLanes(lacks protection) *lanes {
	w := &lanes{lacks: lacks, poison: map[int]bool{}, table: map[int]*row{}}
	w.restart()
	return w
}

func (w *lanes) frontierAt() int {
	frontier := w.confirmed
	for id := range w.table {
		if w.lacks != parkedUncounted {
			frontier = max(frontier, id)
		}
	}
	return frontier
}

func position(i int) event.Position {
	if i == 0 {
		return start()
	}
	return at(i)
}

func (w *lanes) restart() {
	w.lane = lane.New[int](position(w.frontierAt()), epoch, keyOf)
	w.received, w.disposed = w.confirmed, map[int]bool{}
	w.publishing, w.parking, w.loaded, w.lent, w.keys, w.refused, w.back = nil, nil, nil, nil, nil, 0, -1
	for _, r := range w.table {
		if !r.done {
			w.lane.Keys.Add(keyOf(r.id), w.now)
			r.due = true
			if r.landed >= 0 && (w.back < 0 || r.landed < w.back) {
				w.back = r.landed
			}
		}
	}
	if w.lacks == noWaiting {
		w.lane.Keys = lane.Waiting{}
	}
}

// check is the promise: nothing is doubled, keys are in order, what is confirmed has landed or is parked.
func (w *lanes) check(t T) {
	seen, last := map[int]bool{}, map[uint64]int{}
	for _, e := range w.broker {
		if seen[e.id] {
			t.Fatalf("event %d is doubled: %v", e.id, w.broker)
		}
		if e.id < last[keyOf(e.id)] {
			t.Fatalf("event %d is out of order: %v", e.id, w.broker)
		}
		seen[e.id], last[keyOf(e.id)] = true, e.id
	}
	for id := 1; id <= w.confirmed; id++ {
		if r := w.table[id]; !seen[id] && (r == nil || r.done) {
			t.Fatalf("event %d is confirmed and lost: %v", id, w.broker)
		}
	}
}

func (w *lanes) waitingRows() (ids []int) {
	for id, r := range w.table {
		if !r.done {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (w *lanes) dispose(i lane.Item[int]) { w.disposed[i.Value] = true }

// readTail fences, reads, settles what is found, and tells the lane.
func (w *lanes) readTail(t T) {
	landed := slices.Clone(w.broker)
	if w.lacks == readFirst {
		w.broker = append(w.broker, w.late...)
	}
	if w.lacks != noFence {
		w.late = nil
	}
	depth := 1
	if (len(w.waitingRows()) > 0 || w.back >= 0) && w.lacks != shallowTail {
		depth = maxBatch
	}
	tail := landed[max(0, len(landed)-depth):]
	if w.back >= 0 && w.lacks != noDoubt {
		for from := len(landed) - depth; from > 0 && landed[min(len(landed)-1, from+maxBatch-1)].frontier > w.back; from-- {
			tail = landed[max(0, from-1):]
		}
	}
	highest := 0
	for _, e := range tail {
		highest = max(highest, e.frontier)
		if r := w.table[e.id]; r != nil && !r.done && depth > 1 {
			r.done = true
		}
	}
	for _, r := range w.table {
		r.landed = -1
	}
	w.back = -1
	w.discard()
	if err := w.lane.TailRead(position(highest), w.dispose); err != nil {
		t.Fatal(err)
	}
}

// discard forgets what was loaded before the tail was settled: it may have been found there.
func (w *lanes) discard() {
	if w.lacks == staleLoad {
		return
	}
	for key := range w.keys {
		w.lane.Keys.Settled(key, false, w.now)
	}
	w.loaded, w.keys = nil, nil
}

// publish lets the broker take a prefix of a batch, up to what it refuses, and returns how much landed.
func (w *lanes) publish(ids []int, frontier func(int) int, most int) int {
	for i, id := range ids {
		if i == most || w.poison[id] {
			if i < most && w.lacks == noPrefix {
				w.publish(ids[i+1:], frontier, most)
			}
			return i
		}
		w.broker = append(w.broker, landedEntry{id, frontier(id)})
	}
	return len(ids)
}

func itself(id int) int { return id }

// lentFrontier is what the table lane's messages say.
func (w *lanes) lentFrontier() func(int) int {
	frontier := 0
	for i := range w.committed + 1 {
		if position(i) == w.lane.Frontier() {
			frontier = i
		}
	}
	for _, id := range w.lent {
		frontier = max(frontier, id)
	}
	if w.lacks == noFrontier {
		return itself
	}
	return func(int) int { return frontier }
}

func (w *lanes) actions() map[string]func(*rapid.T) {
	skipUnless := func(t *rapid.T, ok bool) {
		if !ok {
			t.Skip()
		}
	}
	return map[string]func(*rapid.T){
		"commit": func(t *rapid.T) {
			w.committed++
			w.poison[w.committed] = rapid.IntRange(0, 4).Draw(t, "poison") == 0
		},
		"receive": func(t *rapid.T) {
			skipUnless(t, w.received < w.committed)
			w.receive()
		},
		"read tail": func(t *rapid.T) {
			skipUnless(t, w.lane.State() == lane.Unread)
			w.lane.Read()
			if rapid.Bool().Draw(t, "fails") {
				w.lane.TailFailed()
				return
			}
			w.readTail(t)
		},
		"publish": func(t *rapid.T) {
			skipUnless(t, w.lane.State() == lane.Ready && w.lane.Queued() > 0 && !w.lane.HeadWaits())
			w.publishing = values(w.lane.Take(nil, rapid.IntRange(1, maxBatch).Draw(t, "count"), 1<<20))
		},
		"answer": func(t *rapid.T) {
			skipUnless(t, w.lane.State() == lane.Publishing)
			w.answer(w.publish(w.publishing, itself, maxBatch))
		},
		"lose the answer": func(t *rapid.T) {
			skipUnless(t, w.lane.State() == lane.Publishing)
			n := w.publish(w.publishing, itself, rapid.IntRange(0, maxBatch).Draw(t, "applied"))
			w.lateRest(w.publishing[n:], itself)
			w.lane.Published(0, false, w.dispose)
		},
		"apply late": func(t *rapid.T) {
			skipUnless(t, len(w.late) > 0)
			w.broker = append(w.broker, w.late...)
			w.late = nil
		},
		"spill": func(t *rapid.T) { w.lane.Keys.HoldAll() },
		"park": func(t *rapid.T) {
			state := w.lane.State()
			skipUnless(t, (state == lane.Ready || state == lane.Unread) && w.lane.HeadWaits())
			w.park(rapid.IntRange(1, maxBatch).Draw(t, "count"))
		},
		"park is durable": func(t *rapid.T) {
			skipUnless(t, w.lane.State() == lane.Parking)
			w.insert()
			w.parked()
		},
		"load": func(t *rapid.T) {
			skipUnless(t, w.loaded == nil && w.keys == nil && w.lane.State() != lane.Lent)
			w.load()
		},
		"lend": func(t *rapid.T) {
			skipUnless(t, len(w.loaded) > 0 && w.lane.State() == lane.Ready)
			w.lane.Lend()
			w.lent, w.loaded = w.loaded, nil
		},
		"lent is answered": func(t *rapid.T) {
			skipUnless(t, w.lane.State() == lane.Lent)
			n := w.publish(w.lent, w.lentFrontier(), maxBatch)
			if rapid.IntRange(0, 3).Draw(t, "dies before the settle") == 0 {
				w.kill(t)
				return
			}
			w.settleLent(n, true)
		},
		"the answer for lent is lost": func(t *rapid.T) {
			skipUnless(t, w.lane.State() == lane.Lent)
			n := w.publish(w.lent, w.lentFrontier(), rapid.IntRange(0, maxBatch).Draw(t, "applied"))
			w.lateRest(w.lent[n:], w.lentFrontier())
			w.settleLent(0, false)
		},
		"cure": func(t *rapid.T) {
			w.poison = map[int]bool{}
			for _, r := range w.table {
				r.due = true
			}
			w.now++
			w.lane.Keys.Rouse(w.now)
		},
		"confirm": func(*rapid.T) { w.confirm() },
		"kill":    w.kill,
		"":        func(t *rapid.T) { w.check(t) },
	}
}

func (w *lanes) receive() {
	w.received++
	if !w.lane.Push(lane.Item[int]{Position: at(w.received), Size: 1, Value: w.received}) {
		w.disposed[w.received] = true
	}
}

func (w *lanes) lateRest(ids []int, frontier func(int) int) {
	w.late = nil
	for _, id := range ids {
		if w.poison[id] {
			return
		}
		w.late = append(w.late, landedEntry{id, frontier(id)})
	}
}

// answer takes what the broker said to the log lane's batch.
func (w *lanes) answer(n int) {
	batch := w.publishing
	w.lane.Published(n, true, w.dispose)
	if n < len(batch) {
		w.refused = batch[n]
		if w.lacks != noWaiting {
			w.lane.Keys.Hold(keyOf(batch[n]))
			return
		}
		w.lane.Keys.HoldAll() // just this once
	}
}

func (w *lanes) park(count int) {
	var items []lane.Item[int]
	items, w.doubt = w.lane.TakeParks(nil, count, 1<<20)
	w.parking = values(items)
}

// insert makes the batch durable in the table.
func (w *lanes) insert() {
	landed := -1
	if w.doubt {
		for i := range w.committed + 1 {
			if position(i) == w.lane.Frontier() {
				landed = i
			}
		}
	}
	for _, id := range w.parking {
		if w.table[id] == nil {
			w.table[id] = &row{id: id, due: id != w.refused, landed: landed}
		}
	}
	if landed >= 0 && (w.back < 0 || landed < w.back) {
		w.back = landed
	}
}

// parked tells the lane that the batch is durable.
func (w *lanes) parked() {
	w.lane.Parked(func(i lane.Item[int]) {
		due := w.now
		if !w.table[i.Value].due {
			due = lane.Never - 1
		}
		w.lane.Keys.Parked(keyOf(i.Value), due)
		w.dispose(i)
	})
	if w.lacks == noWaiting {
		w.lane.Keys = lane.Waiting{}
	}
	if slices.Contains(w.parking, w.refused) {
		w.refused = 0
	}
	w.parking = nil
}

// load takes due rows: by keys, or all in order.
func (w *lanes) load() {
	if w.lane.Keys.Whole() {
		w.lane.Keys.ScanBegins()
		for _, id := range w.waitingRows() {
			switch {
			case w.lane.Keys.PassesOver(keyOf(id)):
			case !w.table[id].due:
				w.lane.Keys.Refused(keyOf(id), lane.Never-1)
			case len(w.loaded) < maxBatch:
				w.loaded = append(w.loaded, id)
			}
		}
		if len(w.loaded) == 0 && w.lane.State() != lane.Parking {
			w.lane.Keys.ScanEnded()
		}
		return
	}
	keys := w.lane.Keys.Next(w.now, 2)
	if w.lacks == noWaiting {
		keys = []uint64{0, 1, 2}
	}
	if len(keys) == 0 {
		return
	}
	w.keys = map[uint64]bool{}
	for _, key := range keys {
		var rows []int
		for _, id := range w.waitingRows() {
			if keyOf(id) == key {
				rows = append(rows, id)
			}
		}
		switch {
		case len(rows) == 0:
			w.lane.Keys.Settled(key, true, w.now)
		case !w.table[rows[0]].due:
			w.lane.Keys.Refused(key, lane.Never-1)
		case len(w.loaded) == maxBatch:
			w.lane.Keys.Settled(key, false, w.now)
		default:
			w.loaded = append(w.loaded, rows[0])
			w.keys[key] = len(rows) == 1
		}
	}
	if len(w.loaded) == 0 {
		w.keys = nil
	}
}

// settleLent makes durable what landed of the table lane's batch, and ends its turn.
func (w *lanes) settleLent(n int, known bool) {
	for _, id := range w.lent[:n] {
		w.table[id].done = true
		if id <= w.confirmed {
			delete(w.table, id)
		}
	}
	for i, id := range w.lent[n:] {
		refused := known && i == 0
		if refused {
			w.table[id].due = false
		}
		switch {
		case w.keys == nil && refused:
			w.lane.Keys.Refused(keyOf(id), lane.Never-1)
		case w.keys != nil:
			delete(w.keys, keyOf(id))
			if refused {
				w.lane.Keys.Refused(keyOf(id), lane.Never-1)
			} else {
				w.lane.Keys.Settled(keyOf(id), false, w.now)
			}
		}
	}
	for key, exhausted := range w.keys {
		w.lane.Keys.Settled(key, exhausted, w.now)
	}
	w.lane.Return(known)
	w.lent, w.keys = nil, nil
}

func (w *lanes) confirm() {
	for w.disposed[w.confirmed+1] {
		w.confirmed++
		if r := w.table[w.confirmed]; r != nil && r.done {
			delete(w.table, w.confirmed)
		}
	}
}

// kill ends the process. What was in flight may land late; a park in flight becomes durable or not.
func (w *lanes) kill(t *rapid.T) {
	if w.lane.State() == lane.Publishing {
		w.lateRest(w.publishing, itself)
	}
	if w.lane.State() == lane.Parking && rapid.Bool().Draw(t, "the park became durable") {
		w.insert()
	}
	w.restart()
}

// settle lets the world come to rest without faults: then everything committed has landed.
func (w *lanes) settle(t T) {
	w.poison = map[int]bool{}
	for range 40 * (w.committed + 2) {
		for _, r := range w.table {
			r.due = true
		}
		w.now++
		w.lane.Keys.Rouse(w.now)
		for w.received < w.committed {
			w.receive()
		}
		w.step(t)
		w.check(t)
	}
	if len(w.broker) != w.committed {
		t.Fatalf("%d events are committed, %d landed: %v; %d wait", w.committed, len(w.broker), w.broker, len(w.waitingRows()))
	}
	if w.lane.Len() > 0 || len(w.waitingRows()) > 0 || !w.lane.Keys.Empty() {
		t.Fatalf("something is left: %d queued, rows %v", w.lane.Len(), w.waitingRows())
	}
}

func (w *lanes) step(t T) {
	switch w.lane.State() {
	case lane.Unread:
		w.lane.Read()
		w.readTail(t)
	case lane.Publishing:
		w.answer(w.publish(w.publishing, itself, maxBatch))
	case lane.Parking:
		w.insert()
		w.parked()
	case lane.Lent:
		w.settleLent(w.publish(w.lent, w.lentFrontier(), maxBatch), true)
	case lane.Ready:
		if w.loaded == nil && w.keys == nil {
			w.load()
		}
		switch {
		case len(w.loaded) > 0:
			w.lane.Lend()
			w.lent, w.loaded = w.loaded, nil
		case w.lane.Queued() > 0 && w.lane.HeadWaits():
			w.park(maxBatch)
		case w.lane.Queued() > 0:
			w.publishing = values(w.lane.Take(nil, maxBatch, 1<<20))
		}
	case lane.Reading:
		t.Fatal("a tail read without an end")
	}
}

func TestBothLanesDeliverEveryEventOnceAndInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newLanes(whole)
		t.Repeat(w.actions())
		w.settle(t)
	})
}

// found collects a failure of the model instead of failing the test.
type found struct {
	testing.TB
	failed bool
}

func (f *found) Errorf(string, ...any) { f.failed = true }
func (f *found) Fatalf(string, ...any) { f.failed = true; runtime.Goexit() }
func (f *found) Fatal(...any)          { f.failed = true; runtime.Goexit() }
func (f *found) Error(...any)          { f.failed = true }
func (f *found) Fail()                 { f.failed = true }
func (f *found) FailNow()              { f.failed = true; runtime.Goexit() }
func (f *found) Failed() bool          { return f.failed }
func (f *found) Log(...any)            {}
func (f *found) Logf(string, ...any)   {}

// breaks looks for a history that breaks a promise without one of the rules.
func breaks(t *testing.T, lacks protection) bool {
	const rounds = 60 // of 100 histories each
	for range rounds {
		f := &found{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			rapid.Check(f, func(t *rapid.T) {
				w := newLanes(lacks)
				t.Repeat(w.actions())
				w.settle(t)
			})
		}()
		<-done
		if f.failed {
			return true
		}
	}
	return false
}

func TestEachRuleIsNeeded(t *testing.T) {
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0"} { // any history will do
		before := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, before) })
	}
	for name, lacks := range map[string]protection{
		"the tail is read as deep as a batch where rows wait": shallowTail,
		"parked rows count for the frontier":                  parkedUncounted,
		"keys wait":                                           noWaiting,
		"what was loaded before a tail is dropped":            staleLoad,
	} {
		t.Run(name, func(t *testing.T) {
			if !breaks(t, lacks) {
				t.Error("no history was found that breaks a promise without this rule: the model does not test it")
			}
		})
	}
}
