package relay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
)

// stalled is a sink whose publishes, and tails of destinations named :slow, wait for release while it is armed; after that the broker is
// down, until it is mended.
type stalled struct {
	sink.Sink
	armed, down atomic.Bool
	publishing  atomic.Int64
	tails       atomic.Int64 // begun while it is armed
	release     chan struct{}
}

var errDown = &sink.Error{Class: sink.Unavailable, FateKnown: true, Broker: true, Err: errors.New("the broker is down")}

func (s *stalled) Publish(ctx context.Context, batch []sink.Message) []error {
	if s.armed.Load() {
		s.publishing.Add(1)
		<-s.release
	}
	if !s.down.Load() {
		return s.Sink.Publish(ctx, batch)
	}
	results := make([]error, len(batch))
	for i := range results {
		results[i] = errDown
	}
	return results
}

func (s *stalled) Tail(ctx context.Context, destination string, n int) ([]sink.Entry, error) {
	if s.armed.Load() {
		s.tails.Add(1)
		if strings.Contains(destination, ":slow") {
			<-s.release
		}
	}
	if s.down.Load() {
		return nil, errDown
	}
	return s.Sink.Tail(ctx, destination, n)
}

func (s *stalled) Probe(ctx context.Context, destination string) error {
	if s.down.Load() {
		return errDown
	}
	return s.Sink.Probe(ctx, destination)
}

// fail lets what waits go on, and finds that the broker is down.
func (s *stalled) fail() {
	s.down.Store(true)
	s.armed.Store(false)
	close(s.release)
}

func TestBrokerThatGoesDownIsParkedForDestinationsThatStandInLine(t *testing.T) {
	const quick, slow = 5, 20 // more than have their tails read at once
	r := newRig(t, "", "")
	r.setString("backlog:orders")
	s := &stalled{Sink: r.cfg.Sinks["redis"], release: make(chan struct{})}
	run := r.start(func(c *relay.Config) {
		c.Sinks = map[string]sink.Sink{"redis": s, "other": c.Sinks["redis"]}
		c.Concurrency = 1
	})
	r.insert("acme", 0, 1, 1)
	r.insert("backlog", 0, 1, 1)
	r.eventually("one event is delivered, the other parked", func() bool {
		return r.length("acme:orders") == 1 && r.parked(`state = 'waiting'`) == 1
	})
	s.armed.Store(true)
	r.insert("acme", 1, 1, 1)
	r.eventually("the only publisher is busy", func() bool { return s.publishing.Load() == 1 })
	before := s.tails.Load()
	r.remove("backlog:orders")
	for i := range quick {
		r.insert(fmt.Sprint("quick", i), 0, 1, 1)
	}
	r.eventually("they and the backlog wait for it", func() bool { return s.tails.Load() >= before+quick+1 })
	for i := range slow {
		r.insert(fmt.Sprint("slow", i), 0, 1, 1)
	}
	end := r.inserted
	r.eventually("those who read tails are busy", func() bool { return s.tails.Load() >= before+quick+1+16 })
	s.fail()
	r.eventually("everything is parked, and the log moves on", func() bool {
		return r.parked(`state = 'waiting'`) == 1+1+quick+slow && r.confirmed(end)
	})
	s.down.Store(false)
	r.settled()
	r.sequence("acme:orders", 2)
	r.sequence("backlog:orders", 1)
	for i := range slow {
		r.sequence(fmt.Sprintf("slow%d:orders", i), 1)
	}
	if n := run.Status().Sessions; n != 1 {
		t.Errorf("it took %d sessions", n)
	}
}

// partitioned is a sink that must be asked for partitions, and does not know those of some destinations.
type partitioned struct {
	sink.Sink
	broken atomic.Bool
}

func (p *partitioned) Partitions(_ context.Context, name string) ([]string, error) {
	if p.broken.Load() && strings.Contains(name, ":bad:") {
		return nil, &sink.Error{Class: sink.Unavailable, FateKnown: true, Err: errors.New("the namespace is gone")}
	}
	return []string{name}, nil
}

func (p *partitioned) Partition([]byte, int) int { return 0 }

