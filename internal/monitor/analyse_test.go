package monitor

import (
	"testing"
	"time"

	"github.com/outboxd/outboxd/relay"
)

// healthy is an instance a minute after another look at it, with nothing to complain of.
func healthy() (before, now Sample) {
	s := relay.Status{
		State: relay.StateActive, Sessions: 1, MemoryBudget: 100, DeliveredEvents: 1000,
		Database: relay.Database{Workers: 4, Queries: 10, QuerySeconds: 1, WorkSeconds: 1},
		Slot:     &relay.Slot{Active: true, Standbys: 1},
	}
	before = Sample{time.Unix(1000, 0), s}
	now = Sample{time.Unix(1060, 0), s}
	slot := *s.Slot
	now.Status.Slot = &slot
	return before, now
}

type status = relay.Status

func TestEachRuleFindsItsBottleneckFromItsThresholdOn(t *testing.T) {
	both := func(change func(*status)) func(*status, *status) {
		return func(was, is *status) { change(was); change(is) }
	}
	after := func(change func(*status)) func(*status, *status) {
		return func(_, is *status) { change(is) }
	}
	pending := func(n int64) func(*status, *status) { return after(func(s *status) { s.PendingEvents = n }) }
	waits := func(n int64, perSecond uint64) func(*status, *status) {
		return func(was, is *status) {
			was.PendingEvents, is.PendingEvents = n, n
			is.DeliveredEvents += 60 * perSecond
		}
	}
	queries := func(seconds float64) func(*status, *status) {
		return after(func(s *status) { s.Database.Queries += 2; s.Database.QuerySeconds += 2 * seconds })
	}
	work := func(seconds float64) func(*status, *status) {
		return after(func(s *status) { s.Database.WorkSeconds += seconds })
	}
	oldest := func(seconds float64) func(*status, *status) {
		return after(func(s *status) { s.OldestEventSeconds = seconds })
	}
	retained := func(bytes, limit int64) func(*status, *status) {
		return after(func(s *status) { s.Slot.RetainedWALBytes, s.Slot.RetainedLimitBytes = bytes, limit })
	}
	breakers := func(n int64) func(*status, *status) { return after(func(s *status) { s.OpenBreakers = n }) }
	dead := func(was, is int) func(*status, *status) {
		return func(b, n *status) { b.Parked.Dead, n.Parked.Dead = was, is }
	}
	for name, c := range map[string]struct {
		change func(before, now *status)
		rule   string // "": none
		want   Severity
	}{
		"nothing":                    {pending(0), "", ""},
		"5,000 pending":              {pending(5_000), "", ""},
		"more than 5,000 pending":    {pending(5_001), "pending_events", Low},
		"more than 10,000 pending":   {pending(10_001), "pending_events", Medium},
		"more than 50,000 pending":   {pending(50_001), "pending_events", High},
		"more than 500,000 pending":  {pending(500_001), "pending_events", Critical},
		"slow, little waits":         {waits(999, 1), "", ""},
		"slow while work waits":      {waits(1_000, 99), "slow_delivery", Medium},
		"fast while work waits":      {waits(1_000, 100), "", ""},
		"work came just now":         {pending(4_000), "", ""},
		"queries of 100 ms":          {queries(0.1), "", ""},
		"queries of 110 ms":          {queries(0.11), "slow_queries", Low},
		"queries of 300 ms":          {queries(0.3), "slow_queries", Medium},
		"queries of 600 ms":          {queries(0.6), "slow_queries", High},
		"queries of 1.1 s":           {queries(1.1), "slow_queries", Critical},
		"connections busy 60 %":      {work(0.6 * 240), "", ""},
		"connections busy 75 %":      {work(0.75 * 240), "database_connections", Low},
		"connections busy 85 %":      {work(0.85 * 240), "database_connections", Medium},
		"connections busy 95 %":      {work(0.95 * 240), "database_connections", High},
		"connections busy all over":  {work(500), "database_connections", High},
		"oldest of a minute":         {oldest(60), "", ""},
		"oldest of two minutes":      {oldest(120), "oldest_event", Low},
		"oldest of ten minutes":      {oldest(600), "oldest_event", Medium},
		"oldest of two hours":        {oldest(7200), "oldest_event", High},
		"oldest of two days":         {oldest(2 * 86400), "oldest_event", Critical},
		"1 GiB retained":             {retained(gib, 0), "", ""},
		"2 GiB retained":             {retained(2*gib, 0), "retained_wal", Low},
		"6 GiB retained":             {retained(6*gib, 0), "retained_wal", Medium},
		"30 GiB retained":            {retained(30*gib, 0), "retained_wal", High},
		"200 GiB retained":           {retained(200*gib, 0), "retained_wal", Critical},
		"2 GiB of 100 retained":      {retained(2*gib, 100*gib), "", ""},
		"30 % of the limit retained": {retained(3, 10), "retained_wal", Medium},
		"60 % of the limit retained": {retained(6, 10), "retained_wal", High},
		"90 % of the limit retained": {retained(9, 10), "retained_wal", Critical},
		"slot inactive":              {after(func(s *status) { s.Slot.Active = false }), "slot", High},
		"slot lost":                  {after(func(s *status) { s.Slot.Lost = true }), "slot", Critical},
		"nothing known of the slot":  {after(func(s *status) { s.Slot = nil }), "", ""},
		"a breaker":                  {breakers(1), "breakers", Medium},
		"ten breakers":               {breakers(10), "breakers", High},
		"a dead event":               {dead(0, 1), "dead_events", Medium},
		"many dead, no more":         {dead(500, 500), "dead_events", Medium},
		"many more dead":             {dead(500, 600), "dead_events", High},
		"memory full once":           {after(func(s *status) { s.InFlightBytes = 99 }), "", ""},
		"memory full all the time":   {both(func(s *status) { s.InFlightBytes = 99 }), "memory", Medium},
		"one reconnect":              {after(func(s *status) { s.Sessions++ }), "", ""},
		"two reconnects":             {after(func(s *status) { s.Sessions += 2 }), "sessions", Medium},
		"five reconnects":            {after(func(s *status) { s.Sessions += 5 }), "sessions", High},
		"no standby":                 {after(func(s *status) { s.Slot.Standbys = 0 }), "standbys", Low},
	} {
		before, now := healthy()
		c.change(&before.Status, &now.Status)
		found := Analyse(before, now)
		if c.rule == "" {
			if len(found) > 0 {
				t.Errorf("%s: found %+v, want nothing", name, found)
			}
			continue
		}
		if len(found) != 1 || found[0].Name != c.rule || found[0].Severity != c.want || found[0].Finding == "" || found[0].Advice == "" {
			t.Errorf("%s: found %+v, want %s, %s", name, found, c.rule, c.want)
		}
	}
}

