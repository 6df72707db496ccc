package pulsar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
)

// message returns message number i of a destination, with a body of the given size.
func message(topic string, i, size int) sink.Message {
	return sink.Message{
		Destination: topic,
		Key:         fmt.Appendf(nil, "acme/order/%d", i%7),
		EventTime:   time.Date(2026, 11, 24, 9, 30, 0, 123e6, time.UTC),
		Headers: []sink.Header{
			{Name: sink.HeaderID, Value: fmt.Appendf(nil, "id-%d", i)},
			{Name: sink.HeaderPosition, Value: event.Position{Epoch: 1, Commit: event.LSN(i), Ordinal: 1}.AppendTo(nil)},
		},
		Body: bytes.Repeat([]byte{byte('a' + i%26)}, size),
	}
}

func messages(topic string, from, to, size int) []sink.Message {
	var all []sink.Message
	for i := from; i <= to; i++ {
		all = append(all, message(topic, i, size))
	}
	return all
}

func mustTail(t testing.TB, s *pulsar.Sink, topic string, n int) []sink.Entry {
	t.Helper()
	entries, err := s.Tail(t.Context(), topic, n)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func mustPublish(t testing.TB, s *pulsar.Sink, batch []sink.Message) {
	t.Helper()
	for i, err := range s.Publish(t.Context(), batch) {
		if err != nil {
			t.Fatalf("publish message %d of %d: %v", i, len(batch), err)
		}
	}
}

// wantIDs fails the test unless the topic holds the messages 1 to n in order, and returns them.
func (s server) wantIDs(t testing.TB, topic string, n int) []client.Message {
	t.Helper()
	all := s.read(t, topic)
	for i, m := range all {
		if m.Properties()[sink.HeaderID] != fmt.Sprintf("id-%d", i+1) {
			t.Fatalf("message %d of %d of %s has id %q", i+1, len(all), topic, m.Properties()[sink.HeaderID])
		}
	}
	if len(all) != n {
		t.Fatalf("%s holds %d messages, want %d", topic, len(all), n)
	}
	return all
}

func TestBatchIsOneEntry(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	mustPublish(t, p, messages(topic, 1, 1, 10))
	mustPublish(t, p, messages(topic, 2, sink.MaxBatch+1, 500))
	all := s.wantIDs(t, topic, sink.MaxBatch+1)
	for _, m := range all[1:] {
		if m.ID().EntryID() != 1 {
			t.Fatalf("message %s is not in entry 1", m.ID())
		}
	}
	m := all[9]
	if m.Key() != "acme/order/3" || !m.EventTime().Equal(time.Date(2026, 11, 24, 9, 30, 0, 123e6, time.UTC)) {
		t.Errorf("key %q, event time %s", m.Key(), m.EventTime())
	}
}

func TestEventTimeThatPulsarCannotSayIsLeftOut(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	batch := messages(topic, 1, 4, 10)
	batch[0].EventTime = time.Date(1969, 7, 20, 20, 17, 0, 0, time.UTC)
	batch[1].EventTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	batch[2].EventTime = time.Date(2262, 4, 11, 0, 0, 0, 0, time.UTC)
	mustPublish(t, p, batch)
	all := s.wantIDs(t, topic, len(batch))
	for i, want := range []int64{0, 0, batch[2].EventTime.UnixMilli(), batch[3].EventTime.UnixMilli()} {
		got := all[i].EventTime()
		if want == 0 && !got.IsZero() && got.UnixMilli() != 0 || want != 0 && got.UnixMilli() != want {
			t.Errorf("message %d: event time %s", i, got)
		}
	}
}

func TestBatchLargerThanTheBrokerAllowsIsSplit(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	mustPublish(t, p, messages(topic, 1, 120, 100_000))
	entries := make(map[int64]int)
	for _, m := range s.wantIDs(t, topic, 120) {
		entries[m.ID().EntryID()]++
	}
	if len(entries) != 3 {
		t.Errorf("12 MB in %d entries, want 3: %v", len(entries), entries)
	}
	if got := mustTail(t, p, topic, 100); len(got) != 100 || got[0].ID != "id-21" {
		t.Errorf("tail of 100 holds %d entries from %s", len(got), got[0].ID)
	}
}

// The broker counts a batch's metadata, which repeats the properties of its first message.
func TestLargestMessageIsAcceptedAndALargerOneRejected(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	const limit = 5 << 20
	mustPublish(t, p, []sink.Message{message(topic, 1, limit-1000)})
	large := message(topic, 2, 10)
	large.Headers = append(large.Headers, sink.Header{Name: "metadata", Value: bytes.Repeat([]byte("x"), limit/2-600)})
	mustPublish(t, p, []sink.Message{large})

	tooLarge := message(topic, 3, 10)
	tooLarge.Headers = append(tooLarge.Headers, sink.Header{Name: "metadata", Value: bytes.Repeat([]byte("x"), limit/2)})
	for _, m := range []sink.Message{message(topic, 3, limit), tooLarge} {
		results := p.Publish(t.Context(), []sink.Message{m, message(topic, 4, 1)})
		if len(results) != 2 || sink.ClassOf(results[0]) != sink.Rejected || !sink.FateKnown(results[0]) || !errors.Is(results[1], sink.ErrNotAttempted) {
			t.Fatalf("results: %v", results)
		}
	}
	mustPublish(t, p, messages(topic, 3, 3, 1))
	s.wantIDs(t, topic, 3)
}

func TestOwnLimitRejects(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t, func(c *pulsar.Config) { c.MaxMessageBytes = 1000 }), s.topic(t)
	mustTail(t, p, topic, 1)
	batch := messages(topic, 1, 3, 100)
	batch[1].Body = make([]byte, 1001)
	results := p.Publish(t.Context(), batch)
	if len(results) != 3 || results[0] != nil || sink.ClassOf(results[1]) != sink.Rejected {
		t.Fatalf("results: %v", results)
	}
	s.wantIDs(t, topic, 1)
}

