package pulsar

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/sink"
)

// lingering is a producer whose sends go on for a while when their context has ended.
type lingering struct {
	closable
	release chan struct{}
}

// Send returns when it is let go.
func (p lingering) Send(ctx context.Context, _ *client.ProducerMessage) (client.MessageID, error) {
	<-ctx.Done()
	<-p.release
	return nil, ctx.Err()
}

// noticed is a client of which is noticed when it is closed.
type noticed struct {
	client.Client
	closed atomic.Bool
}

// Close closes the client.
func (c *noticed) Close() {
	c.closed.Store(true)
	c.Client.Close()
}

// A client that is closed while a message is given to one of its producers panics: the producer's channel is closed under the sender.
func TestClientIsNotClosedUnderASend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const topic = "persistent://public/default/orders"
		s, err := New(Config{URL: "pulsar://localhost:6650"}, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		old := &noticed{Client: s.clients[0].Client}
		s.clients[0].Client = old
		ctx, markLost := context.WithCancelCause(context.Background())
		p := &producer{Producer: lingering{release: make(chan struct{})}, client: s.clients[0], topic: topic, lost: ctx, markLost: markLost}
		s.producers.add(p)
		ended := make(chan failure, 1)
		go func() {
			ended <- s.publish(t.Context(), group{topic, []*sink.Message{{Destination: topic, Body: []byte("x")}}, []int{0}})
		}()
		synctest.Wait()
		s.mu.Lock()
		s.replaceLocked(s.clients[0])
		s.mu.Unlock()
		synctest.Wait()
		if old.closed.Load() {
			t.Error("the client was closed under a send")
		}
		close(p.Producer.(lingering).release)
		if f := <-ended; !errors.Is(f.err, errReplaced) || f.err.FateKnown {
			t.Errorf("the send ended with %v", f.err)
		}
		synctest.Wait()
		if !old.closed.Load() {
			t.Error("the client is still open behind the send")
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
