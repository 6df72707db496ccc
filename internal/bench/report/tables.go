package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/outboxd/outboxd/internal/bench"
	"github.com/outboxd/outboxd/internal/human"
)

// debezium is the run that others are compared with.
const debezium = "debezium"

// tables are all tables, with what they were measured on.
func tables(all []bench.Result, note string) string {
	var b strings.Builder
	if note != "" {
		b.WriteString(note + "\n\n")
	}
	var versions []string
	for i := range all {
		for _, v := range all[i].Machine.Versions {
			if !slices.Contains(versions, v) {
				versions = append(versions, v)
			}
		}
	}
	m, l := &all[0].Machine, &all[0].Load
	fmt.Fprintf(&b, "%s, %d cores, %s, all on one machine. %s. PostgreSQL has %s. Payloads of %d bytes, %s rows, %d keys, one destination.\n", m.Processor, m.Cores, m.System,
		strings.Join(versions, ", "), strings.Join(m.Settings, ", "), l.PayloadBytes, fmt.Sprint(l.Rows), l.Keys)
	for _, sink := range []string{"redis", "pulsar"} {
		drains(&b, all, sink)
	}
	settles(&b, all)
	paces(&b, all)
	isolations(&b, all)
	spills(&b, all)
	notes(&b, all)
	return b.String()
}

// of chooses results.
func of(all []bench.Result, fits func(*bench.Result) bool) (chosen []*bench.Result) {
	for i := range all {
		if fits(&all[i]) {
			chosen = append(chosen, &all[i])
		}
	}
	return chosen
}

// drains is the table of all tools at one sink.
func drains(b *strings.Builder, all []bench.Result, sink string) {
	chosen := kept(all, sink)
	if len(chosen) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### A backlog to %s, `on_sent: keep`\n\n", strings.ToUpper(sink[:1])+sink[1:])
	header(b, "rows in a transaction", "tool", "speed, of pg_recvlogical", "speed, of Debezium Server", "CPU per event: tool", "of Debezium Server", "its walsender", "broker", "peak memory, files")
	for _, r := range chosen {
		limit, rival := r.Run(bench.Limit), r.Run(debezium)
		for i := range r.Runs {
			run := &r.Runs[i]
			row(b, fmt.Sprint(r.Load.Transaction), run.Tool, ratio(speed(run), speed(limit)), ratio(speed(run), speed(rival)), micros(run.CPU.Tool),
				ratio(cpu(run), cpu(rival)), micros(run.CPU.Walsender), micros(run.CPU.Broker), run.MemoryText())
		}
	}
}

// kept are the results of backlogs whose rows stay as they are, the smallest transactions first.
func kept(all []bench.Result, sink string) []*bench.Result {
	chosen := of(all, func(r *bench.Result) bool {
		return r.Load.Sink == sink && r.Load.OnSent == "keep" && r.Load.Indexes == "lean" && r.Spill == nil && r.Run("outboxd") != nil
	})
	slices.SortFunc(chosen, func(a, b *bench.Result) int { return a.Load.Transaction - b.Load.Transaction })
	return chosen
}

// settles is the table of what becomes of delivered rows.
func settles(b *strings.Builder, all []bench.Result) {
	chosen := of(all, func(r *bench.Result) bool {
		return r.Load.OnSent != "keep" && r.Spill == nil && r.Run("outboxd") != nil
	})
	if len(chosen) == 0 {
		return
	}
	b.WriteString("\n### What `on_sent` costs\n\n")
	header(b, "sink", "on_sent", "indexes", "rows in a transaction", "speed with all settled, of `keep`", "of a bare UPDATE", "CPU per event: outboxd", "log per event", "rows written per event", "rows per settling statement")
	for _, r := range chosen {
		run := r.Run("outboxd")
		base := 0.0
		for _, k := range kept(all, r.Load.Sink) {
			if k.Load.Transaction == r.Load.Transaction {
				base = float64(k.Load.Rows) / k.Run("outboxd").Seconds
			}
		}
		n := float64(run.Entries)
		row(b, r.Load.Sink, r.Load.OnSent, r.Load.Indexes, fmt.Sprint(r.Load.Transaction), ratio(n/run.Done(), base), ratio(n/run.Done(), settled(r.Run(bench.Update))), micros(run.CPU.Tool),
			human.Bytes(int64(float64(run.Work.WAL)/n)), fmt.Sprintf("%.2f", float64(run.Work.Inserted+run.Work.Updated+run.Work.Deleted)/n),
			fmt.Sprintf("%.0f", run.PerSettle))
	}
}