func TestCompressedBatchesArriveAndAreReadBack(t *testing.T) {
	s := sharedServer(t)
	for _, compression := range []string{pulsar.CompressionLZ4, pulsar.CompressionZSTD, pulsar.CompressionZLib} {
		t.Run(compression, func(t *testing.T) {
			p, topic := s.open(t, func(c *pulsar.Config) { c.Compression = compression }), s.topic(t)
			mustTail(t, p, topic, 1)
			mustPublish(t, p, messages(topic, 1, 300, 5000))
			mustPublish(t, p, messages(topic, 301, 310, 0))
			s.wantIDs(t, topic, 310)
			entries := mustTail(t, p, topic, 200)
			if len(entries) != 200 || entries[0].ID != "id-111" || entries[199].Position.Commit != 310 {
				t.Errorf("tail: %d entries from %s", len(entries), entries[0].ID)
			}
		})
	}
}

func TestManyTopicsShareASmallBudget(t *testing.T) {
	s := sharedServer(t)
	p := s.open(t, func(c *pulsar.Config) { c.PendingBytes = 100_000 })
	var batch []sink.Message
	var topics []string
	for range 10 {
		topic := s.topic(t)
		mustTail(t, p, topic, 1)
		topics = append(topics, topic)
		batch = append(batch, messages(topic, 1, 20, 10_000)...)
		batch = append(batch, message(topic, 21, 300_000)) // more than the budget: passes alone
	}
	mustPublish(t, p, batch)
	for _, topic := range topics {
		s.wantIDs(t, topic, 21)
	}
}

func TestEvictedDestinationIsRefusedUntilItsTailIsRead(t *testing.T) {
	s := sharedServer(t)
	p := s.open(t, func(c *pulsar.Config) { c.MaxProducers = 2 })
	a, b, c := s.topic(t), s.topic(t), s.topic(t)
	for _, topic := range []string{b, a, c} {
		mustTail(t, p, topic, 1)
	}
	for _, topic := range []string{b, a, c} {
		mustPublish(t, p, messages(topic, 1, 1, 1)) // with the third, b was idle longest
	}
	results := p.Publish(t.Context(), append(append(messages(a, 2, 2, 1), messages(b, 2, 3, 1)...), messages(c, 2, 2, 1)...))
	if len(results) != 4 || results[0] != nil || results[3] != nil || !errors.Is(results[1], sink.ErrTailUnread) || sink.FateKnown(results[1]) {
		t.Fatalf("results: %v", results)
	}
	waitUntil(t, "the evicted producer is gone", func() bool { return producerCount(t, s, b) == 0 })
	mustTail(t, p, b, 1)
	mustPublish(t, p, messages(b, 2, 3, 1))
	s.wantIDs(t, a, 2)
	s.wantIDs(t, b, 3)
	s.wantIDs(t, c, 2)
}

