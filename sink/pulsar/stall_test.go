package pulsar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
)

// stalled is a producer whose broker never acknowledges.
type stalled struct {
	client.Producer
	sending chan struct{} // closed when a message is under way
}

func (p *stalled) Send(ctx context.Context, _ *client.ProducerMessage) (client.MessageID, error) {
	close(p.sending)
	<-ctx.Done()
	return nil, ctx.Err()
}

// stall makes the destination ours and lets its next message hang. The channel is closed when that is under way.
func stall(t *testing.T, s *Sink, topic string) <-chan struct{} {
	t.Helper()
	own(t, s, topic)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.producers.open[topic]
	hanging := &stalled{p.Producer, make(chan struct{})}
	p.Producer = hanging
	return hanging.sending
}

// own makes the destination ours.
func own(t *testing.T, s *Sink, topic string) {
	t.Helper()
	if _, err := s.Tail(t.Context(), topic, 0); err != nil {
		t.Fatal(err)
	}
}

// open returns a sink and two topics.
func open(t *testing.T, c Config) (s *Sink, a, b string) {
	t.Helper()
	if c.AckStall == 0 && c.Timeout == 0 {
		c.AckStall = 20 * time.Second // a busy broker may well acknowledge nothing for the second that is the default
	}
	s, err := New(c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	name := fmt.Sprintf("persistent://public/default/stall-%d-", time.Now().UnixNano())
	return s, name + "a", name + "b"
}

func TestTopicIsTakenOverThoughOneHostIsMute(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	_, address, _ := strings.Cut(testenv.Pulsar(t).URL, "://")
	s, topic, _ := open(t, Config{URL: "pulsar://" + mute.Addr().String() + "," + address})
	if err := s.takeOver(t.Context(), topic); err != nil {
		t.Error(err)
	}
}

func sized(topic string, bytes int) sink.Message {
	return sink.Message{Destination: topic, Body: make([]byte, bytes)}
}

func TestRefusalOfATopicIsNotBlamedOnOneThatStalls(t *testing.T) {
	server := testenv.Pulsar(t)
	s, small, slow := open(t, Config{URL: server.URL, AckStall: 300 * time.Millisecond})
	own(t, s, small)
	path := "persistent/" + strings.TrimPrefix(small, persistentScheme)
	for _, c := range []struct {
		method, path string
		body         any
	}{{http.MethodPost, "/maxMessageSize", 10_000}, {http.MethodPut, "/unload", nil}} { // the policy is in force when the topic is loaded
		if status, answer := testenv.PulsarAdmin(t, server.AdminURL, c.method, path+c.path, c.body); status != http.StatusNoContent {
			t.Fatalf("%s: %d %s", c.path, status, answer)
		}
	}
	deadline := time.Now().Add(time.Minute)
	for rejected := 0; rejected < 2; {
		own(t, s, small)
		stall(t, s, slow)
		results := s.Publish(t.Context(), []sink.Message{sized(slow, 100), sized(small, 20_000)})
		if len(results) != 2 || !errors.Is(results[0], errStalled) || sink.FateKnown(results[0]) {
			t.Fatalf("results: %v", results)
		}
		if sink.ClassOf(results[0]) != sink.Retry || strings.Contains(results[0].Error(), "refused") {
			t.Fatalf("the topic that stalled: %v", results[0])
		}
		if sink.ClassOf(results[1]) == sink.Rejected {
			rejected++
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other topic was never rejected: %v", results[1])
		}
	}
	if limits := s.producers.entryLimit; len(limits) != 1 || limits[small] == 0 {
		t.Errorf("entries are limited to %v, want only those of the topic that refused one", limits)
	}
	s.BeginSession()
	if limits := s.producers.entryLimit; len(limits) != 0 {
		t.Errorf("in a new session entries are limited to %v", limits)
	}
}

// The client closes the connection where the broker could not write a batch, and says of it only that.
func TestRefusalThatEndsTheConnectionIsSaid(t *testing.T) {
	s, topic, _ := open(t, Config{URL: testenv.Pulsar(t).URL, AckStall: time.Minute, Timeout: 2 * time.Minute})
	underWay := stall(t, s, topic)
	ended := make(chan []error)
	go func() { ended <- s.Publish(t.Context(), []sink.Message{sized(topic, 100)}) }()
	<-underWay
	s.mu.Lock()
	p := s.producers.open[topic]
	s.mu.Unlock()
	s.heard.mu.Lock()
	number := s.heard.producers[p.Name()].number
	s.heard.mu.Unlock()
	s.heard.refused(number, "PersistenceError: no bookie")
	p.markLost(errLost)
	if results := <-ended; len(results) != 1 || !errors.Is(results[0], errLost) || sink.FateKnown(results[0]) ||
		!strings.Contains(results[0].Error(), "PersistenceError: no bookie") {
		t.Errorf("results: %v", results)
	}
}

func TestWaitForMemoryIsNoRefusalOfTheEvent(t *testing.T) {
	s, waiting, hanging := open(t, Config{URL: testenv.Pulsar(t).URL, PendingBytes: 1000, AckStall: time.Minute, Timeout: 2 * time.Minute})
	own(t, s, waiting)
	underWay := stall(t, s, hanging)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan []error)
	go func() { ended <- s.Publish(ctx, []sink.Message{sized(hanging, 1000)}) }()
	<-underWay
	short, end := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer end()
	results := s.Publish(short, []sink.Message{sized(waiting, 1000)})
	if len(results) != 1 || sink.ClassOf(results[0]) != sink.Unavailable || !sink.FateKnown(results[0]) || sink.BrokerDown(results[0]) {
		t.Errorf("class %s of %v", sink.ClassOf(results[0]), results)
	}
	cancel()
	if results := <-ended; len(results) != 1 || sink.FateKnown(results[0]) {
		t.Errorf("results of what hung: %v", results)
	}
	if results := s.Publish(t.Context(), []sink.Message{sized(waiting, 1000)}); results != nil {
		t.Errorf("with memory again: %v", results)
	}
}

// A client that replaces another numbers its producers from one again.
func TestRefusalBelongsToTheProducerOfItsClient(t *testing.T) {
	heard := &overheard{}
	older, newer := producerNumber{new(byte), 1}, producerNumber{new(byte), 1}
	heard.opened("older", older)
	heard.opened("newer", newer)
	heard.refused(older, "too large")
	if a, b := heard.refusalOf("older"), heard.refusalOf("newer"); a != "too large" || b != "" {
		t.Errorf("heard %q of the older producer and %q of the newer one", a, b)
	}
	heard.forget("older")
	if a := heard.refusalOf("older"); a != "" || len(heard.producers) != 1 {
		t.Errorf("heard %q of a producer that is closed, and know %d", a, len(heard.producers))
	}
}
