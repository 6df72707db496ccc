package relay

import (
	"testing"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
)

// A person may have skipped an event that is loaded, and stands in line for a publisher, in an outage for hours.
func TestWhatIsLoadedIsLoadedAnewBehindACommand(t *testing.T) {
	const key = 7
	broker := &sinkLane{name: "redis"}
	c := &core{
		cfg: &Config{}, facts: &facts{}, sinks: map[string]*sinkLane{"redis": broker}, targets: make(map[route.Destination]*target), targetLimit: 3,
		waiting: make(map[*destination]struct{}),
	}
	d := c.target(route.Destination{Sink: "redis", Name: "orders"}).partitions[0]
	d.lane.Read()
	if err := d.lane.TailRead(event.Position{}, nil); err != nil {
		t.Fatal(err)
	}
	d.lane.Keys.Add(key, 0)
	c.waitsAt(d)
	if next := d.lane.Keys.Next(1, 10); len(next) != 1 {
		t.Fatalf("%d keys are due, want one", len(next))
	}
	d.table = tableWork{busy: true, keys: map[uint64]bool{key: true}, rows: []park.Row{{Key: key}}}
	c.loadEnded(d)
	if broker.lent.len() != 1 {
		t.Fatal("the destination stands in no line for what is loaded")
	}
	c.refreshed(restored{})
	if broker.lent.len() != 0 || d.table.busy {
		t.Error("what was loaded before the command is published")
	}
	if next := d.lane.Keys.Next(micros(time.Now()), 10); len(next) != 1 || next[0] != key {
		t.Errorf("keys %v are due behind it, want %d", next, key)
	}
}
