package relay

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/route"
)

// With ten thousand destinations a batch that fails concerns hundreds of them. Where each failure looked at all destinations again, for every failure
// there is, the core stood still for minutes.
func TestSpillingLooksAtNoDestinationThatDoesNotFail(t *testing.T) {
	sink := newSinkLane("redis", nil, 1)
	c := &core{
		cfg: &Config{}, sinks: map[string]*sinkLane{sink.name: sink}, targets: make(map[route.Destination]*target),
		failing: make(map[*failure]struct{}), waiting: make(map[*destination]struct{}), targetLimit: maxTargets,
	}
	for i := range 1000 {
		at := route.Destination{Sink: sink.name, Name: fmt.Sprint("stream-", i)}
		c.targets[at] = c.newTarget(sink, at.Name)
	}
	failed := c.targets[route.Destination{Sink: sink.name, Name: "stream-7"}].partitions[0]
	failed.failure.open = true
	c.failing[&failed.failure] = struct{}{}
	c.spillWhereDue()
	if !failed.lane.Keys.Whole() {
		t.Fatal("what waits at a destination that fails is not parked")
	}
	if allocated := testing.AllocsPerRun(10, c.spillWhereDue); allocated > 0 {
		t.Errorf("it allocates %v times, as if it listed all destinations", allocated)
	}
}

func TestRefusalWhileMemoryIsShortParksAllThatWaitsThere(t *testing.T) {
	for _, short := range []bool{false, true} {
		sink := newSinkLane("redis", nil, 1)
		c := &core{
			cfg: &Config{}, sinks: map[string]*sinkLane{sink.name: sink}, waiting: make(map[*destination]struct{}), budget: newBudget(1),
		}
		c.budget.starved.Store(short)
		d := c.newTarget(sink, "stream").partitions[0]
		c.refused(d, &entry{event: event.Event{ID: []byte("1")}}, errors.New("too large"))
		if d.lane.Keys.Empty() {
			t.Fatal("the key of a refused event does not wait")
		}
		if d.lane.Keys.Whole() != short {
			t.Errorf("with memory that is short (%t) everything for the destination is parked: %t", short, !short)
		}
	}
}

// A target whose partitions are to be asked for once more, though nothing has failed, is in the set as well.
func TestSuccessEndsAWaitWithoutAFailure(t *testing.T) {
	f := &failure{retryAt: time.Now()}
	c := &core{failing: map[*failure]struct{}{f: {}}}
	c.succeed(f)
	if len(c.failing) > 0 {
		t.Error("what works is tried again")
	}
}