// producerCount asks the broker how many producers the topic has.
func producerCount(t testing.TB, s server, topic string) int {
	t.Helper()
	var stats struct {
		Publishers []struct{} `json:"publishers"`
	}
	s.get(t, adminPath(topic)+"/stats", &stats)
	return len(stats.Publishers)
}

func waitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// Unloading a topic moves it to another broker in a cluster: its producers are told to go.
func TestUnloadedTopicIsRefusedThenGoesOn(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	mustPublish(t, p, messages(topic, 1, 5, 10))
	s.call(t, http.MethodPut, adminPath(topic)+"/unload", nil, http.StatusNoContent)
	for next := 6; next <= 10; {
		results := p.Publish(t.Context(), messages(topic, next, 10, 10))
		if results == nil {
			break
		}
		if sink.FateKnown(results[0]) {
			t.Fatalf("fate known: %v", results[0])
		}
		for _, e := range mustTail(t, p, topic, 20) {
			next = int(e.Position.Commit) + 1
		}
	}
	s.wantIDs(t, topic, 10)
}

func TestTerminatedTopicIsUnavailableAndOthersGoOn(t *testing.T) {
	s := sharedServer(t)
	p := s.open(t, func(c *pulsar.Config) { c.Timeout = 5 * time.Second })
	dead, alive := s.topic(t), s.topic(t)
	mustTail(t, p, dead, 1)
	mustTail(t, p, alive, 1)
	mustPublish(t, p, append(messages(dead, 1, 2, 1), messages(alive, 1, 2, 1)...))
	s.call(t, http.MethodPost, adminPath(dead)+"/terminate", nil, http.StatusOK)

	results := p.Publish(t.Context(), append(messages(dead, 3, 4, 1), messages(alive, 3, 4, 1)...))
	if len(results) != 4 || results[0] == nil || sink.FateKnown(results[0]) || results[2] != nil || results[3] != nil {
		t.Fatalf("results: %v", results)
	}
	_, err := p.Tail(t.Context(), dead, 1)
	if sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "erminated") {
		t.Fatalf("tail of a terminated topic: %v", err)
	}
	mustPublish(t, p, messages(alive, 5, 5, 1))
	s.wantIDs(t, dead, 2)
	s.wantIDs(t, alive, 5)
}

// A topic's own limit is told to the client in a way that it keeps to itself.
func TestLimitOfATopicSplitsBatchesAndRejects(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t, func(c *pulsar.Config) { c.AckStall = 300 * time.Millisecond }), s.topic(t)
	mustTail(t, p, topic, 1)
	s.call(t, http.MethodPost, adminPath(topic)+"/maxMessageSize", 10_000, http.StatusNoContent)
	waitUntil(t, "the broker knows the policy", func() bool { // it reads it from a topic of its own
		status, answer := testenv.PulsarAdmin(t, s.admin, http.MethodGet, adminPath(topic)+"/maxMessageSize", nil)
		return status == http.StatusOK && strings.TrimSpace(string(answer)) == "10000"
	})
	s.call(t, http.MethodPut, adminPath(topic)+"/unload", nil, http.StatusNoContent) // the policy is in force when it is loaded
	batch := append(messages(topic, 1, 30, 1000), messages(topic, 31, 31, 20_000)...)
	var last error
	waitUntil(t, "the batch has landed but for the large message", func() bool {
		landed := len(mustTail(t, p, topic, 100))
		results := p.Publish(t.Context(), batch[landed:])
		if results == nil {
			t.Fatal("a message above the topic's limit was accepted")
		}
		last = results[len(results)-1]
		return landed == 30 && sink.ClassOf(last) == sink.Rejected
	})
	if !strings.Contains(last.Error(), "Exceed maximum message size") {
		t.Errorf("error: %v", last)
	}
	s.wantIDs(t, topic, 30)
}
