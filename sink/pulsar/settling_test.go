package pulsar

import (
	"context"
	"fmt"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/testenv"
)

// closable is a producer that does nothing but close.
type closable struct{ client.Producer }

// Close closes at once.
func (closable) Close() {}

// Name is the producer's name.
func (closable) Name() string { return "outboxd@test" }

// What an older producer left under way is not settled by the clean end of a later one, and nothing of a session before is relied on.
func TestCleanEndDoesNotSettleWhatAnOlderProducerLeft(t *testing.T) {
	const topic = "persistent://public/default/orders"
	s := &Sink{producers: newProducers(), heard: &overheard{}}
	demands := func(when string, want time.Duration) {
		t.Helper()
		if got := s.producers.demanded(topic); got != want {
			t.Errorf("%s: the end must stand still for %s, want %s", when, got, want)
		}
	}
	ends := func(doubtful, lost bool) {
		ctx, markLost := context.WithCancelCause(context.Background())
		p := &producer{Producer: closable{}, topic: topic, lost: ctx, markLost: markLost}
		s.producers.add(p)
		if lost {
			markLost(errLost)
		}
		if doubtful {
			s.retireDoubtful(p)
		} else if err := s.retireOwn(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		s.background.Wait()
	}
	ends(false, false)
	demands("before the first read", settledUnknown)
	for _, c := range []struct {
		what           string
		doubtful, lost bool
		want           time.Duration
	}{
		{"a clean end", false, false, 0},
		{"a lost connection", false, true, settledUnknown},
		{"an unknown fate", true, false, settledUnknown},
	} {
		s.producers.settling[topic] = 0 // what a read of the end leaves
		ends(c.doubtful, c.lost)
		demands(c.what, c.want)
		ends(false, false)
		demands(c.what+" and a clean one", c.want)
	}
	s.producers.settling[topic] = 0
	s.BeginSession()
	demands("in a new session", settledUnknown)
	s.producers.demand(topic, settledHung)
	s.BeginSession()
	demands("in a new session after a broker that hung", settledHung)
}

// The end that a Tail has read stood still as long as it had to.
func TestEndThatWasReadIsSettled(t *testing.T) {
	server := testenv.Pulsar(t)
	s, err := New(Config{URL: server.URL}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	topic := fmt.Sprintf("persistent://public/default/settling-%d", time.Now().UnixNano())
	s.producers.demand(topic, settledHung)
	if _, err := s.Tail(t.Context(), topic, 1); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.producers.demanded(topic); got != 0 {
		t.Errorf("the end must stand still for %s once more", got)
	}
}

// What is remembered of topics is bounded, and what must not be forgotten stays.
func TestMemoryOfTopicsIsBounded(t *testing.T) {
	ps := newProducers()
	topic := func(i int) string { return fmt.Sprintf("persistent://public/default/t%d", i) }
	ps.demand(topic(0), settledHung)
	for i := range 2*rememberedMost + 2 {
		ps.retire(topic(i), "outboxd@test")
		if i > 0 {
			ps.settled(topic(i))
		}
	}
	if len(ps.retired) != rememberedMost || len(ps.settling) > rememberedMost {
		t.Errorf("%d names and %d settled ends are remembered", len(ps.retired), len(ps.settling))
	}
	if d := ps.demanded(topic(0)); d != settledHung {
		t.Errorf("the end that a hung broker has left must stand still for %s", d)
	}
	last := topic(2*rememberedMost + 1)
	ps.demand(last, settledUnknown)
	if _, known := ps.settling[last]; known || ps.demanded(last) != settledUnknown {
		t.Error("an unknown end is remembered, though all others are unknown")
	}
	ps.add(&producer{topic: last})
	if _, known := ps.retired[last]; known {
		t.Error("the name of a producer is remembered that another one has replaced")
	}
}