func TestTenantWhosePartitionsAreNotKnownHoldsUpNoOther(t *testing.T) {
	const events = 50
	r := newRig(t, "", "")
	p := &partitioned{Sink: r.cfg.Sinks["redis"]}
	p.broken.Store(true)
	r.start(func(c *relay.Config) { c.Sinks = map[string]sink.Sink{"redis": p} })
	for i := range 10 {
		r.insert("bad", i*events/10, events/10, 3)
		r.insert("acme", i*events/10, events/10, 3)
	}
	end := r.inserted
	r.eventually("the other tenant's events", func() bool { return r.length("acme:orders") == events })
	r.eventually("its own are parked, and the log moves on", func() bool {
		return r.parked(`state = 'waiting'`) == events && r.confirmed(end)
	})
	p.broken.Store(false)
	r.settled()
	r.keysInOrder("bad:orders", events, 3)
	r.keysInOrder("acme:orders", events, 3)
}

// halved is a sink of which each destination has two partitions, with names of the given beginning.
type halved struct {
	sink.Sink
	names string
}

func (h *halved) Partitions(_ context.Context, name string) ([]string, error) {
	return []string{name + ":" + h.names + "0", name + ":" + h.names + "1"}, nil
}

func (h *halved) Partition(key []byte, n int) int { return int(key[len(key)-1]) % n }

func TestRowsThatAreDeliveredAgainGoToTheirPartitionsTogether(t *testing.T) {
	const events = 100
	r := newRig(t, "", "")
	run := r.start(func(c *relay.Config) { c.Sinks = map[string]sink.Sink{"redis": &halved{Sink: c.Sinks["redis"]}} })
	r.insert("acme", 0, events, 4)
	both := func() int64 { return r.length("acme:orders:0") + r.length("acme:orders:1") }
	r.eventually("all are there", func() bool { return both() == events })
	r.settled()
	r.exec(`UPDATE outbox SET status = 'NEW'`)
	r.eventually("all are there again", func() bool { return both() == 2*events })
	r.settled()
	if n := both(); n != 2*events {
		t.Errorf("%d events are there, want each twice", n)
	}
	const moves = `outboxd_database_query_seconds{statement="move"}`
	if n := run.metrics(t)[moves]; n == 0 || n > 10 {
		t.Errorf("they were given to their partitions by %v statements", n)
	}
}

func TestKeyThatADeadEventBlocksStaysBlockedWhenPartitionsChange(t *testing.T) {
	for _, behind := range []int{0, 3} { // events that wait behind it
		t.Run(fmt.Sprint(behind), func(t *testing.T) {
			r := newRig(t, "", "")
			limited := r.limit(smallLimit)
			blocks := r.routes(route.Rule{Blocks: true, To: []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}:{topic}"}}})
			start := func(names string) *running {
				return r.start(func(c *relay.Config) {
					if names == "old" {
						limited(c)
					}
					c.Sinks = map[string]sink.Sink{"redis": &halved{Sink: c.Sinks["redis"], names: names}}
					c.Router, c.Table.DeadAtOnce = blocks, true
				})
			}
			run := start("old")
			r.insertLarge("acme", "0", 0)
			r.eventually("its key is blocked", func() bool { return r.parked(`state = 'dead' AND blocks`) == 1 })
			r.insert("acme", 1, behind, 1)
			end := r.inserted
			r.eventually("later events wait", func() bool { return r.parked(`state = 'waiting'`) == behind && (behind == 0 || r.confirmed(end)) })
			run.crash()
			start("new")
			r.insert("acme", 4, 2, 2) // keys 0 and 1
			key0, key1 := "acme:orders:new0", "acme:orders:new1"
			r.eventually("the other key's event, and one more waits", func() bool {
				return r.length(key1) == 1 && r.parked(`state = 'waiting' AND destination LIKE '%:new0'`) == behind+1
			})
			if n := r.length(key0); n != 0 {
				t.Fatalf("%d events passed the dead one of their key", n)
			}
			if n, err := park.Retry(t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, park.Filter{States: []park.State{park.Dead}}, "test"); n != 1 || err != nil {
				t.Fatalf("%d events retried, %v", n, err)
			}
			r.settled()
			if got, want := r.seqs(key0), []int{0, 1, 2, 3}[:behind+1]; !slices.Equal(got, append(want, 4)) {
				t.Errorf("the stream holds %v", got)
			}
		})
	}
}
