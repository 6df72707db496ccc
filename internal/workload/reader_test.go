package workload

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	pulsarlog "github.com/apache/pulsar-client-go/pulsar/log"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/outboxd/outboxd/internal/testenv"
)

const patience = 30 * time.Second

// collected is what a reader delivered.
type collected struct {
	mu  sync.Mutex
	all []Received
}

func (c *collected) add(r Received) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, r)
}

func (c *collected) await(t *testing.T, n int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		c.mu.Lock()
		got := len(c.all)
		c.mu.Unlock()
		if got >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d events were read", got, n)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// wantAll checks that exactly the events of the book came, each destination's in order and with the times that they had.
func (c *collected) wantAll(t *testing.T, b book, n int) {
	t.Helper()
	checker := NewChecker(b.Ledger)
	for _, r := range c.all {
		checker.Add(r)
		if age := time.Since(r.ReceivedAt); age < -time.Second || age > 2*patience || r.Entry == "" || !r.CommittedAt.Equal(time.Unix(1, 0)) {
			t.Errorf("entry %q: received at %s, committed at %s", r.Entry, r.ReceivedAt, r.CommittedAt)
		}
	}
	if r := checker.Report(); !r.OK() || len(c.all) != n {
		t.Errorf("%d of %d: %s", len(c.all), n, r.String())
	}
}

// Two streams: one before anybody reads, one while a reader follows.
func TestRedisReaderReadsAndFollows(t *testing.T) {
	server := testenv.Redis(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	options, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close() //nolint:errcheck // nothing is open on it
	prefix := fmt.Sprintf("%s-%d-", t.Name(), time.Now().UnixNano())
	reader, err := NewRedisReader(server.URL, prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close() //nolint:errcheck // nothing is open on it
	defer func() {
		if err := reader.Delete(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	b := newBook(t)
	write := func(n int, stream string) {
		pipe := client.Pipeline()
		for range n {
			m := b.message(b.write(0, committed))
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: prefix + stream, Values: map[string]any{
				"id": m.id, "tenant_id": m.tenant, "topic": m.topic, "aggregate_type": m.aggregateType, "aggregate_id": m.aggregateID, "payload": m.body,
			}})
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write(2*redisPage+1, "one")
	var seen, all collected
	stop := follow(t, reader, &seen)
	seen.await(t, 2*redisPage+1)
	write(10, "two")
	write(10, "one")
	seen.await(t, 2*redisPage+21)
	stop()
	seen.wantAll(t, b, 2*redisPage+21)
	if err := reader.ReadAll(t.Context(), all.add); err != nil {
		t.Fatal(err)
	}
	all.wantAll(t, b, 2*redisPage+21)
}

func follow(t *testing.T, reader Reader, c *collected) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		reader.Follow(ctx, c.add, func(err error) { t.Errorf("while following: %v", err) })
	}()
	return func() {
		cancel()
		<-done
	}
}

func TestPulsarReaderReadsAndFollowsEveryPartition(t *testing.T) {
	server := testenv.Pulsar(t)
	tenant := fmt.Sprintf("reader-%d", time.Now().UnixNano())
	reader, err := NewPulsarReader(server.URL, PulsarTopics{AdminURL: server.AdminURL, Namespaces: []string{tenant + "/outbox", tenant + "/absent"}})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close() //nolint:errcheck // nothing is open on it
	put(t, server.AdminURL, "tenants/"+tenant, map[string][]string{"allowedClusters": {"standalone"}, "adminRoles": {}})
	put(t, server.AdminURL, "namespaces/"+tenant+"/outbox", struct{}{})
	put(t, server.AdminURL, "persistent/"+tenant+"/outbox/split/partitions", 3)
	client, err := pulsar.NewClient(pulsar.ClientOptions{URL: server.URL, Logger: pulsarlog.DefaultNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	b := newBook(t)
	const each = 200
	write := func(topic string) { publish(t, client, b, "persistent://"+tenant+"/outbox/"+topic, each) }

	var seen, all, named collected
	write("split")
	stop := follow(t, reader, &seen)
	seen.await(t, each)
	write("whole")
	write("split")
	seen.await(t, 3*each)
	stop()
	seen.wantAll(t, b, 3*each)
	if err := reader.ReadAll(t.Context(), all.add); err != nil {
		t.Fatal(err)
	}
	all.wantAll(t, b, 3*each)
	byName, err := NewPulsarReader(server.URL, PulsarTopics{Names: []string{"persistent://" + tenant + "/outbox/split", "persistent://" + tenant + "/outbox/whole"}})
	if err != nil {
		t.Fatal(err)
	}
	defer byName.Close() //nolint:errcheck // nothing is open on it
	if err := byName.ReadAll(t.Context(), named.add); err != nil {
		t.Fatal(err)
	}
	named.wantAll(t, b, 3*each)
	if err := reader.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// publish writes n events in batches, each key to one partition.
func publish(t *testing.T, client pulsar.Client, b book, topic string, n int) {
	t.Helper()
	producer, err := client.CreateProducer(pulsar.ProducerOptions{Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	failed := make(chan error, n)
	for i := range n {
		m := b.message(b.write(uint32(i%2), committed)) //nolint:gosec // 0 or 1
		producer.SendAsync(t.Context(), &pulsar.ProducerMessage{
			Key: m.tenant + "/order/" + m.aggregateID, Payload: m.body, Properties: map[string]string{
				"id": m.id, "tenant_id": m.tenant, "topic": m.topic, "aggregate_type": m.aggregateType, "aggregate_id": m.aggregateID,
			},
		}, func(_ pulsar.MessageID, _ *pulsar.ProducerMessage, err error) { failed <- err })
	}
	var all error
	for range n {
		all = errors.Join(all, <-failed)
	}
	if all != nil {
		t.Fatal(all)
	}
}

func put(t *testing.T, adminURL, path string, body any) {
	t.Helper()
	if status, answer := testenv.PulsarAdmin(t, adminURL, http.MethodPut, path, body); status >= 300 {
		t.Fatalf("PUT %s: %d %s", path, status, answer)
	}
}

func TestReadAllReportsWhatDoesNotAnswer(t *testing.T) {
	redisReader, err := NewRedisReader("redis://127.0.0.1:1/0", "x")
	if err != nil {
		t.Fatal(err)
	}
	defer redisReader.Close() //nolint:errcheck // nothing is open on it
	pulsarReader, err := NewPulsarReader("pulsar://127.0.0.1:1", PulsarTopics{AdminURL: "http://127.0.0.1:1", Namespaces: []string{"a/b"}})
	if err != nil {
		t.Fatal(err)
	}
	defer pulsarReader.Close() //nolint:errcheck // nothing is open on it
	for _, reader := range []Reader{redisReader, pulsarReader} {
		if err := reader.ReadAll(t.Context(), func(Received) {}); err == nil {
			t.Errorf("%T reads from nothing without an error", reader)
		}
	}
}
