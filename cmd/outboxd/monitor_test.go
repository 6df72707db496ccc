package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
)

// get returns the body of a page of outboxd, empty when there is none.
func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// The alerts on the slot go by what is measured, whether somebody wants the line or not.
func TestWithoutTheMonitorTheSlotIsMeasured(t *testing.T) {
	t.Parallel()
	addr := testenv.FreeAddress(t)
	o := newOperator(t, "BENTO_OUTBOX_ENABLE_PERFORMANCE_MONITORING=False", "OUTBOXD_HTTP_ADDR="+addr)
	o.start()
	for _, line := range []string{"outboxd_slot_active 1", "outboxd_slot_lost 0", "outboxd_standbys 0", "outboxd_retained_wal_bytes "} {
		eventually(t, line, func() bool { return strings.Contains(get(t, "http://"+addr+"/metrics"), "\n"+line) })
	}
	o.stop()
	if strings.Contains(o.log.String(), `"message":"health"`) {
		t.Errorf("the log has the line that was switched off:\n%s", o.log.String())
	}
}

func TestStatusAndLogShowWhatTheMonitorSees(t *testing.T) {
	t.Parallel()
	addr := testenv.FreeAddress(t)
	o := newOperator(t, "OUTBOXD_MONITOR_INTERVAL=1s", "OUTBOXD_HTTP_ADDR="+addr, "OUTBOXD_METRICS_MAX_TENANTS=1")
	o.start()
	o.eventuallyIn("acme", o.insert("acme", "1", 10))
	o.eventuallyIn("globex", o.insert("globex", "1", 10))
	var status struct {
		Relay  map[string]any
		Health map[string]any
	}
	eventually(t, "a look at a session with its slot", func() bool {
		if err := json.Unmarshal([]byte(get(t, "http://"+addr+"/status")), &status); err != nil {
			t.Fatal(err)
		}
		return status.Health != nil && status.Relay["slot"] != nil
	})
	for _, field := range []string{"at", "seconds", "events_per_second", "average_query_seconds", "pool_usage", "bottlenecks"} {
		if _, there := status.Health[field]; !there {
			t.Errorf("the health lacks %s: %v", field, status.Health)
		}
	}
	for _, field := range []string{"pending_events", "oldest_event_seconds", "delivered_events", "open_breakers", "memory_budget_bytes", "database", "slot"} {
		if _, there := status.Relay[field]; !there {
			t.Errorf("the status lacks %s: %v", field, status.Relay)
		}
	}
	for _, line := range []string{
		`outboxd_tenant_events_total{result="delivered",sink="redis",tenant="acme"} 1`,
		`outboxd_tenant_events_total{result="delivered",sink="redis",tenant="other"} 1`,
		"outboxd_slot_active 1", "outboxd_ready 1", "outboxd_standbys 0",
	} {
		eventually(t, line, func() bool { return strings.Contains(get(t, "http://"+addr+"/metrics"), line+"\n") })
	}
	o.stop()
	if !strings.Contains(o.log.String(), `"message":"health"`) {
		t.Errorf("the log has no health line: %s", o.log.String())
	}
}