func TestSlowDeliveryIsWorseTheMoreWaits(t *testing.T) {
	for pending, want := range map[int64]Severity{1_000: Medium, 10_001: High, 50_001: Critical} {
		before, now := healthy()
		before.Status.PendingEvents, now.Status.PendingEvents = pending, pending
		for _, b := range Analyse(before, now) {
			if b.Name == "slow_delivery" && b.Severity != want {
				t.Errorf("with %d pending: %s, want %s", pending, b.Severity, want)
			}
		}
	}
}

func TestInstanceThatDoesNotStreamIsJudgedByItsState(t *testing.T) {
	for name, c := range map[string]struct {
		state relay.State
		age   time.Duration
		lost  bool
		want  []string
	}{
		"standby":             {relay.StateStandby, time.Hour, false, nil},
		"draining":            {relay.StateDraining, time.Hour, false, nil},
		"connecting, shortly": {relay.StateConnecting, 59 * time.Second, false, nil},
		"connecting":          {relay.StateConnecting, time.Minute, false, []string{"session"}},
		"stopped":             {relay.StateStopped, 0, false, []string{"session"}},
		"slot lost":           {relay.StateConnecting, time.Minute, true, []string{"slot", "session"}},
	} {
		before, now := healthy()
		now.Status.State, now.Status.Since, now.Status.Slot.Lost = c.state, now.At.Add(-c.age), c.lost
		now.Status.PendingEvents = 1_000_000
		found := Analyse(before, now)
		if len(found) != len(c.want) {
			t.Errorf("%s: %+v, want %v", name, found, c.want)
			continue
		}
		for i, b := range found {
			if b.Name != c.want[i] || b.Severity != Critical {
				t.Errorf("%s: %+v, want %v, critical", name, found, c.want)
			}
		}
	}
}

func TestRatesAreThoseOfTheTimeBetween(t *testing.T) {
	before, now := healthy()
	now.Status.DeliveredEvents += 600
	now.Status.Database.Queries += 4
	now.Status.Database.QuerySeconds += 2
	now.Status.Database.WorkSeconds += 24
	if got, want := Between(before, now), (Rates{Seconds: 60, EventsPerSecond: 10, AverageQuerySeconds: 0.5, PoolUsage: 0.1}); got != want {
		t.Errorf("the rates are %+v, want %+v", got, want)
	}
	if got := Between(now, now); got != (Rates{}) {
		t.Errorf("without time between the rates are %+v", got)
	}
}
