package relay

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
)

// ofTenants are queued events of the tenants.
func ofTenants(names ...string) []lane.Item[*entry] {
	var items []lane.Item[*entry]
	for _, name := range names {
		items = append(items, lane.Item[*entry]{Value: &entry{event: event.Event{TenantID: []byte(name)}}})
	}
	return items
}

func TestTenantsBeyondTheLimitAreCountedTogether(t *testing.T) {
	counted := newTenants(promauto.With(prometheus.NewRegistry()), 2)
	counted.count("redis", resultDelivered, ofTenants("a", "a", "b", "a", "c", "d", "d"))
	counted.count("pulsar", resultRejected, ofTenants("b", "c"))
	for i := range 1000 {
		counted.count("redis", resultFound, ofTenants(fmt.Sprintf("tenant-%d", i)))
	}
	for _, want := range []struct {
		tenant, sink string
		result       result
		n            float64
	}{
		{"a", "redis", resultDelivered, 3},
		{"b", "redis", resultDelivered, 1},
		{"other", "redis", resultDelivered, 3},
		{"b", "pulsar", resultRejected, 1},
		{"other", "pulsar", resultRejected, 1},
		{"other", "redis", resultFound, 1000},
	} {
		if n := testutil.ToFloat64(counted.events.WithLabelValues(want.tenant, want.sink, resultNames[want.result])); n != want.n {
			t.Errorf("%s, %s, %s: %v, want %v", want.tenant, want.sink, resultNames[want.result], n, want.n)
		}
	}
	if n := testutil.CollectAndCount(counted.events); n != 5*int(results) {
		t.Errorf("there are %d time series, want %d", n, 5*int(results))
	}
	if len(counted.counters) != 5 || len(counted.names) != 2 {
		t.Errorf("%d counters and %d names are held", len(counted.counters), len(counted.names))
	}
}

func TestTenantThatIsNoUTF8IsCounted(t *testing.T) {
	counted := newTenants(promauto.With(prometheus.NewRegistry()), 2)
	counted.count("redis", resultDelivered, ofTenants("\xff", "a"))
	if n := testutil.ToFloat64(counted.events.WithLabelValues("\uFFFD", "redis", "delivered")); n != 1 {
		t.Errorf("it was counted %v times", n)
	}
}

func TestCountingByTenantAllocatesNothing(t *testing.T) {
	for limit, known := range map[int]bool{0: false, 1: false, 10: true} {
		counted := newTenants(promauto.With(prometheus.NewRegistry()), limit)
		items := ofTenants("a", "b", "a", "b", "b")
		counted.count("redis", resultDelivered, items)
		if n := testing.AllocsPerRun(100, func() { counted.count("redis", resultDelivered, items) }); n != 0 {
			t.Errorf("with a limit of %d (all known: %v) %v allocations", limit, known, n)
		}
	}
}
