package lane

import (
	"container/heap"
	"math"
)

// Never is the due time of a key that waits for a person: a dead event blocks it.
const Never = math.MaxInt64

// Waiting is the set of keys that wait in the table lane for one destination, each with the time when its first row is due. Times
// are microseconds since 1970. The zero value is empty. It is not safe for concurrent use.
//
// A key enters when one of its events is refused or parked, and leaves when a load has returned its last row, all of them are settled,
// and none was parked meanwhile. While every key waits (Whole), only those are kept that a scan in position order has to pass over.
type Waiting struct {
	keys  map[uint64]keyState
	ready []uint64 // keys that are due, in the order in which they became so; some may have left
	held  dueHeap  // keys that are due later; some may be due at another time by now, or have left

	whole bool
	fresh bool // whole: something was parked since the scan's load began
}

type keyState struct {
	due     int64
	rows    bool // some of its rows may wait in the table; false: only decided
	passed  bool // while only decided, a scan has passed over a row of it
	queued  bool // it stands in ready
	loading bool
	fresh   bool // one of its rows was parked since its load began
	again   bool // a person has changed rows of it since its load began
}

// Empty tells whether nothing waits.
func (w *Waiting) Empty() bool { return !w.whole && len(w.keys) == 0 }

// Len is the number of keys that are known to wait.
func (w *Waiting) Len() int { return len(w.keys) }

// Whole tells whether every key waits.
func (w *Waiting) Whole() bool { return w.whole }

// Waits tells whether events of the key have to be parked.
func (w *Waiting) Waits(key uint64) bool {
	if w.whole {
		return true
	}
	_, ok := w.keys[key]
	return ok
}

// Hold makes the key wait before anything of it is parked: its park is decided.
func (w *Waiting) Hold(key uint64) {
	if _, ok := w.keys[key]; !ok {
		w.put(key, keyState{due: Never})
	}
}

// HoldAll makes every key wait.
func (w *Waiting) HoldAll() { w.whole, w.fresh = true, true }

// Parked says that a row of the key is durable that is due at the given time; Never for a dead one that blocks.
func (w *Waiting) Parked(key uint64, due int64) {
	w.fresh = true
	k, known := w.keys[key]
	switch {
	case known && k.rows: // behind another row of the key
		k.fresh = true
		w.put(key, k)
	case w.whole && !known:
	default:
		k.rows, k.fresh = true, true
		w.schedule(key, k, due)
	}
}

// Dropped says that the park that Hold announced needs no waiting: a dead row that lets later ones pass, or an event that has landed all the same. The
// key leaves unless it has other rows, which somebody may have parked beside the log lane; those are due.
func (w *Waiting) Dropped(key uint64) {
	k, ok := w.keys[key]
	switch {
	case !ok || k.rows:
	case k.passed:
		w.Add(key, 0)
	default:
		delete(w.keys, key)
	}
}

// Add notes that the key has rows, the first of which is due at the given time. A load of it that is under way is not disturbed.
func (w *Waiting) Add(key uint64, due int64) {
	k := w.keys[key]
	k.rows, k.fresh = true, true
	if k.loading {
		k.again = true
		w.put(key, k)
		return
	}
	w.schedule(key, k, due)
}

// Next returns up to limit keys that are due now, the longest waiting first. They are loading until Settled or Refused.
func (w *Waiting) Next(now int64, limit int) []uint64 {
	w.release(now)
	var next []uint64
	taken := 0
	for ; taken < len(w.ready) && len(next) < limit; taken++ {
		key := w.ready[taken]
		k, ok := w.keys[key]
		if !ok || !k.queued || k.loading {
			continue
		}
		k.queued, k.loading, k.fresh = false, true, false
		w.put(key, k)
		next = append(next, key)
	}
	w.ready = append(w.ready[:0], w.ready[taken:]...)
	return next
}

// Settled ends a key's load: what was loaded is settled. exhausted says that the load had returned its last row. When nothing was parked
// since, the key leaves; else it is due again.
func (w *Waiting) Settled(key uint64, exhausted bool, now int64) {
	k, ok := w.keys[key]
	if !ok {
		return
	}
	k.loading, k.again = false, false
	if exhausted && !k.fresh {
		delete(w.keys, key)
		return
	}
	w.schedule(key, k, now)
}

// Refused ends a key's load, or notes a key that is met in a scan: its first row is not due before the given time (Never: a dead row
// blocks it).
func (w *Waiting) Refused(key uint64, due int64) {
	k := w.keys[key]
	if k.again {
		due = 0
	}
	k.loading, k.rows, k.again = false, true, false
	w.schedule(key, k, due)
}

// PassesOver tells whether a scan passes over a row of the key that it has met: the key waits for a time of its own.
func (w *Waiting) PassesOver(key uint64) bool {
	k, ok := w.keys[key]
	if ok && !k.rows {
		k.passed = true
		w.put(key, k)
	}
	return ok
}

// ScanBegins says that a load in position order begins.
func (w *Waiting) ScanBegins() { w.fresh = false }

// ScanEnded says that the scan has come to the end and everything is settled. Unless something was parked meanwhile, only the keys
// that it has passed over wait from now on; it returns false when it has to go on.
func (w *Waiting) ScanEnded() bool {
	if w.fresh {
		return false
	}
	w.whole = false
	return true
}

// Rouse makes all keys due, those that are being loaded when that has ended: a person has changed rows.
func (w *Waiting) Rouse(now int64) {
	for key, k := range w.keys {
		switch {
		case k.loading:
			k.again = true
			w.put(key, k)
		case k.rows && k.due > now: // else it is due already
			w.schedule(key, k, now)
		}
	}
}

// Wake returns when the next key is due: now or before when one is, Never when none will be by itself.
func (w *Waiting) Wake() int64 {
	for len(w.ready) > 0 {
		if k, ok := w.keys[w.ready[0]]; ok && k.queued {
			return k.due
		}
		w.ready = w.ready[1:]
	}
	for len(w.held) > 0 {
		if k, ok := w.keys[w.held[0].key]; ok && k.due == w.held[0].due && !k.queued && !k.loading {
			return k.due
		}
		heap.Pop(&w.held)
	}
	return Never
}

func (w *Waiting) put(key uint64, k keyState) {
	if w.keys == nil {
		w.keys = make(map[uint64]keyState)
	}
	w.keys[key] = k
}

// schedule lets the key be due at the given time.
func (w *Waiting) schedule(key uint64, k keyState, due int64) {
	k.due, k.queued = due, false
	w.put(key, k)
	if due != Never {
		heap.Push(&w.held, dueKey{due, key})
	}
}

// release moves the keys that are due to the line.
func (w *Waiting) release(now int64) {
	for len(w.held) > 0 && w.held[0].due <= now {
		next := heap.Pop(&w.held).(dueKey)
		k, ok := w.keys[next.key]
		if !ok || k.due != next.due || k.queued || k.loading {
			continue
		}
		k.queued = true
		w.put(next.key, k)
		w.ready = append(w.ready, next.key)
	}
}

// dueKey is a key with the time when it is due.
type dueKey struct {
	due int64
	key uint64
}

type dueHeap []dueKey

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(dueKey)) }
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
