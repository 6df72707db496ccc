package pulsar

import (
	"context"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
)

// closable is a producer that does nothing but close.
type closable struct{ client.Producer }

// Close closes at once.
func (closable) Close() {}

// Name is the producer's name.
func (closable) Name() string { return "outboxd@test" }

// What an older producer left under way is not settled by the clean end of a later one, nor by an error of unknown fate that came before a
// clean end.
func TestEndStandsStillUntilItIsRead(t *testing.T) {
	const topic = "persistent://public/default/orders"
	s := &Sink{producers: newProducers()}
	ends := func(doubtful, lost bool) time.Duration {
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
		return s.producers.demanded(topic)
	}
	if got := ends(false, false); got != settledUnknown {
		t.Errorf("before the first read: %s", got)
	}
	for _, c := range []struct {
		doubtful, lost bool
		want           time.Duration
	}{
		{false, false, 0},
		{false, true, settledUnknown},
		{true, false, settledUnknown},
	} {
		s.producers.settling[topic] = 0 // the end was read
		if got := ends(c.doubtful, c.lost); got != c.want {
			t.Errorf("doubtful %v, lost %v: %s, want %s", c.doubtful, c.lost, got, c.want)
		}
		if got := ends(false, false); got != c.want {
			t.Errorf("doubtful %v, lost %v, and a clean end: %s, want %s", c.doubtful, c.lost, got, c.want)
		}
	}
}
