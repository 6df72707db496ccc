package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

// measured is what the active instance knows from the server about its slot and the instances that stand by.
type measured struct {
	logEnd           event.LSN // of the server that was asked: what is behind the stream's last message, the walsender may not have read yet
	active           bool      // something streams from the slot
	lost             bool      // the server has removed log that the slot needs, or the slot
	retainedBytes    int64     // log that the server keeps for the slot
	unconfirmedBytes int64     // ... and that outboxd has not confirmed: what it could set free
	standbys         int
}

// measure asks the server, when that is due: in an outage in which the log is held, and at every interval. It is one statement on views.
func (c *core) measure(now time.Time) {
	if due := c.measureWake(); due.IsZero() || now.Before(due) {
		return
	}
	c.measuring, c.measured = true, now
	var found measured
	c.pollers.give(&task{
		name:      "measure slot and standbys",
		statement: statementMeasure,
		run: func(ctx context.Context, s store) (err error) {
			found, err = s.measure(ctx)
			return err
		},
		then: func() {
			c.measuring, c.retained = false, found.unconfirmedBytes
			c.facts.measured.Store(&found)
			c.spillWhereDue()
		},
	})
}

// measureWake is when the next measurement is due; zero when only an answer wakes the core for one.
func (c *core) measureWake() time.Time {
	switch {
	case c.measuring || c.draining:
		return time.Time{}
	case c.outageHolds():
		return c.measured.Add(outageLook)
	case c.cfg.MeasureInterval > 0:
		return c.measured.Add(c.cfg.MeasureInterval)
	default:
		return time.Time{}
	}
}

// readMeasured is one statement, on views that the server holds in memory. A column that an older server has not is absent from its JSON.
// Without the slot the error is [wal.ErrSlotMissing].
func readMeasured(ctx context.Context, conn *pgx.Conn, schema, slot string) (m measured, err error) {
	var end string
	err = conn.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn()::text, active,
			coalesce(j->>'wal_status' = 'lost' OR j->>'invalidation_reason' IS NOT NULL OR (j->>'conflicting')::boolean, false),
			coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint,
			coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::bigint,
			`+park.WaitersSQL+`
		FROM pg_replication_slots, to_jsonb(pg_replication_slots) j WHERE slot_name = $2`, schema, slot).
		Scan(&end, &m.active, &m.lost, &m.retainedBytes, &m.unconfirmedBytes, &m.standbys)
	if errors.Is(err, pgx.ErrNoRows) {
		err = wal.ErrSlotMissing
	}
	if err != nil {
		return m, fmt.Errorf("measure slot %q: %w", slot, err)
	}
	m.logEnd, err = event.ParseLSN(end)
	return m, err
}

// measuredGauges are the gauges of what was measured. Where nothing is known, as in an instance that stands by, there are none: a zero would
// say that the slot is inactive.
type measuredGauges struct {
	facts *facts

	retained, active, lost, standbys *prometheus.Desc
}

func newMeasuredGauges(f *facts) *measuredGauges {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, nil, nil)
	}
	return &measuredGauges{
		facts:    f,
		retained: desc("retained_wal_bytes", "Log that the server keeps for the slot, as of the last measurement; known to the active instance only."),
		active:   desc("slot_active", "1 while the slot is streamed from, 0 while it is not; known to the active instance only."),
		lost:     desc("slot_lost", "1 when the server has removed log that the slot needs, or the slot; known to the active instance only."),
		standbys: desc("standbys", "Instances that wait to take over, as of the last measurement; known to the active instance only."),
	}
}

// Describe implements prometheus.Collector.
func (g *measuredGauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.retained, g.active, g.lost, g.standbys} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *measuredGauges) Collect(to chan<- prometheus.Metric) {
	m := g.facts.measured.Load()
	if m == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	gauge(g.retained, float64(m.retainedBytes))
	gauge(g.active, oneIf(m.active))
	gauge(g.lost, oneIf(m.lost))
	gauge(g.standbys, float64(m.standbys))
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}
