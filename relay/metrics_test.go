package relay_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/relay"
)

// often lets a relay measure all the time.
func often(c *relay.Config) { c.MeasureInterval, c.MaxTenants = 20*time.Millisecond, 2 }

// metrics returns what the relay shows, by name and labels: "name", `name{a="x",b="y"}`; of a histogram the number of observations.
func (run *running) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, family := range run.families(t) {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+`="`+l.GetValue()+`"`)
			}
			name := family.GetName()
			if labels != nil {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case m.Gauge != nil:
				all[name] = m.Gauge.GetValue()
			case m.Counter != nil:
				all[name] = m.Counter.GetValue()
			case m.Histogram != nil:
				all[name] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return all
}

func (run *running) families(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	families, err := run.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// shows waits until the relay shows the values.
func (r *rig) shows(run *running, want map[string]float64) {
	r.t.Helper()
	for name, value := range want {
		r.eventually(name, func() bool {
			got, there := run.metrics(r.t)[name]
			return there && got == value
		})
	}
}

func TestSlotAndStandbysAreShownByTheActiveInstanceAlone(t *testing.T) {
	r := newRig(t, "", "")
	first := r.start(often)
	r.shows(first, map[string]float64{
		"outboxd_ready": 1, "outboxd_slot_active": 1, "outboxd_slot_lost": 0, "outboxd_standbys": 0,
		"outboxd_database_connections_max": 8, "outboxd_pending_events": 0, "outboxd_oldest_event_seconds": 0,
	})
	r.exec(`SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1 << 16))`)
	r.eventually("the log held back", func() bool { return first.metrics(t)["outboxd_retained_wal_bytes"] > 0 })
	second := r.start(often)
	r.shows(first, map[string]float64{"outboxd_standbys": 1})
	r.shows(second, map[string]float64{"outboxd_ready": 1, `outboxd_session_state{state="standby"}`: 1})
	for _, name := range []string{"outboxd_slot_active", "outboxd_slot_lost", "outboxd_standbys", "outboxd_retained_wal_bytes"} {
		if _, there := second.metrics(t)[name]; there {
			t.Errorf("the standby shows %s, of which it knows nothing", name)
		}
	}
	if s := first.Status().Slot; s == nil || !s.Active || s.Lost || s.Standbys != 1 || s.RetainedWALBytes == 0 {
		t.Errorf("the status says of the slot: %+v", s)
	}
	first.crash()
	r.shows(first, map[string]float64{"outboxd_slot_active": 0, "outboxd_database_connections": 0})
	r.shows(second, map[string]float64{"outboxd_slot_active": 1, "outboxd_standbys": 0})
}

// What waits in the server is known by no message of the stream.
func TestLagGrowsWhileTheServerSendsNothing(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Version: 18, Settings: []string{"synchronized_standby_slots = 'away'"}})
	r := newRig(t, server.Database(t), "")
	r.unrecord()
	r.exec(`SELECT pg_create_physical_replication_slot('away', true)`)
	r.cfg.WAL.Failover = true
	r.record()
	run := r.start(often)
	r.insert("acme", 0, 100, 1)
	r.exec(`SELECT pg_logical_emit_message(false, 'fill', repeat('x', 3 << 20), true)`)
	r.eventually("the lag is what was written", func() bool { return run.Status().LagBytes > 3<<20 })
	if n := r.length("acme:orders"); n != 0 || run.Ready() != nil {
		t.Errorf("%d events were delivered, %v; so this shows nothing", n, run.Ready())
	}
	r.exec(`ALTER SYSTEM SET synchronized_standby_slots = ''`)
	r.exec(`SELECT pg_reload_conf()`)
	r.eventually("the events", func() bool { return r.length("acme:orders") == 100 })
	r.eventually("nothing lags", func() bool { return run.Status().LagBytes == 0 })
}

