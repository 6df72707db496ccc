package relay

import (
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/route"
)

// An event costs its entry; its place in a destination's queue and in the settler's, whose slices may be twice as long as needed
// after they grew; and its id in one settlement.
func TestEntryBytesIsWhatAnEntryCosts(t *testing.T) {
	const (
		queued  = 2 * unsafe.Sizeof(lane.Item[*entry]{})
		settled = 2*unsafe.Sizeof((*entry)(nil)) + unsafe.Sizeof([]byte(nil))
		cost    = int(unsafe.Sizeof(entry{}) + queued + settled)
	)
	if cost != entryBytes {
		t.Errorf("an entry and its places cost %d bytes, the budget counts %d", cost, entryBytes)
	}
}

func TestChunkGoesBackWhenTheLastOfItIsReleased(t *testing.T) {
	b := newBudget(1 << 20)
	c := newChunk(10)
	if !b.take(c.cost(), 0) {
		t.Fatal("the budget is used up at the beginning")
	}
	spare := make(chan *chunk, 1)
	owner := &core{budget: b, chunks: spare}
	c.refs = 2
	owner.release(c)
	if b.used.Load() != c.cost() || len(spare) != 0 {
		t.Fatal("a chunk went back while it is in use")
	}
	owner.release(c)
	if b.used.Load() != 0 || len(spare) != 1 {
		t.Fatalf("%d bytes stay taken, %d chunks came back", b.used.Load(), len(spare))
	}
}

func TestLargerThanTheBudgetPassesAloneOnly(t *testing.T) {
	b := newBudget(100)
	if !b.take(10, 0) {
		t.Fatal("10 of 100 bytes were refused")
	}
	if b.take(1000, 0) {
		t.Fatal("1000 bytes passed beside others")
	}
	b.giveBack(10)
	if !b.take(1000, 0) {
		t.Fatal("1000 bytes did not pass alone")
	}
	if b.take(1, 0) {
		t.Fatal("another passed beside the large one")
	}
}

func TestPartOfTheBudgetHasToDoWhereMoreWouldOnlyWait(t *testing.T) {
	b := newBudget(aheadPart * 100)
	b.suffice(true)
	if !b.take(100, 0) {
		t.Fatal("the part that has to do was refused")
	}
	if b.take(100, 0) {
		t.Fatal("more was given than has to do")
	}
	if b.starved.Load() {
		t.Error("the receiver is said to go without, with most of the budget free")
	}
	b.suffice(false)
	if !b.take((aheadPart-1)*100, time.Hour) {
		t.Fatal("the rest of the budget was refused, where more is wanted")
	}
	if b.take(1, 0) || !b.starved.Load() {
		t.Error("more was given than there is, or nobody is told")
	}
}

func TestNoMoreIsReadAheadOnceEveryDestinationHasWork(t *testing.T) {
	broker := &sinkLane{name: "redis"}
	c := &core{
		cfg: &Config{BatchMessages: 10}, facts: &facts{}, sinks: map[string]*sinkLane{"redis": broker}, failing: make(map[*failure]struct{}),
		targets: make(map[route.Destination]*target), targetLimit: 10,
	}
	now, last := time.Now(), uint32(0)
	read := &chunk{since: now}
	push := func(name string, n int) *target {
		to := c.target(route.Destination{Sink: "redis", Name: name})
		for range n {
			last++
			to.push(c, &entry{chunk: read, event: event.Event{Position: event.Position{Commit: 1, Ordinal: last}}})
		}
		return to
	}
	enough := func(want bool, when string) {
		t.Helper()
		if c.enough(now) != want {
			t.Errorf("enough is %v %s", !want, when)
		}
	}
	enough(false, "before anything is read")
	push("a", 19)
	enough(false, "with less than two batches")
	a := push("a", 1)
	enough(true, "with two batches")
	push("b", 19)
	enough(false, "with another destination that has less")
	push("b", 1)
	enough(true, "with two batches for each")
	c.failing[&a.partitions[0].failure] = struct{}{}
	enough(false, "while one fails")
	clear(c.failing)
	read.since = now.Add(-2 * slowAfter)
	enough(false, "while one is slow")
}

func TestIdleTargetsAreForgottenWhenThereAreTooMany(t *testing.T) {
	broker := &sinkLane{name: "redis"}
	c := &core{
		facts: &facts{}, sinks: map[string]*sinkLane{"redis": broker}, targets: make(map[route.Destination]*target), targetLimit: 3,
	}
	busy := c.target(route.Destination{Sink: "redis", Name: "busy"})
	busy.push(c, &entry{event: event.Event{Position: event.Position{Commit: 1, Ordinal: 1}}})
	c.target(route.Destination{Sink: "redis", Name: "idle 1"})
	c.target(route.Destination{Sink: "redis", Name: "idle 2"})
	c.target(route.Destination{Sink: "redis", Name: "new"})
	if len(c.targets) != 2 || c.targets[route.Destination{Sink: "redis", Name: "busy"}] != busy {
		t.Fatalf("%d targets are left: %v, want the busy and the new one", len(c.targets), c.targets)
	}
}

func TestAdoptionLooksAtFewRowsWhereTheyAreLarge(t *testing.T) {
	for _, c := range []struct{ look, rowBytes, want int }{
		{50, 0, 200},
		{200, 100, 800},
		{800, 100, 1000},
		{1000, 1000, 1000},
		{1000, 20_000, 209},
		{209, 20_000, 209},
		{50, 1 << 20, 4},
		{4, 64 << 20, 1},
		{1, 64 << 20, 1},
		{1, 100, 4},
	} {
		if got := adoptNext(c.look, c.look*c.rowBytes); got != c.want {
			t.Errorf("after %d rows of %d bytes it looks at %d, want %d", c.look, c.rowBytes, got, c.want)
		}
	}
}

func TestLongSweepIsFollowedByARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, took := range []time.Duration{0, time.Minute} {
			c := &core{facts: &facts{}, cfg: &Config{Table: TableConfig{Sweep: time.Second}}}
			c.swept(&sweepRound{began: time.Now().Add(-took)})
			if rest := time.Until(c.sweeping.due); rest > time.Second != (took > 0) || took > 0 && rest < 3*took {
				t.Errorf("after a sweep of %s the next is due in %s", took, rest)
			}
		}
	})
}