// paces is the table of latencies.
func paces(b *strings.Builder, all []bench.Result) {
	chosen := of(all, func(r *bench.Result) bool { return len(r.Latencies) > 0 && r.Isolation == nil })
	if len(chosen) == 0 {
		return
	}
	b.WriteString("\n### From COMMIT to a reader of the broker\n\n")
	header(b, "sink", "on_sent", "destinations", "tool", "events/s", "rows in a transaction", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "cores of the tool", "peak memory, files")
	for _, r := range chosen {
		for i := range r.Latencies {
			l := &r.Latencies[i]
			cells := []string{r.Load.Sink, r.Load.OnSent, fmt.Sprint(r.Load.Destinations), l.Tool, fmt.Sprintf("%.0f", l.Rate), fmt.Sprint(r.Load.Transaction)}
			for _, ms := range []float64{l.P50, l.P90, l.P99, l.P999, l.Max} {
				cells = append(cells, fmt.Sprintf("%.1f", ms))
			}
			cores, memory := l.Taken()
			row(b, append(cells, cores, memory)...)
		}
	}
}

// isolations is the table of the others' latency while some tenants' destinations fail.
func isolations(b *strings.Builder, all []bench.Result) {
	chosen := of(all, func(r *bench.Result) bool { return r.Isolation != nil && len(r.Latencies) == 2 })
	if len(chosen) == 0 {
		return
	}
	b.WriteString("\n### While the destinations of some tenants refuse everything\n\n")
	header(b, "sink", "tenants", "failing", "events/s of the others", "their p50 ms, without and with", "ratio", "their p99 ms, without and with", "ratio", "events parked")
	for _, r := range chosen {
		i, without, with := r.Isolation, &r.Latencies[0], &r.Latencies[1]
		row(b, r.Load.Sink, fmt.Sprint(i.Tenants), fmt.Sprint(i.Failing), fmt.Sprintf("%.0f", with.Rate), fmt.Sprintf("%.1f, %.1f", without.P50, with.P50),
			ratio(i.P50, 1), fmt.Sprintf("%.1f, %.1f", without.P99, with.P99), ratio(i.P99, 1), fmt.Sprint(i.Parked))
	}
}

// spills is the table of backlogs that were parked in an outage.
func spills(b *strings.Builder, all []bench.Result) {
	chosen := of(all, func(r *bench.Result) bool { return r.Spill != nil && r.Run(bench.Spilled) != nil })
	if len(chosen) == 0 {
		return
	}
	b.WriteString("\n### A backlog that was spilled while the broker was away\n\n")
	header(b, "sink", "on_sent", "rows", "drained at, of the speed from the log", "s from the broker's return to the first entry", "CPU per event: outboxd", "the database's other backends", "broker", "rows written per event", "peak memory, files")
	for _, r := range chosen {
		run := r.Run(bench.Spilled)
		row(b, r.Load.Sink, r.Load.OnSent, fmt.Sprint(r.Load.Rows), ratio(r.Spill.Ratio, 1), fmt.Sprintf("%.1f", run.Start), micros(run.CPU.Tool), micros(run.CPU.Backends), micros(run.CPU.Broker),
			fmt.Sprintf("%.2f", float64(run.Work.Inserted+run.Work.Updated+run.Work.Deleted)/float64(run.Entries)), run.MemoryText())
	}
}

// notes say what is not in the tables.
func notes(b *strings.Builder, all []bench.Result) {
	for _, r := range of(all, func(r *bench.Result) bool { return len(r.Notes) > 0 }) {
		for _, note := range r.Notes {
			fmt.Fprintf(b, "\nTo %s, transactions of %d: %s.\n", r.Load.Sink, r.Load.Transaction, note)
		}
	}
}

func header(b *strings.Builder, names ...string) {
	row(b, names...)
	b.WriteString("|" + strings.Repeat("---|", len(names)) + "\n")
}

func row(b *strings.Builder, cells ...string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

// settled is rows a second until all are settled; 0 where there is no run.
func settled(run *bench.Run) float64 {
	if run == nil {
		return 0
	}
	return float64(run.Entries) / run.Done()
}

// speed is events a second without the time to start; 0 where there is no run.
func speed(run *bench.Run) float64 {
	if run == nil {
		return 0
	}
	return run.StreamingPerSecond
}

// cpu is the tool's processor time for an event; 0 where it is not known.
func cpu(run *bench.Run) float64 {
	if run == nil || run.CPU.Tool == nil {
		return 0
	}
	return *run.CPU.Tool
}

func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}

// micros is seconds for a million, which is microseconds for one.
func micros(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f us", *seconds)
}
