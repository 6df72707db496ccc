//go:build resources

package torture

import (
	"flag"
	"fmt"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

var pulsarTopics = flag.Int64("resources.topics", 500, "topics of Pulsar")

// visits is how often each destination gets an event. What a destination costs, it costs in the first one.
const visits = 6

// footprint is what outboxd takes at a moment.
type footprint struct{ resident, heap, goroutines float64 }

func (l *lone) footprint() footprint {
	l.t.Helper()
	page := l.page(l.metrics)
	return footprint{page["process_resident_memory_bytes"] / megabyte, page["go_memstats_heap_inuse_bytes"] / megabyte, page["go_goroutines"]}
}

// TestResourcesTenThousandDestinationsOfAHundredTenantsStayBounded: 100 tenants, each with 100 topics, each topic a stream of Redis.
func TestResourcesTenThousandDestinationsOfAHundredTenantsStayBounded(t *testing.T) {
	const destinations = 10_000
	l := newLone(t, `OUTBOXD_ROUTES=[{to: [{sink: redis, destination: "many:{tenant}:{topic}"}]}]`)
	l.environ = append(l.environ, "REDIS_URL="+l.server.URL)
	l.begin()
	l.many(destinations, 100)
	l.within(modest)
	l.allOnRedis("many:", visits*destinations)
}

// TestResourcesManyTopicsOfPulsarStayBounded: as many topics as a standalone broker bears, each with an exclusive producer.
func TestResourcesManyTopicsOfPulsarStayBounded(t *testing.T) {
	topics := *pulsarTopics
	broker := testenv.NewPulsar(t, testenv.PulsarOptions{Settings: []string{"defaultRetentionTimeInMinutes=-1", "defaultRetentionSizeInMB=-1"}})
	l := newLone(t, `OUTBOXD_ROUTES=[{to: [{sink: pulsar, destination: "persistent://many/outbox/{tenant}.{topic}"}]}]`)
	l.environ = append(l.environ, "PULSAR_SERVICE_URL="+broker.URL, "OUTBOXD_SINKS_PULSAR_ADMIN_URL="+broker.AdminURL,
		"OUTBOXD_SINKS_PULSAR_CREATE=true", fmt.Sprintf("OUTBOXD_SINKS_PULSAR_MAX_PRODUCERS=%d", 2*topics))
	l.begin()
	// Pulsar's client has goroutines for each producer.
	l.many(topics, 10*float64(topics)+100)
	l.within(2 * modest)
	reader, err := workload.NewPulsarReader(broker.URL, workload.PulsarTopics{AdminURL: broker.AdminURL, Namespaces: []string{"many/outbox"}})
	l.must(err)
	l.all(reader, visits*topics)
}

// many writes to so many destinations round after round, and judges what outboxd takes after the first and after the last one.
func (l *lone) many(destinations int64, goroutines float64) {
	l.t.Helper()
	var first, now footprint
	for round := range int64(visits) {
		l.write(round*destinations, (round+1)*destinations, fmt.Sprintf(
			`'tenant-' || n %% %[1]d / 100, 'topic-' || n %% 100, n %% %[1]d, 500`, destinations))
		l.settled()
		if now = l.footprint(); round == 0 {
			first = now
		}
		l.t.Logf("round %d: %.1f MB resident, %.1f MB of heap, %.0f goroutines", round+1, now.resident, now.heap, now.goroutines)
	}
	if now.resident > 1.1*first.resident+16 || now.goroutines > first.goroutines+10 || now.goroutines > goroutines {
		l.t.Errorf("from the first round to the last one it went from %+v to %+v; want it flat, and %.0f goroutines at most", first, now, goroutines)
	}
}
