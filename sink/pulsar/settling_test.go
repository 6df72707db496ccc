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
