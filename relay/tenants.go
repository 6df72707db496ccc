package relay

import (
	"bytes"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/outboxd/outboxd/lane"
)

// otherTenants stands for all tenants beyond the limit.
const otherTenants = "other"

// tenants counts events by tenant, for so many tenants as come first; the others are counted together, so that the number of time series
// stays bounded. Only the core of the session at hand calls count.
type tenants struct {
	events   *prometheus.CounterVec
	limit    int
	names    map[string]bool
	counters map[tenantKey]*[results]prometheus.Counter
}

type tenantKey struct{ tenant, sink string }

func newTenants(factory promauto.Factory, limit int) *tenants {
	return &tenants{
		limit: limit, names: map[string]bool{}, counters: map[tenantKey]*[results]prometheus.Counter{},
		events: factory.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "tenant_events_total",
			Help: `Events by tenant, sink and result, as events_total; tenants beyond metrics.max_tenants are counted as "other".`,
		}, []string{"tenant", "sink", "result"}),
	}
}

// count adds the items to their tenants' counters: once for each run of one tenant, without an allocation for a known one.
func (t *tenants) count(sink string, r result, items []lane.Item[*entry]) {
	if t.limit == 0 {
		return
	}
	for len(items) > 0 {
		tenant := items[0].Value.event.TenantID
		n := 1
		for n < len(items) && bytes.Equal(items[n].Value.event.TenantID, tenant) {
			n++
		}
		items = items[n:]
		t.of(tenant, sink)[r].Add(float64(n))
	}
}

func (t *tenants) of(tenant []byte, sink string) *[results]prometheus.Counter {
	if known := t.counters[tenantKey{string(tenant), sink}]; known != nil {
		return known
	}
	name := otherTenants
	switch {
	case t.names[string(tenant)]:
		name = string(tenant)
	case len(t.names) < t.limit:
		name = string(tenant)
		t.names[name] = true
	}
	key := tenantKey{name, sink}
	known := t.counters[key]
	if known == nil {
		known = &[results]prometheus.Counter{}
		for r, result := range resultNames {
			known[r] = t.events.WithLabelValues(strings.ToValidUTF8(name, "\uFFFD"), sink, result) // what is no UTF-8 cannot be a label
		}
		t.counters[key] = known
	}
	return known
}
