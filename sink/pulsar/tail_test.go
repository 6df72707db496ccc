package pulsar_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
)

// wantTail fails the test unless the tail of n holds the last n of the messages 1 to total, and at most more.
func wantTail(t testing.TB, p *pulsar.Sink, topic string, n, total int) {
	t.Helper()
	entries := mustTail(t, p, topic, n)
	if len(entries) != min(n, total) {
		t.Fatalf("tail of %d holds %d entries of %d", n, len(entries), total)
	}
	for i, e := range entries {
		if want := fmt.Sprintf("id-%d", total-len(entries)+i+1); e.ID != want {
			t.Fatalf("tail of %d: entry %d is %s, want %s", n, i, e.ID, want)
		}
	}
}

// A ledger ends at each unload, restart of a broker, after 50,000 entries and after some hours.
func TestTailCrossesLedgers(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	total := 0
	for _, entries := range [][]int{{1, 1, 1, 300, 1}, {2}, {1, 1, 5}, {}, {700, 1}} {
		mustTail(t, p, topic, 1)
		for _, n := range entries {
			mustPublish(t, p, messages(topic, total+1, total+n, 10))
			total += n
		}
		s.call(t, http.MethodPut, adminPath(topic)+"/unload", nil, http.StatusNoContent)
	}
	for _, n := range []int{1, 2, 701, 702, 705, 708, 710, 1000, 1011, 1012, 5000} {
		wantTail(t, p, topic, n, total)
	}
}

func TestTailOfSingleMessagesReadsBackFar(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	for i := 1; i <= 400; i++ {
		mustPublish(t, p, messages(topic, i, i, 10))
	}
	for _, n := range []int{1, 3, 399, 400, 1000} {
		wantTail(t, p, topic, n, 400)
	}
}

// A busy topic holds far more behind a ledger's begin than is asked for.
func TestTailAcrossLedgersOfABusyTopic(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	const total = 30_000
	for i := 0; i < total; i += sink.MaxBatch {
		mustPublish(t, p, messages(topic, i+1, i+sink.MaxBatch, 10))
	}
	s.call(t, http.MethodPut, adminPath(topic)+"/unload", nil, http.StatusNoContent)
	mustTail(t, p, topic, 1)
	mustPublish(t, p, messages(topic, total+1, total+5, 10))
	wantTail(t, p, topic, 100, total+5)
}

// As far back as events may lie that were taken by a destination and not by the checkpoint; a ledger ends after 50,000 entries, or when it is moved.
func TestTailReadsFarBack(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	mustTail(t, p, topic, 1)
	const total = 100_000
	for i := 1; i <= total; i += sink.MaxBatch {
		mustPublish(t, p, messages(topic, i, i+sink.MaxBatch-1, 100))
	}
	patient := s.open(t, func(c *pulsar.Config) { c.Timeout = 3 * time.Second }) // for each step, which takes far less
	read := func(n, total int) {
		t.Helper()
		began := time.Now()
		wantTail(t, patient, topic, n, total)
		t.Logf("%d of %d entries in %s", n, total, time.Since(began).Round(time.Millisecond))
	}
	read(total-1, total)
	read(2*total, total)
	for i := total + 1; i <= total+20_000; i += sink.MaxBatch {
		if i%10_000 == 1 {
			s.call(t, http.MethodPut, adminPath(topic)+"/unload", nil, http.StatusNoContent)
			mustTail(t, p, topic, 1)
		}
		mustPublish(t, p, messages(topic, i, i+sink.MaxBatch-1, 100))
	}
	read(total, total+20_000)
}

func TestTailOfNothingStillFences(t *testing.T) {
	s := sharedServer(t)
	older, newer, topic := s.open(t), s.open(t), s.topic(t)
	mustTail(t, older, topic, 1)
	mustPublish(t, older, messages(topic, 1, 2, 1))
	if entries := mustTail(t, newer, topic, 0); len(entries) > 0 {
		t.Errorf("tail of 0: %v", entries)
	}
	mustPublish(t, newer, messages(topic, 3, 3, 1))
	if results := older.Publish(t.Context(), messages(topic, 4, 4, 1)); results == nil {
		t.Error("the older sink published")
	}
	s.wantIDs(t, topic, 3)
}

func TestForeignEntriesHaveNoPosition(t *testing.T) {
	s := sharedServer(t)
	topic := s.topic(t)
	s.append(t, topic, "")
	p := s.open(t)
	entries := mustTail(t, p, topic, 5)
	if len(entries) != 1 || entries[0] != (sink.Entry{}) {
		t.Fatalf("tail: %+v", entries)
	}
}

