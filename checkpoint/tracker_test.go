package checkpoint

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/event"
)

func wantSafe(t *testing.T, tracker *Tracker, want event.LSN) {
	t.Helper()
	if got := tracker.Safe(); got != want {
		t.Fatalf("safe is %s, want %s", got, want)
	}
}

// committed enters a whole transaction of n events.
func committed(tracker *Tracker, n int, end event.LSN) Tx {
	tx := tracker.Begin(0)
	tracker.Add(n)
	tracker.Commit(end)
	return tx
}

func TestLaterTransactionWaitsForEarlier(t *testing.T) {
	tracker := NewTracker(100)
	first, second := committed(tracker, 2, 200), committed(tracker, 1, 300)
	tracker.Settle(second, 1)
	wantSafe(t, tracker, 100)
	tracker.Settle(first, 1)
	wantSafe(t, tracker, 100)
	tracker.Settle(first, 1)
	wantSafe(t, tracker, 300)
}

// Confirming a byte more would lose the next transaction where its commit record begins at the end of the one before.
func TestSafeIsExactlyTheEndOfAdjacentTransactions(t *testing.T) {
	tracker := NewTracker(100)
	first := committed(tracker, 1, 200)
	second := committed(tracker, 1, 248)
	tracker.Settle(first, 1)
	wantSafe(t, tracker, 200)
	tracker.Settle(second, 1)
	wantSafe(t, tracker, 248)
}

func TestTransactionWithoutCommitIsNotFinished(t *testing.T) {
	tracker := NewTracker(100)
	tx := tracker.Begin(0)
	tracker.Add(1)
	tracker.Settle(tx, 1)
	wantSafe(t, tracker, 100)
	tracker.Add(1)
	tracker.Commit(200)
	wantSafe(t, tracker, 100)
	tracker.Settle(tx, 1)
	wantSafe(t, tracker, 200)
}

func TestEmptyTransactionIsSafeAtItsCommit(t *testing.T) {
	tracker := NewTracker(100)
	tracker.Begin(0)
	tracker.Commit(200)
	wantSafe(t, tracker, 200)
}

func TestKeepaliveWaitsForWhatWasReceivedBefore(t *testing.T) {
	tracker := NewTracker(100)
	tracker.Keepalive(150)
	wantSafe(t, tracker, 150)
	tx := committed(tracker, 1, 200)
	tracker.Keepalive(260)
	later := committed(tracker, 1, 300)
	tracker.Keepalive(350)
	wantSafe(t, tracker, 150)
	tracker.Settle(tx, 1)
	wantSafe(t, tracker, 260)
	tracker.Settle(later, 1)
	wantSafe(t, tracker, 350)
}

func TestKeepaliveInsideTransactionSaysNothing(t *testing.T) {
	tracker := NewTracker(100)
	tx := tracker.Begin(0)
	tracker.Keepalive(900)
	tracker.Add(1)
	tracker.Settle(tx, 1)
	tracker.Commit(200)
	wantSafe(t, tracker, 200)
}

func TestSafeNeverGoesBack(t *testing.T) {
	tracker := NewTracker(500)
	tracker.Keepalive(100)
	wantSafe(t, tracker, 500)
	tracker.Settle(committed(tracker, 1, 400), 1) // a replay of what was confirmed before
	wantSafe(t, tracker, 500)
	tx := committed(tracker, 1, 600)
	tracker.Keepalive(550)
	tracker.Settle(tx, 1)
	wantSafe(t, tracker, 600)
}

func TestOpenCountsUnfinishedTransactions(t *testing.T) {
	tracker := NewTracker(100)
	tx := committed(tracker, 1, 200)
	tracker.Settle(committed(tracker, 1, 300), 1)
	tracker.Keepalive(400)
	tracker.Begin(0)
	if got := tracker.Open(); got != 2 {
		t.Errorf("%d are open, want 2: the first, and the one without a commit", got)
	}
	tracker.Commit(500)
	tracker.Settle(tx, 1)
	if got := tracker.Open(); got != 0 {
		t.Errorf("%d are open, want none", got)
	}
	wantSafe(t, tracker, 500)
}

