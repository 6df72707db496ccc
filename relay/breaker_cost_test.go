package relay

import (
	"fmt"
	"testing"

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
