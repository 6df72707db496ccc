package relay

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const namespace = "outboxd"

// latencyBuckets span a quick acknowledgement on one machine to a broker that is about to be given up, in seconds.
var latencyBuckets = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// histogram is one with the classic buckets and, for a server that asks for them, native ones.
func histogram(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: latencyBuckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}
}

// newFacts makes the facts and registers their metrics.
func newFacts(registry prometheus.Registerer, maxTenants int) *facts {
	factory := promauto.With(registry)
	f := &facts{
		failing: make(map[*failure]Blocked),
		since:   time.Now(),
		events: factory.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "events_total",
			Help: "Events by sink and result, of both lanes: delivered; found (its destination held it already); rejected (an attempt that the broker refused).",
		}, []string{"sink", "result"}),
		failures: factory.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "destination_failures_total",
			Help: "Failed attempts at a destination, by sink and class: retry, unavailable.",
		}, []string{"sink", "class"}),
		publish: factory.NewHistogramVec(histogram("publish_seconds",
			"Time of one publish, from encoding to the acknowledgement of the whole batch."), []string{"sink"}),
		commitAck: factory.NewHistogramVec(histogram("commit_to_ack_seconds",
			"Time from the commit of a batch's oldest event, by the database's clock, to the broker's acknowledgement."), []string{"sink"}),
		settling: factory.NewHistogram(histogram("settle_seconds",
			"Time of one statement that marks or deletes delivered rows.")),
		rows: factory.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "settled_rows_total", Help: "Outbox rows that were marked or deleted after delivery.",
		}),
	}
	f.parkedTotal = factory.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "parked_events_total",
		Help: "Events that were parked in the table lane, by sink; without one those that no route takes.",
	}, []string{"sink"})
	f.lostAt = factory.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "slot_lost_timestamp_seconds",
		Help: "When this instance last found the slot lost, in seconds since 1970; 0: never.",
	})
	f.deadEvents = factory.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: "dead_events_total", Help: "Events that became dead: nothing tries them until a person says so.",
	})
	f.breakers = factory.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "broker_down", Help: "1 while the whole broker of the sink fails.",
	}, []string{"sink"})
	f.queries, f.tenants = newQueries(factory), newTenants(factory, maxTenants)
	registry.MustRegister(newMeasuredGauges(f))
	f.registerFuncs(factory)
	return f
}

// registerFuncs registers what is read when it is asked for.
func (f *facts) registerFuncs(factory promauto.Factory) {
	gauge := func(name, help string, value func() float64) {
		factory.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, value)
	}
	counter := func(name, help string, value func() uint64) {
		factory.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help},
			func() float64 { return float64(value()) })
	}
	counter("received_events_total", "Inserts received from the log.", f.receivedEvents.Load)
	counter("ignored_changes_total", "Changes received and ignored: other statuses, other tables, updates, deletes.", f.ignoredChanges.Load)
	counter("dropped_unrouted_total", "Events that no route matches, dropped as configured (unrouted: drop).", f.droppedUnrouted.Load)
	counter("sessions_total", "Replication sessions that were opened.", f.sessions.Load)
	gauge("in_flight_bytes", "Memory taken of the budget for events in flight.", func() float64 { return float64(f.inFlightBytes()) })
	gauge("lag_bytes", "Log that the server has and that is not safely delivered, as of the last measurement or what was received since. What is not read yet may be of other tables.", func() float64 { return float64(f.lagBytes()) })
	gauge("lag_seconds", "Age of the oldest event that is received and not delivered; 0 when there is none.", func() float64 { return f.lag().Seconds() })
	gauge("confirmed_lsn_bytes", "The position confirmed to the server, in bytes from the beginning of the log.", func() float64 { return float64(f.sentLSN.Load()) })
	gauge("pending_events", "Events that are received and not delivered: in memory, and waiting in the table lane. What is still in the server's log is not counted.", func() float64 { return float64(f.pending()) })
	gauge("oldest_event_seconds", "Age of the oldest event that is received and not delivered, in memory or in the table lane; 0 when there is none.", func() float64 { return f.oldestAge().Seconds() })
	gauge("open_breakers", "Destinations at which nothing is tried but a probe.", func() float64 { return float64(f.openBreakers.Load()) })
	gauge("database_connections", "Database connections in use: the replication and the control connection of a session, and those at work.", func() float64 { return float64(f.queries.inUse()) })
	gauge("database_connections_max", "Database connections that this instance opens at most.", func() float64 { return float64(f.queries.most()) })
	gauge("parked_waiting_events", "Events that wait in the table lane, as of the last sweep.", func() float64 { return float64(f.parkedNow().Waiting) })
	gauge("parked_dead_events", "Dead events that wait for a person, as of the last sweep.", func() float64 { return float64(f.parkedNow().Dead) })
	gauge("parked_oldest_seconds", "Age of the oldest event that waits in the table lane, as of the last sweep; 0 when there is none.", func() float64 { return f.parkedAge().Seconds() })
	gauge("failing_destinations", "Destinations that fail at the moment.", func() float64 { return float64(len(f.blocked())) })
	for _, s := range allStates {
		factory.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Name: "session_state", ConstLabels: prometheus.Labels{"state": string(s)},
			Help: "1 for the state that the relay is in, 0 for the others.",
		}, func() float64 { return oneIf(f.currentState() == s) })
	}
}