// One event that waits for hours must not let the queue behind it grow.
func TestMemoryFollowsUnfinishedTransactionsOnly(t *testing.T) {
	tracker := NewTracker(0)
	stuck := committed(tracker, 1, 1)
	const behind = 100_000
	for i := range event.LSN(behind) {
		tracker.Settle(committed(tracker, 1, i+2), 1)
		tracker.Keepalive(i + 2)
	}
	if n := len(tracker.slots); n > 3 {
		t.Errorf("%d slots for one unfinished transaction", n)
	}
	wantSafe(t, tracker, 0)
	tracker.Settle(stuck, 1)
	wantSafe(t, tracker, behind+1)
}

func TestMemoryOfAPeakIsGivenBack(t *testing.T) {
	tracker := NewTracker(0)
	var open []Tx
	for i := range event.LSN(5 * spareSlots) {
		open = append(open, committed(tracker, 1, i+1))
	}
	for _, tx := range open {
		tracker.Settle(tx, 1)
	}
	if n := cap(tracker.slots); n > spareSlots {
		t.Errorf("%d slots are kept for no transaction", n)
	}
	wantSafe(t, tracker, 5*spareSlots)
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	tracker := NewTracker(0)
	end := event.LSN(0)
	allocs := testing.AllocsPerRun(1000, func() {
		end += 10
		tx := committed(tracker, 3, end)
		tracker.Keepalive(end + 5)
		tracker.Settle(tx, 3)
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a transaction, want none", allocs)
	}
}

func TestBrokenInvariantPanics(t *testing.T) {
	for name, act := range map[string]func(*Tracker){
		"commit without begin":     func(tr *Tracker) { tr.Commit(1) },
		"begin inside":             func(tr *Tracker) { tr.Begin(0); tr.Begin(0) },
		"add outside":              func(tr *Tracker) { committed(tr, 1, 1); tr.Add(1) },
		"add less than none":       func(tr *Tracker) { tr.Begin(0); tr.Add(-1) },
		"settle the zero Tx":       func(tr *Tracker) { tr.Settle(0, 0) },
		"settle more than added":   func(tr *Tracker) { tr.Settle(committed(tr, 2, 1), 3) },
		"settle less than none":    func(tr *Tracker) { tr.Settle(committed(tr, 2, 1), -1) },
		"settle a finished one":    func(tr *Tracker) { tx := committed(tr, 1, 1); tr.Settle(tx, 1); tr.Settle(tx, 1) },
		"settle in a reused place": func(tr *Tracker) { tx := committed(tr, 0, 1); committed(tr, 1, 2); tr.Settle(tx, 1) },
		"settle another tracker's": func(tr *Tracker) { tr.Settle(committed(NewTracker(0), 1, 1), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			act(NewTracker(0))
		})
	}
}

// model is the tracker as one would write it down first: a list of everything that was ever received, read from its
// beginning each time.
type model struct {
	start event.LSN
	all   []modelEntry
}

type modelEntry struct {
	tx        Tx // 0 for a keepalive
	end       event.LSN
	complete  bool
	unsettled int
}

func (m *model) safe() event.LSN {
	safe := m.start
	for _, e := range m.all {
		if !e.complete || e.unsettled > 0 {
			break
		}
		safe = max(safe, e.end)
	}
	return safe
}

func (m *model) open() (n int) {
	for _, e := range m.all {
		if !e.complete || e.unsettled > 0 {
			n++
		}
	}
	return n
}

func (m *model) inTransaction() bool { return len(m.all) > 0 && !m.all[len(m.all)-1].complete }

// history drives tracker and model side by side through random steps and compares them after each.
type history struct {
	random  *rand.Rand
	tracker *Tracker
	model   model
	now     event.LSN
	log     strings.Builder
}

func newHistory(seed uint64) *history {
	h := &history{random: rand.New(rand.NewPCG(seed, 0)), now: 1000}
	start := h.lsn()
	h.tracker, h.model.start = NewTracker(start), start
	fmt.Fprintf(&h.log, "seed %d\nstart %s\n", seed, start)
	return h
}

// lsn mostly rises, stands still at times, and goes back now and then.
func (h *history) lsn() event.LSN {
	switch h.random.IntN(10) {
	case 0:
		return h.now - event.LSN(h.random.Uint64N(50))
	case 1:
		return h.now
	default:
		h.now += event.LSN(h.random.Uint64N(20))
		return h.now
	}
}

func (h *history) step() {
	last := len(h.model.all) - 1
	switch choice := h.random.IntN(10); {
	case choice < 4:
		h.settle()
	case choice == 4:
		at := h.lsn()
		fmt.Fprintf(&h.log, "keepalive %s\n", at)
		h.tracker.Keepalive(at)
		if !h.model.inTransaction() {
			h.model.all = append(h.model.all, modelEntry{end: at, complete: true})
		}
	case !h.model.inTransaction():
		tx := h.tracker.Begin(0)
		fmt.Fprintf(&h.log, "begin %x\n", tx)
		h.model.all = append(h.model.all, modelEntry{tx: tx})
	case choice < 8:
		n := h.random.IntN(4)
		fmt.Fprintf(&h.log, "add %d\n", n)
		h.tracker.Add(n)
		h.model.all[last].unsettled += n
	default:
		at := h.lsn()
		fmt.Fprintf(&h.log, "commit %s\n", at)
		h.tracker.Commit(at)
		h.model.all[last].end, h.model.all[last].complete = at, true
	}
}

// settle settles some events of any transaction that has some.
func (h *history) settle() {
	var candidates []int
	for i, e := range h.model.all {
		if e.unsettled > 0 {
			candidates = append(candidates, i)
		}
	}
	if len(candidates) == 0 {
		return
	}
	e := &h.model.all[candidates[h.random.IntN(len(candidates))]]
	n := 1 + h.random.IntN(e.unsettled)
	fmt.Fprintf(&h.log, "settle %d of %x\n", n, e.tx)
	e.unsettled -= n
	h.tracker.Settle(e.tx, n)
}

func (h *history) check() error {
	if got, want := h.tracker.Safe(), h.model.safe(); got != want {
		return fmt.Errorf("safe is %s, the model says %s", got, want)
	}
	if got, want := h.tracker.Open(), h.model.open(); got != want {
		return fmt.Errorf("%d transactions are open, the model says %d", got, want)
	}
	return nil
}

func TestTrackerDoesWhatTheModelDoes(t *testing.T) {
	const histories, steps = 30_000, 60
	for seed := range uint64(histories) {
		h := newHistory(seed)
		for range steps {
			h.step()
			if err := h.check(); err != nil {
				t.Fatalf("%v\n%s", err, h.log.String())
			}
		}
	}
}

func BenchmarkTransaction(b *testing.B) {
	tracker := NewTracker(0)
	end := event.LSN(0)
	b.ReportAllocs()
	for b.Loop() {
		end += 10
		tx := tracker.Begin(0)
		tracker.Add(1)
		tracker.Commit(end)
		tracker.Settle(tx, 1)
	}
}

func TestOldestIsTheCommitOfTheFirstUnfinishedTransaction(t *testing.T) {
	tracker := NewTracker(0)
	if got := tracker.Oldest(); got != 0 {
		t.Fatalf("an empty tracker's oldest commit is %d", got)
	}
	var begun []Tx
	for i := range 3 {
		begun = append(begun, tracker.Begin(int64(100+i)))
		tracker.Add(1)
		tracker.Commit(event.LSN(10 * (i + 1)))
	}
	for i, settle := range []int{1, 0, 2} {
		tracker.Settle(begun[settle], 1)
		if got, want := tracker.Oldest(), []int64{100, 102, 0}[i]; got != want {
			t.Errorf("after transaction %d was settled the oldest commit is %d, want %d", settle, got, want)
		}
	}
}
