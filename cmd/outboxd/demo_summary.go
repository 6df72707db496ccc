package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/outboxd/outboxd/internal/workload"
)

// demoSummary is the end of the demo as JSON.
type demoSummary struct {
	OK       bool            `json:"ok"`
	Database string          `json:"database"`
	Broker   string          `json:"broker"`
	Seconds  float64         `json:"seconds"`
	Kills    int64           `json:"kills"`
	Report   workload.Report `json:"report"`
	Latency  demoLatency     `json:"latency_ms"`
	Tenants  []demoTenant    `json:"tenants"`
}

func (d *demo) printSummary(took time.Duration, report workload.Report) error {
	p := d.meter.look(time.Now())
	if d.o.output.value == "json" {
		return d.app.printJSON(demoSummary{
			OK: report.OK(), Database: d.database.title, Broker: d.broker.title, Seconds: took.Seconds(),
			Kills: d.child.kills.Load(), Report: report, Latency: p.latency, Tenants: p.tenants,
		})
	}
	if err := d.app.print("\n"); err != nil {
		return err
	}
	rows := [][]string{{"TENANT", "COMMITTED", "DELIVERED", "ROLLED BACK"}}
	for _, t := range append(p.tenants, p.total) {
		rows = append(rows, []string{t.Tenant, strconv.FormatInt(t.Committed, 10), strconv.FormatInt(t.Delivered, 10), strconv.FormatInt(t.RolledBack, 10)})
	}
	if err := table(d.app.out, rows); err != nil {
		return err
	}
	verdict := d.app.paint(green, "all is well")
	if !report.OK() {
		verdict = d.app.paint(red, "NOT WELL")
	}
	var killed strings.Builder
	if n := d.child.kills.Load(); n > 0 {
		fmt.Fprintf(&killed, "\noutboxd was killed %d times meanwhile", n)
	}
	return d.app.print(`
from COMMIT to a client of %s: p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms (after the first second)%s
read back after %.0f s: %s
%s
`, d.broker.title, p.latency.P50, p.latency.P90, p.latency.P99, p.latency.Max, killed.String(), took.Seconds(), report.String(), verdict)
}