func TestProducerOfSomebodyElseIsNamed(t *testing.T) {
	s := sharedServer(t)
	topic := s.topic(t)
	other, err := s.plain(t).CreateProducer(client.ProducerOptions{Topic: topic, Name: "billing-7", ProducerAccessMode: client.ProducerAccessModeExclusive})
	if err != nil {
		t.Fatal(err)
	}
	p := s.open(t)
	if err := s.tailOfOthers(t, p, topic, "billing-7"); sink.ClassOf(err) != sink.Unavailable {
		t.Fatalf("tail: %v", err)
	}
	time.AfterFunc(300*time.Millisecond, other.Close)
	mustTail(t, p, topic, 1) // waits
	mustPublish(t, p, messages(topic, 1, 2, 1))
	s.wantIDs(t, topic, 2)
}

// tailOfOthers returns the error of a tail that has time to wait a little for others to go, and says the word. On a busy machine it may not come to know of them.
func (s server) tailOfOthers(t *testing.T, p *pulsar.Sink, topic, word string) (err error) {
	t.Helper()
	waitUntil(t, "the tail says "+word, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = p.Tail(ctx, topic, 1)
		return err == nil || strings.Contains(err.Error(), word)
	})
	return err
}

// The replicator of another cluster has a topic in the same way.
func TestSharedProducersOfOthersAreNamed(t *testing.T) {
	s := sharedServer(t)
	topic := s.topic(t)
	other, err := s.plain(t).CreateProducer(client.ProducerOptions{Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p := s.open(t)
	for _, err := range []error{s.tailOfOthers(t, p, topic, "geo-replication"), p.Probe(t.Context(), topic)} {
		if sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "geo-replication") || strings.Contains(err.Error(), "another outboxd") {
			t.Errorf("%v", err)
		}
	}
}

func TestOlderInstanceIsCutOffButNotAnotherOutbox(t *testing.T) {
	s := sharedServer(t)
	topic := s.topic(t)
	older := s.open(t)
	mustTail(t, older, topic, 1)
	mustPublish(t, older, messages(topic, 1, 2, 1))

	another := s.open(t, func(c *pulsar.Config) { c.Name = func() string { return "outbox" } })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := another.Tail(ctx, topic, 1); sink.ClassOf(err) != sink.Unavailable {
		t.Fatalf("tail of another outbox: %v", err)
	}
	mustPublish(t, older, messages(topic, 3, 3, 1))

	newer := s.open(t)
	wantTail(t, newer, topic, 10, 3)
	if results := older.Publish(t.Context(), messages(topic, 4, 5, 1)); results == nil || sink.FateKnown(results[0]) {
		t.Fatalf("the older instance published: %v", results)
	}
	mustPublish(t, newer, messages(topic, 4, 4, 1))
	s.wantIDs(t, topic, 4)
}

func TestPartitionedNameIsNoDestination(t *testing.T) {
	s := sharedServer(t)
	p, topic := s.open(t), s.topic(t)
	s.call(t, http.MethodPut, adminPath(topic)+"/partitions", 2, http.StatusNoContent)
	if _, err := p.Tail(t.Context(), topic, 1); sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "2 partitions") {
		t.Fatalf("tail: %v", err)
	}
	for _, bad := range []string{"orders", "acme/outbox/orders", "non-persistent://acme/outbox/orders", "persistent://acme/orders", "persistent://a/b/c/d"} {
		if _, err := p.Tail(t.Context(), bad, 1); sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "want persistent://") {
			t.Errorf("tail of %q: %v", bad, err)
		}
	}
}

func TestMissingNamespaceIsNamedWithItsMend(t *testing.T) {
	s := sharedServer(t)
	p := s.open(t)
	topic := "persistent://nobody/outbox/orders"
	_, tailErr := p.Tail(t.Context(), topic, 1)
	_, partitionsErr := p.Partitions(t.Context(), topic)
	for _, err := range []error{tailErr, partitionsErr, p.Probe(t.Context(), topic)} {
		if sink.ClassOf(err) != sink.Unavailable || sink.BrokerDown(err) || !strings.Contains(err.Error(), "pulsar-admin namespaces create nobody/outbox") {
			t.Errorf("the whole broker %v: %v", sink.BrokerDown(err), err)
		}
	}
}

func TestMissingNamespaceIsMadeByTwoAtOnce(t *testing.T) {
	s := sharedServer(t)
	topic := fmt.Sprintf("persistent://tenant-%d/outbox/orders", time.Now().UnixNano())
	create := func(c *pulsar.Config) { c.Create, c.AdminURL = true, s.admin }
	a, b := s.open(t, create), s.open(t, create)
	ended := make(chan error, 2)
	for _, p := range []*pulsar.Sink{a, b} {
		go func() {
			_, err := p.Partitions(t.Context(), topic)
			ended <- err
		}()
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	mustTail(t, a, topic, 1)
	mustPublish(t, a, messages(topic, 1, 3, 1))
	s.wantIDs(t, topic, 3)
}