func TestLostSlotIsShown(t *testing.T) {
	r := newRig(t, "", "")
	r.dropSlot()
	lost := r.start(stopWhenLost)
	<-lost.done
	r.shows(lost, map[string]float64{"outboxd_slot_lost": 1, "outboxd_slot_active": 0, "outboxd_ready": 0})
	if age := float64(time.Now().UnixNano())/1e9 - lost.metrics(t)["outboxd_slot_lost_timestamp_seconds"]; age < 0 || age > 60 {
		t.Errorf("the slot was lost %v s ago, says the metric", age)
	}
}

func TestLostSlotIsRememberedWhenAnotherWasMade(t *testing.T) {
	r := newRig(t, "", "")
	r.dropSlot()
	run := r.start(often)
	r.shows(run, map[string]float64{"outboxd_slot_lost": 0, "outboxd_slot_active": 1, "outboxd_ready": 1})
	if run.metrics(t)["outboxd_slot_lost_timestamp_seconds"] == 0 {
		t.Error("nothing says that a slot was lost")
	}
}

func TestPendingEventsAndTheOldestAreShownUntilTheyAreDelivered(t *testing.T) {
	r := newRig(t, "", "")
	if err := r.redis.Set(t.Context(), r.stream("acme:orders"), "no stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	run := r.start(often)
	r.insert("acme", 0, 100, 10)
	for _, tenant := range []string{"globex", "initech", "umbrella"} {
		r.insert(tenant, 0, 10, 10)
		r.eventually(tenant+"'s events", func() bool { return r.length(tenant+":orders") == 10 })
	}
	r.eventually("what fails is parked", func() bool { return r.parked(`state = 'waiting'`) == 100 })
	r.shows(run, map[string]float64{"outboxd_pending_events": 100, "outboxd_open_breakers": 1})
	r.eventually("the oldest grows old", func() bool { return run.Status().OldestEventSeconds > 0.1 })
	if err := r.redis.Del(t.Context(), r.stream("acme:orders")).Err(); err != nil {
		t.Fatal(err)
	}
	r.settled()
	r.shows(run, map[string]float64{
		"outboxd_pending_events": 0, "outboxd_open_breakers": 0, "outboxd_oldest_event_seconds": 0,
		`outboxd_tenant_events_total{result="delivered",sink="redis",tenant="globex"}`:  10,
		`outboxd_tenant_events_total{result="delivered",sink="redis",tenant="initech"}`: 10,
		`outboxd_tenant_events_total{result="delivered",sink="redis",tenant="other"}`:   110,
	})
	if n := run.Status().DeliveredEvents; n != 130 {
		t.Errorf("the status says that %d events were delivered, want 130", n)
	}
	r.eventually("every kind of work was timed", func() bool {
		now := run.metrics(t)
		return !slices.ContainsFunc([]string{"settle", "checkpoint", "park", "load", "deliver", "finish", "sweep", "measure"}, func(s string) bool {
			return now[`outboxd_database_query_seconds{statement="`+s+`"}`] == 0
		})
	})
	if d := run.Status().Database; d.Queries == 0 || d.QuerySeconds <= 0 || d.WorkSeconds < d.QuerySeconds || d.Workers != 6 {
		t.Errorf("the status says of the database: %+v", d)
	}
}

func TestEveryHistogramIsClassicAndNativeAndEveryMetricHasHelp(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(often)
	r.insert("acme", 0, 1, 1)
	r.settled()
	histograms := map[string]bool{}
	for _, family := range run.families(t) {
		if len(family.GetHelp()) < 20 {
			t.Errorf("%s is explained as %q", family.GetName(), family.GetHelp())
		}
		for _, m := range family.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				histograms[family.GetName()] = true
				if len(h.GetBucket()) == 0 || h.Schema == nil {
					t.Errorf("%s has %d buckets, native: %v", family.GetName(), len(h.GetBucket()), h.Schema != nil)
				}
			}
		}
	}
	want := []string{"outboxd_commit_to_ack_seconds", "outboxd_database_query_seconds", "outboxd_publish_seconds", "outboxd_settle_seconds"}
	if got := slices.Sorted(maps.Keys(histograms)); !slices.Equal(got, want) {
		t.Errorf("the histograms are %v, want %v", got, want)
	}
}
