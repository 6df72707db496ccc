package monitor

import (
	"fmt"
	"time"

	"github.com/outboxd/outboxd/relay"
)

// rule looks for one bottleneck; without one it returns none of any severity.
type rule struct {
	name   string
	advice string
	look   func(before, now *relay.Status, rates Rates) Bottleneck
}

const none = -1 // no step for this severity

const (
	gib             = 1 << 30
	slowDelivery    = 100  // events per second, below which delivery is slow while work waits
	workWaits       = 1000 // pending events from which on work waits
	memoryShort     = 0.95 // of the budget
	retainedHigh    = 0.5  // of max_slot_wal_keep_size
	retainedExtreme = 0.8
)

const adviceSlot = "see what happened with outboxd slot status; give max_slot_wal_keep_size more room, and let nobody else drop, move or stream from the slot"

var rules = []rule{
	{
		"pending_events", "look at which destinations fail (/status, blocked); where none does, raise concurrency, batch.max_messages and poll.max_concurrent",
		func(_, now *relay.Status, _ Rates) Bottleneck {
			return grade(float64(now.PendingEvents), [4]float64{5_000, 10_000, 50_000, 500_000}, "%d events wait", now.PendingEvents)
		},
	},
	{
		"slow_delivery", "compare outboxd_publish_seconds with outboxd_database_query_seconds: the slower of broker and database sets the pace",
		func(before, now *relay.Status, rates Rates) Bottleneck {
			waited := min(before.PendingEvents, now.PendingEvents) // all the time
			if waited < workWaits || rates.EventsPerSecond >= slowDelivery {
				return Bottleneck{}
			}
			steps := [4]float64{none, 0, 10_000, 50_000}
			return grade(float64(waited), steps, "%.1f events a second are delivered while %d wait", rates.EventsPerSecond, waited)
		},
	},
	{
		"slow_queries", "look at the database: locks on the outbox table, autovacuum of it and of outboxd.parked, I/O; the label statement of outboxd_database_query_seconds says which statement is slow",
		func(_, _ *relay.Status, rates Rates) Bottleneck {
			return grade(rates.AverageQuerySeconds, [4]float64{0.1, 0.25, 0.5, 1}, "database work takes %.0f ms on average", rates.AverageQuerySeconds*1000)
		},
	},
	{
		"database_connections", "raise poll.max_concurrent (and max_connections of the server), or see why the statements take so long",
		func(_, _ *relay.Status, rates Rates) Bottleneck {
			return grade(rates.PoolUsage, [4]float64{0.7, 0.8, 0.9, none}, "the connections for database work are busy for %.0f %% of the time", rates.PoolUsage*100)
		},
	},
	{
		"oldest_event", "look at which destination its key waits for: outboxd events list --status waiting",
		func(_, now *relay.Status, _ Rates) Bottleneck {
			age := time.Duration(now.OldestEventSeconds * float64(time.Second))
			return grade(now.OldestEventSeconds, [4]float64{60, 300, 3600, 24 * 3600}, "the oldest event waits for %s", age.Round(time.Second))
		},
	},
	{
		"retained_wal", "find what holds the log: a broker that is down, a long transaction, a full memory budget; watch the disk of the server",
		func(_, now *relay.Status, _ Rates) Bottleneck {
			if now.Slot == nil {
				return Bottleneck{}
			}
			kept, limit := float64(now.Slot.RetainedWALBytes), float64(now.Slot.RetainedLimitBytes)
			if limit > 0 {
				return grade(kept/limit, [4]float64{none, 0.25, retainedHigh, retainedExtreme},
					"the slot keeps %.1f GiB of log, %.0f %% of what PostgreSQL allows before it drops it", kept/gib, 100*kept/limit)
			}
			return grade(kept, [4]float64{gib, 5 * gib, 20 * gib, 100 * gib}, "the slot keeps %.1f GiB of log", kept/gib)
		},
	},
	{
		"slot", adviceSlot,
		func(_, now *relay.Status, _ Rates) Bottleneck {
			switch {
			case now.Slot == nil, now.Slot.Active && !now.Slot.Lost:
				return Bottleneck{}
			case now.Slot.Lost:
				return Bottleneck{Severity: Critical, Finding: "the slot is lost"}
			default:
				return Bottleneck{Severity: High, Finding: "nothing streams from the slot"}
			}
		},
	},
	{
		"breakers", "see /status, blocked, for the errors; a probe closes a breaker when its destination answers, and the backlog is delivered",
		func(_, now *relay.Status, _ Rates) Bottleneck {
			return grade(float64(now.OpenBreakers), [4]float64{none, 0, 9, none}, "%d destinations are given a rest because they fail", now.OpenBreakers)
		},
	},
	{
		"dead_events", "decide on them: outboxd events list --status dead, then events retry or skip",
		func(before, now *relay.Status, _ Rates) Bottleneck {
			b := grade(float64(now.Parked.Dead), [4]float64{none, 0, none, none}, "%d events are dead", now.Parked.Dead)
			if more := now.Parked.Dead - before.Parked.Dead; more >= 100 {
				b = Bottleneck{Severity: High, Finding: fmt.Sprintf("%d events are dead, %d more than at the last look", now.Parked.Dead, more)}
			}
			return b
		},
	},
	{
		"memory", "raise memory.budget, or see why the brokers take so long: outboxd_publish_seconds",
		func(before, now *relay.Status, _ Rates) Bottleneck {
			full := float64(min(before.InFlightBytes, now.InFlightBytes)) / float64(max(1, now.MemoryBudget))
			return grade(full, [4]float64{none, memoryShort, none, none}, "memory.budget is used up, so reading the log waits for the brokers")
		},
	},
	{
		"sessions", "the log says why each session ended: network, failover, somebody who ends the connections",
		func(before, now *relay.Status, _ Rates) Bottleneck {
			n := now.Sessions - before.Sessions
			return grade(float64(n), [4]float64{none, 1, 4, none}, "%d sessions were opened since the last look", n)
		},
	},
	{
		"standbys", "start a second instance: it takes over when this one ends",
		func(_, now *relay.Status, _ Rates) Bottleneck {
			if now.Slot == nil || now.Slot.Standbys > 0 {
				return Bottleneck{}
			}
			return Bottleneck{Severity: Low, Finding: "no other instance stands by"}
		},
	},
}
