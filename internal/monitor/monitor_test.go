package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/relay"
)

// lines returns what was logged: level, message, bottleneck and severity.
func lines(t *testing.T, log *bytes.Buffer) []string {
	t.Helper()
	var all []string
	for _, line := range bytes.Split(bytes.TrimSpace(log.Bytes()), []byte("\n")) {
		var l struct{ Level, Message, Bottleneck, Severity string }
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %s %s %s", l.Level, l.Message, l.Bottleneck, l.Severity))
	}
	log.Reset()
	return all
}

func TestSeriousBottleneckIsLoggedOncePerChange(t *testing.T) {
	const health = "info health  "
	var log bytes.Buffer
	before, now := healthy()
	m := New(nil, time.Minute, zerolog.New(&log))
	m.before = before
	for i, step := range []struct {
		pending int64
		want    []string
	}{
		{0, []string{health}},
		{20_000, []string{health}}, // medium
		{60_000, []string{health, "error delivery is held up pending_events high"}},
		{70_000, []string{health}},
		{600_000, []string{health, "error delivery is held up pending_events critical"}},
		{60_000, []string{health, "error delivery is held up pending_events high"}},
		{20_000, []string{health, "info delivery is no longer held up by it pending_events "}},
		{20_000, []string{health}},
		{60_000, []string{health, "error delivery is held up pending_events high"}},
	} {
		now.At = now.At.Add(time.Minute)
		now.Status.PendingEvents = step.pending
		now.Status.DeliveredEvents += 1_000_000
		m.look(now)
		if got := lines(t, &log); !slices.Equal(got, step.want) {
			t.Errorf("step %d, %d pending: logged %q, want %q", i, step.pending, got, step.want)
		}
	}
	if h := m.Health(); h == nil || len(h.Bottlenecks) != 1 || h.At != now.At {
		t.Errorf("the health is %+v", h)
	}
}

func TestHealthLineHasTheNumbers(t *testing.T) {
	var log bytes.Buffer
	before, now := healthy()
	m := New(nil, time.Minute, zerolog.New(&log))
	m.before = before
	s := &now.Status
	s.PendingEvents, s.OldestEventSeconds, s.LagBytes, s.OpenBreakers, s.Parked.Dead = 7, 1.239, 8, 1, 2
	s.Slot.RetainedWALBytes = 9
	s.DeliveredEvents += 90
	s.Database.Queries, s.Database.QuerySeconds, s.Database.WorkSeconds = 12, 1.25, 25
	m.look(now)
	const want = `{"level":"info","state":"active","pending_events":7,"events_per_second":1.5,"average_query_ms":125,"pool_usage":0.1,` +
		`"oldest_event_seconds":1.24,"lag_bytes":8,"dead_events":2,"open_breakers":1,"retained_wal_bytes":9,"standbys":1,` +
		`"bottlenecks":["slow_queries:low","breakers:medium","dead_events:medium"],"message":"health"}` + "\n"
	if log.String() != want {
		t.Errorf("the line is\n%swant\n%s", log.String(), want)
	}
}

func TestMonitorLooksAtEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		_, now := healthy()
		m := New(func() relay.Status { return now.Status }, time.Minute, zerolog.New(&log))
		go m.Run(t.Context())
		time.Sleep(59 * time.Second) // the bubble's clock
		synctest.Wait()
		if m.Health() != nil {
			t.Error("it looked before its time")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := lines(t, &log); len(got) != 2 || m.Health() == nil || m.Health().Seconds != 60 {
			t.Errorf("after three minutes less a second it has logged %q, and knows %+v", got, m.Health())
		}
	})
}
