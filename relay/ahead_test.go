package relay_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/sink"
)

// refusesOnce is a sink that refuses the first event of its first batch, and keeps its second batch until it is opened.
type refusesOnce struct {
	sink.Sink
	mu      sync.Mutex
	armed   bool
	batches int
	open    chan struct{}
}

// The first batch behind an outage is the only one of its turn, whatever is refused of it, so the second one comes when the refusal is settled.
func (s *refusesOnce) Publish(ctx context.Context, batch []sink.Message) []error {
	s.mu.Lock()
	if s.armed {
		s.batches++
	}
	n := s.batches
	s.mu.Unlock()
	switch n {
	case 1:
		errs := make([]error, len(batch))
		for i := range errs {
			errs[i] = sink.ErrNotAttempted
		}
		errs[0] = &sink.Error{Class: sink.Rejected, FateKnown: true, Err: errors.New("not now")}
		return errs
	case 2:
		<-s.open
	}
	return s.Sink.Publish(ctx, batch)
}

func (s *refusesOnce) published() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}

func (s *refusesOnce) arm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = true
}

// The key's own load delivers rows that a batch of the scan, loaded ahead of its turn, holds too.
func TestKeyThatIsDueWhileTheScanHasLoadedAheadIsDeliveredOnce(t *testing.T) {
	const backlog, keys = 40, 15
	r := newRig(t, "", "")
	r.setString("acme:orders")
	s := &refusesOnce{Sink: r.cfg.Sinks["redis"], open: make(chan struct{})}
	r.start(func(c *relay.Config) { c.Sinks, c.BatchMessages = map[string]sink.Sink{"redis": s}, 10 })
	r.insert("acme", 0, backlog, keys)
	r.eventually("all are parked", func() bool { return r.parked(`state = 'waiting'`) == backlog })
	s.arm()
	r.remove("acme:orders")
	r.eventually("the scan has passed the refused event", func() bool { return s.published() == 2 })
	r.eventually("the refused event is due", func() bool { return r.parked(`attempts = 1 AND due_at < now()`) == 1 })
	close(s.open)
	r.settled()
	r.keysInOrder("acme:orders", backlog, keys)
}
