package lane_test

import (
	"errors"
	"testing"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
)

const epoch = 7

// at is the position of the i-th event of the tests' log.
func at(i int) event.Position {
	return event.Position{Epoch: epoch, Commit: event.LSN(100 * i), Ordinal: 1}
}

func start() event.Position { return event.Position{Epoch: epoch} }

func ignore(lane.Item[int]) {}

// keyOf gives the events three keys.
func keyOf(value int) uint64 { return uint64(value % 3) }

// pushed returns a destination whose tail was read as empty, with events 1 to n in its queue.
func pushed(t *testing.T, n int) *lane.Destination[int] {
	t.Helper()
	d := lane.New[int](start(), start().Epoch, keyOf)
	push(d, 1, n)
	d.Read()
	if err := d.TailRead(event.Position{}, ignore); err != nil {
		t.Fatal(err)
	}
	return d
}

func push(d *lane.Destination[int], from, to int) {
	for i := from; i <= to; i++ {
		d.Push(lane.Item[int]{Position: at(i), Size: 1, Value: i})
	}
}

func values(items []lane.Item[int]) []int {
	var all []int
	for _, item := range items {
		all = append(all, item.Value)
	}
	return all
}

func equal(t *testing.T, got []int, want ...int) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func mustPanic(t testing.TB, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Fatalf("%s did not panic", what)
		}
	}()
	f()
}

func TestNothingIsTakenBeforeTheTailWasRead(t *testing.T) {
	d := lane.New[int](start(), start().Epoch, keyOf)
	push(d, 1, 1)
	if d.State() != lane.Unread {
		t.Fatalf("state %s, want unread", d.State())
	}
	mustPanic(t, "Take while unread", func() { d.Take(nil, 10, 10) })
	d.Read()
	mustPanic(t, "Take while reading", func() { d.Take(nil, 10, 10) })
}

func TestWhatTheTailHoldsIsDropped(t *testing.T) {
	d := lane.New[int](start(), start().Epoch, keyOf)
	push(d, 1, 3)
	d.Read()
	var landed []int
	if err := d.TailRead(at(2), func(i lane.Item[int]) { landed = append(landed, i.Value) }); err != nil {
		t.Fatal(err)
	}
	equal(t, landed, 1, 2)
	equal(t, values(d.Take(nil, 10, 10)), 3)
}

func TestWhatStandsAtOrBelowTheFrontierIsNotQueued(t *testing.T) {
	d := lane.New[int](start(), start().Epoch, keyOf)
	d.Read()
	if err := d.TailRead(at(2), ignore); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, true} {
		if got := d.Push(lane.Item[int]{Position: at(i + 1)}); got != want {
			t.Errorf("push of event %d: queued %v, want %v", i+1, got, want)
		}
	}
}

// History 7 of the protocol: e1 rejected, e2 landed, the tail says e2, e1 is dropped. The prefix keeps e2 from landing.
func TestRejectedEventHoldsThoseBehindIt(t *testing.T) {
	d := pushed(t, 3)
	equal(t, values(d.Take(nil, 10, 10)), 1, 2, 3)
	var landed []int
	d.Published(1, true, func(i lane.Item[int]) { landed = append(landed, i.Value) })
	equal(t, landed, 1)
	if d.State() != lane.Ready || d.Frontier() != at(1) {
		t.Fatalf("state %s, frontier %s, want ready at %s", d.State(), d.Frontier(), at(1))
	}
	equal(t, values(d.Take(nil, 10, 10)), 2, 3)
}

// History 13 of the protocol: the connection is cut, the answer lost. Only the tail may say what has landed.
func TestUnknownFateIsDecidedByTheTail(t *testing.T) {
	for landedOfRest := range 3 {
		d := pushed(t, 3)
		d.Take(nil, 10, 10)
		d.Published(1, false, ignore)
		mustPanic(t, "Take after an unknown fate", func() { d.Take(nil, 10, 10) })
		d.Read()
		if err := d.TailRead(at(1+landedOfRest), ignore); err != nil {
			t.Fatal(err)
		}
		want := []int{2, 3}[landedOfRest:]
		equal(t, values(d.Take(nil, 10, 10)), want...)
	}
}

func TestFailedTailReadLeavesTheDestinationUnread(t *testing.T) {
	d := lane.New[int](start(), start().Epoch, keyOf)
	push(d, 1, 1)
	d.Read()
	d.TailFailed()
	mustPanic(t, "Take after a failed tail read", func() { d.Take(nil, 10, 10) })
}

