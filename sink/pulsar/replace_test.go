package pulsar

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// slow is a client that answers no look-up until it is let go.
type slow struct {
	noticed
	answer chan struct{}
}

// TopicPartitions returns when it is let go.
func (c *slow) TopicPartitions(topic string) ([]string, error) {
	<-c.answer
	return []string{topic}, nil
}

// withSlow returns a sink and its client of the topic, which is slow.
func withSlow(t *testing.T, topic string) (*Sink, *pulsarClient, *slow) {
	t.Helper()
	s, err := New(Config{URL: "pulsar://localhost:6650", Timeout: 10 * time.Second}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.clientLocked(topic)
	if err != nil {
		t.Fatal(err)
	}
	hanging := &slow{noticed{Client: c.Client}, make(chan struct{})}
	c.Client = hanging
	return s, c, hanging
}

// lookUp asks the client for as long as that.
func lookUp(t *testing.T, s *Sink, topic string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := call(ctx, s, topic, func(c *pulsarClient) ([]string, error) { return c.TopicPartitions(topic) }, nil)
	return err
}

// A call that goes on behind its client's end makes a connection that nobody closes.
func TestClientIsNotClosedUnderACallUnlessThatIsStuck(t *testing.T) {
	const topic = "persistent://public/default/orders"
	for name, ends := range map[string]bool{"Ends": true, "Stuck": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c, old := withSlow(t, topic)
				if err := lookUp(t, s, topic, time.Second); err == nil {
					t.Error("the look-up was answered")
				}
				s.mu.Lock()
				s.replaceLocked(c)
				s.mu.Unlock()
				time.Sleep(operationTimeout - time.Second)
				if old.closed.Load() {
					t.Error("the client was closed under a call")
				}
				if ends {
					close(old.answer)
				} else {
					time.Sleep(2 * time.Second)
				}
				synctest.Wait()
				if !old.closed.Load() {
					t.Error("the client is still open")
				}
				if !ends {
					close(old.answer)
				}
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestClientIsReplacedForItsSilenceAndNotForAQuietTime(t *testing.T) {
	const topic = "persistent://public/default/orders"
	synctest.Test(t, func(t *testing.T) {
		s, c, old := withSlow(t, topic)
		replaced := func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.clients[c.slot] != c
		}
		go func() { old.answer <- struct{}{} }()
		if err := lookUp(t, s, topic, time.Second); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		for silent := time.Duration(0); silent < clientSilence; silent += time.Second {
			if replaced() {
				t.Fatalf("replaced after %s", silent)
			}
			if err := lookUp(t, s, topic, time.Second); err == nil {
				t.Error("the look-up was answered")
			}
		}
		if !replaced() {
			t.Errorf("not replaced after %s", clientSilence)
		}
		close(old.answer)
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
