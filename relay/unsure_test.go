package relay_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/sink"
)

// holding is a sink that keeps what is published to one destination until the session ends.
type holding struct {
	sink.Sink

	destination string
	reached     chan struct{}
	once        sync.Once
}

func newHolding(s sink.Sink, destination string) *holding {
	return &holding{Sink: s, destination: destination, reached: make(chan struct{})}
}

func (h *holding) Publish(ctx context.Context, batch []sink.Message) []error {
	if !slices.ContainsFunc(batch, func(m sink.Message) bool { return m.Destination == h.destination }) {
		return h.Sink.Publish(ctx, batch)
	}
	h.once.Do(func() { close(h.reached) })
	<-ctx.Done()
	return slices.Repeat([]error{ctx.Err()}, len(batch))
}

// An event is on its way when the process dies, and its route is another one afterwards: to a stream that has later events.
func TestEventOnItsWayIsNotLostWhenItsRouteIsChanged(t *testing.T) {
	r := newRig(t, "", "")
	h := newHolding(r.cfg.Sinks["redis"], r.prefix+":moved:orders")
	run := r.start(func(c *relay.Config) {
		c.Sinks, c.Routes = map[string]sink.Sink{"redis": h}, "by tenant"
	})
	r.insert("moved", 0, 10, 3)
	<-h.reached
	r.insert("acme", 10, 10, 3)
	r.eventually("later events have landed", func() bool { return r.length("acme:orders") == 10 })
	run.crash()
	again := func(c *relay.Config) { c.Router, c.Routes = r.router("acme:{topic}"), "to acme" }
	run = r.start(again)
	r.eventually("the others have, too", func() bool { return r.length("acme:orders") >= 20 })
	r.insert("moved", 20, 10, 3)
	r.settled()
	seqs := r.seqs("acme:orders")
	slices.Sort(seqs)
	for n := range 30 {
		if len(seqs) != 30 || seqs[n] != n {
			t.Fatalf("the stream holds %v, want each of 0 to 29 once", seqs)
		}
	}
	r.eventually("nothing is in doubt any more", func() bool {
		return r.count(`SELECT count(*) FROM outboxd.checkpoint WHERE routing->>'routes' = 'to acme' AND routing->'mixed' IS NULL`) == 1
	})
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	if r.count(`SELECT count(*) FROM outboxd.checkpoint WHERE routing IS NULL`) != 1 {
		t.Error("it is not on record that the session ended in order")
	}
}

// An event is on its way when the process dies, and its topic has more partitions afterwards: it goes to one that has later events.
func addedPartition(r *pulsarRig) {
	r.create("grown")
	r.onTopic(http.MethodPut, "grown", "/partitions", 2)
	p := r.sink()
	h := newHolding(p, r.topic("grown")+"-partition-0")
	run := r.with(struct {
		*holding
		sink.Partitioner
	}{h, p})
	r.insert("grown", 0, 100, 50)
	<-h.reached
	r.eventually("later events have landed at the other one", func() bool { return len(r.partitions("grown", 2)[1]) > 0 })
	run.crash()
	r.onTopic(http.MethodPost, "grown", "/partitions", 5)
	r.run()
	r.settled()
	seen := map[int]bool{}
	for _, log := range r.partitions("grown", 5) {
		for _, seq := range log {
			seen[seq] = true
		}
	}
	if len(seen) != 100 {
		r.t.Errorf("%d of 100 events are there", len(seen))
	}
}
