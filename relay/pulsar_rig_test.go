package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	clientlog "github.com/apache/pulsar-client-go/pulsar/log"
	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
)

// pulsarRig is a rig whose relays deliver to a Pulsar, each tenant's events to a namespace of its own.
type pulsarRig struct {
	*rig
	broker *testenv.PulsarServer
	client client.Client
	spaces string // beginning of the namespaces' names
}

func newPulsarRig(t *testing.T, broker *testenv.PulsarServer) *pulsarRig {
	t.Helper()
	c, err := client.NewClient(client.ClientOptions{URL: broker.URL, Logger: clientlog.DefaultNopLogger(), MetricsRegisterer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &pulsarRig{rig: newRig(t, "", ""), broker: broker, client: c, spaces: fmt.Sprintf("n%d", time.Now().UnixNano())}
}

// run starts a relay with a client of its own, as another process would have.
func (r *pulsarRig) run(changes ...func(*pulsar.Config)) *running {
	r.t.Helper()
	return r.with(r.sink(changes...))
}

func (r *pulsarRig) sink(changes ...func(*pulsar.Config)) *pulsar.Sink {
	r.t.Helper()
	cfg := pulsar.Config{URL: r.broker.URL}
	for _, change := range changes {
		change(&cfg)
	}
	p, err := pulsar.New(cfg, zerolog.Nop())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			r.t.Errorf("close the sink: %v", err)
		}
	})
	return p
}

// with starts a relay that publishes to the sink.
func (r *pulsarRig) with(p sink.Sink) *running {
	r.t.Helper()
	rules := []route.Rule{{To: []route.Target{{Sink: "pulsar", Destination: r.topic("{tenant}")}}}}
	router, err := route.New(rules, map[string]route.Kind{"pulsar": route.Pulsar}, route.Shard{})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.start(func(c *relay.Config) {
		c.Router, c.Sinks = router, map[string]sink.Sink{"pulsar": p}
		c.MaxRetainedWAL = 1 << 20
	})
}

func refuseLarge(c *pulsar.Config) { c.MaxMessageBytes = smallLimit }

func (r *pulsarRig) namespace(tenant string) string { return "public/" + r.spaces + "-" + tenant }

func (r *pulsarRig) topic(tenant string) string {
	return "persistent://" + r.namespace(tenant) + "/orders"
}

// call calls the admin REST API and fails the test unless it does what it is asked.
func (r *pulsarRig) call(method, path string, body any) {
	r.t.Helper()
	if status, answer := testenv.PulsarAdmin(r.t, r.broker.AdminURL, method, path, body); status/100 != 2 {
		r.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
}

func (r *pulsarRig) onTopic(method, tenant, action string, body any) {
	r.t.Helper()
	r.call(method, "persistent/"+strings.TrimPrefix(r.topic(tenant), "persistent://")+action, body)
}

// create makes the tenants' namespaces, in which nothing is removed by itself.
func (r *pulsarRig) create(tenants ...string) {
	r.t.Helper()
	for _, tenant := range tenants {
		r.call(http.MethodPut, "namespaces/"+r.namespace(tenant), map[string]any{
			"retention_policies": map[string]int{"retentionTimeInMinutes": -1, "retentionSizeInMB": -1},
		})
	}
}

// readable waits until a reader can be made of each of the topics, or returns why one cannot.
func (r *pulsarRig) readable(topics []string) error {
	for _, topic := range topics {
		reader, err := backoff.Retry(r.t.Context(), func() (client.Reader, error) {
			return r.client.CreateReader(client.ReaderOptions{Topic: topic, StartMessageID: client.LatestMessageID()})
		}, backoff.WithMaxElapsedTime(patience/2))
		if err != nil {
			return fmt.Errorf("make a reader of %s: %w", topic, err)
		}
		reader.Close()
	}
	return nil
}

// read returns the seq of the events that the topic holds, in order.
func (r *pulsarRig) read(topic string) []int {
	r.t.Helper()
	reader, err := r.client.CreateReader(client.ReaderOptions{Topic: topic, StartMessageID: client.EarliestMessageID(), StartMessageIDInclusive: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	var all []int
	for reader.HasNext() {
		m, err := reader.Next(ctx)
		if err != nil {
			r.t.Fatalf("read %s: %v", topic, err)
		}
		var body struct{ Seq int }
		if err := json.Unmarshal(m.Payload(), &body); err != nil {
			r.t.Fatalf("message %d of %s: %v", len(all), topic, err)
		}
		all = append(all, body.Seq)
	}
	return all
}

// partitions returns what each of the tenant's partitions holds.
func (r *pulsarRig) partitions(tenant string, n int) [][]int {
	r.t.Helper()
	all := make([][]int, n)
	for i := range all {
		all[i] = r.read(fmt.Sprintf("%s-partition-%d", r.topic(tenant), i))
	}
	return all
}

// once checks that the given logs together hold the events first to end-1 once, and each log those of each of so many keys in order.
func (r *pulsarRig) once(what string, first, end, keys int, logs ...[]int) {
	r.t.Helper()
	seen := map[int]bool{}
	for _, log := range logs {
		last := map[int]int{}
		for _, seq := range log {
			if before, ok := last[seq%keys]; ok && seq < before {
				r.t.Errorf("%s: event %d of key %d comes behind %d", what, seq, seq%keys, before)
			}
			if seen[seq] {
				r.t.Errorf("%s: event %d is doubled", what, seq)
			}
			last[seq%keys], seen[seq] = seq, true
		}
	}
	for seq := first; seq < end; seq++ {
		if !seen[seq] {
			r.t.Errorf("%s: event %d is missing", what, seq)
		}
		delete(seen, seq)
	}
	if len(seen) > 0 {
		r.t.Errorf("%s: %d events are there that should not be", what, len(seen))
	}
}

// retry is what the command of that name does, for everything that is parked.
func (r *pulsarRig) retry() {
	r.t.Helper()
	n, err := park.Retry(r.t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, park.Filter{}, "")
	if err != nil || n == 0 {
		r.t.Fatalf("%d events are retried: %v", n, err)
	}
}

// sent waits until so many of the tenant's rows are SENT.
func (r *pulsarRig) sent(tenant string, n int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%d rows of %s are SENT", n, tenant), func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT' AND tenant_id = $1`, tenant) >= n
	})
}

// parkedAlone waits until so many events are parked, without an attempt and with the reason, and the log is confirmed past them.
func (r *pulsarRig) parkedAlone(run *running, n int, reason string) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%d events are parked", n), func() bool { return r.parked(`state = 'waiting'`) == n })
	r.eventually("the slot is confirmed past them", func() bool { return run.Status().LagBytes == 0 })
	if n := r.parked(`attempts > 0`); n > 0 {
		r.t.Errorf("%d of them count as refused", n)
	}
	if r.parked(`reason LIKE '%`+reason+`%'`) == 0 {
		r.t.Errorf("none of them says %q", reason)
	}
}