func TestTailOfALaterEpochIsAnErrorAndDropsNothing(t *testing.T) {
	d := lane.New[int](start(), start().Epoch, keyOf)
	push(d, 1, 2)
	d.Read()
	err := d.TailRead(event.Position{Epoch: epoch + 1}, ignore)
	if !errors.Is(err, lane.ErrForeignEpoch) {
		t.Fatalf("got %v, want ErrForeignEpoch", err)
	}
	if d.Len() != 2 || d.State() != lane.Unread {
		t.Fatalf("%d events left, state %s; want 2, unread", d.Len(), d.State())
	}
}

func TestTailOfThisEpochIsOursWhenTheCheckpointIsOfAnEarlierOne(t *testing.T) {
	d := lane.New[int](start(), epoch+1, keyOf)
	push(d, 1, 2)
	d.Read()
	landed := 0
	if err := d.TailRead(event.Position{Epoch: epoch + 1}, func(lane.Item[int]) { landed++ }); err != nil {
		t.Fatal(err)
	}
	if landed != 2 || d.Len() != 0 {
		t.Fatalf("%d events were found and %d are left, want all found: they precede the tail", landed, d.Len())
	}
}

func TestTailOfAnEarlierEpochDropsNothing(t *testing.T) {
	d := lane.New[int](start(), start().Epoch, keyOf)
	push(d, 1, 2)
	d.Read()
	if err := d.TailRead(event.Position{Epoch: epoch - 1, Commit: 1 << 60}, ignore); err != nil {
		t.Fatal(err)
	}
	equal(t, values(d.Take(nil, 10, 10)), 1, 2)
}

func TestTakeKeepsToCountAndBytesButTakesOneAtLeast(t *testing.T) {
	d := lane.New[int](start(), start().Epoch, keyOf)
	for i, size := range []int{50, 5, 5, 5} {
		d.Push(lane.Item[int]{Position: at(i + 1), Size: size, Value: i + 1})
	}
	d.Read()
	if err := d.TailRead(event.Position{}, ignore); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]int{{1}, {2, 3}, {4}} {
		batch := d.Take(nil, 2, 10)
		equal(t, values(batch), want...)
		d.Published(len(batch), true, ignore)
	}
}

func TestEventsOutOfPositionOrderPanic(t *testing.T) {
	d := lane.New[int](start(), start().Epoch, keyOf)
	push(d, 2, 2)
	mustPanic(t, "push of an earlier event", func() { push(d, 1, 1) })
	mustPanic(t, "push of the same event", func() { push(d, 2, 2) })
}

func TestOnlyWhatWasTakenSinceTheTailWasReadIsParkedInDoubt(t *testing.T) {
	d := pushed(t, 4)
	d.Take(nil, 2, 100)
	d.Published(0, false, ignore)
	d.Keys.HoldAll()
	for _, want := range []struct {
		doubt  bool
		events []int
	}{{true, []int{1, 2}}, {false, []int{3, 4}}} {
		taken, doubt := d.TakeParks(nil, 10, 100)
		equal(t, values(taken), want.events...)
		if doubt != want.doubt {
			t.Errorf("events %v: in doubt %v", values(taken), doubt)
		}
		d.Parked(ignore)
	}
}

func TestBeforeTheTailWasReadEverythingIsParkedInDoubt(t *testing.T) {
	d := lane.New[int](start(), start().Epoch, keyOf)
	push(d, 1, 3)
	d.Keys.HoldAll()
	taken, doubt := d.TakeParks(nil, 10, 100)
	equal(t, values(taken), 1, 2, 3)
	if !doubt {
		t.Error("a session before may have published them, and there is no doubt")
	}
}

func TestKeyThatIsLoadedWhileAPersonChangesRowsIsDueAgain(t *testing.T) {
	var w lane.Waiting
	w.Parked(1, 5)
	if got := w.Next(5, 10); len(got) != 1 {
		t.Fatalf("%d keys are due, want 1", len(got))
	}
	w.Rouse(6)
	w.Refused(1, lane.Never) // what was loaded had its last attempt before
	if got := w.Next(6, 10); len(got) != 1 {
		t.Errorf("%d keys are due, want 1", len(got))
	}
}
