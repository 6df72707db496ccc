package bench

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/outboxd/outboxd/internal/human"
)

// columns are those of a table of runs.
var columns = []string{
	"tool", "events/s", "of the limit", "payload MB/s", "start s", "settled s", "events per publish", "rows per statement", "CPU s/M: tool", "walsender", "other backends", "broker", "peak memory, files", "log written", "rows written",
}

// Limit is the name of the tool that all others are compared with: it reads the log and does nothing else.
const Limit = "pg_recvlogical"

// cells are a run's values; a dash is one that is not known.
func (r *Result) cells(run *Run) []string {
	const unknown = "-"
	speed, ratio, settled, log, rows := unknown, unknown, unknown, unknown, unknown
	if run.StreamingPerSecond > 0 { // 0: all came at one look
		speed = fmt.Sprintf("%.0f", run.StreamingPerSecond)
		if limit := r.Run(Limit); limit != nil && limit != run && limit.StreamingPerSecond > 0 {
			ratio = fmt.Sprintf("%.2f", run.StreamingPerSecond/limit.StreamingPerSecond)
		}
	}
	if run.Settled > 0 {
		settled = fmt.Sprintf("%.1f", run.Settled)
	}
	if w := run.Work; w != nil {
		log, rows = human.Bytes(w.WAL), fmt.Sprint(w.Inserted+w.Updated+w.Deleted)
	}
	cpu := func(seconds *float64) string {
		if seconds == nil {
			return unknown
		}
		return fmt.Sprintf("%.1f", *seconds)
	}
	return []string{
		run.Tool, speed, ratio, fmt.Sprintf("%.1f", run.MegabytesPerSecond), fmt.Sprintf("%.2f", run.Start), settled, average(run.PerPublish), average(run.PerSettle),
		cpu(run.CPU.Tool), cpu(run.CPU.Walsender), cpu(run.CPU.Backends), cpu(run.CPU.Broker), run.MemoryText(), log, rows,
	}
}

// average is a number that is 0 where it is not known.
func average(n float64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", n)
}

// Run is the tool's run, nil where there is none.
func (r *Result) Run(tool string) *Run {
	for i := range r.Runs {
		if r.Runs[i].Tool == tool {
			return &r.Runs[i]
		}
	}
	return nil
}

// headlines say what was measured, and where.
func (r *Result) headlines() []string {
	l, m := &r.Load, &r.Machine
	load := fmt.Sprintf("%d rows of %d bytes in transactions of %d, %d keys; destinations: %d, at sink %s; on_sent %s, indexes %s",
		l.Rows, l.PayloadBytes, l.Transaction, l.Keys, l.Destinations, l.Sink, l.OnSent, l.Indexes)
	if l.Shards > 1 {
		load += fmt.Sprintf("; %d shards by key", l.Shards)
	}
	if l.Waiting > 0 {
		load += fmt.Sprintf("; %d other keys wait there", l.Waiting)
	}
	if l.Old > 0 {
		load += fmt.Sprintf("; %d old rows in the table", l.Old)
	}
	lines := []string{
		fmt.Sprintf("%s, %d cores, %s; %s", m.Processor, m.Cores, m.System, strings.Join(m.Versions, ", ")), load,
	}
	if len(m.Settings) > 0 {
		lines = append(lines, "settings: "+strings.Join(m.Settings, ", "))
	}
	return append(lines, r.Notes...)
}

// sentences are what is compared within the result.
func (r *Result) sentences() (all []string) {
	if r.Isolation != nil {
		all = append(all, r.Isolation.String())
	}
	if r.Spill != nil {
		all = append(all, r.Spill.String())
	}
	return all
}

// Text is the result for a terminal: a column for each tool.
func (r *Result) Text() string {
	var b strings.Builder
	b.WriteString(strings.Join(r.headlines(), "\n") + "\n")
	if len(r.Runs) > 0 {
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		values := make([][]string, len(r.Runs))
		for i := range r.Runs {
			values[i] = r.cells(&r.Runs[i])
		}
		for i, name := range columns {
			line := name
			for _, v := range values {
				line += "\t" + v[i]
			}
			_, _ = fmt.Fprintln(t, line) // a Builder takes all
		}
		_ = t.Flush()
		b.WriteString("read back from outboxd: each row arrived once, and those of a key in their order\n")
	}
	for i := range r.Latencies {
		l := &r.Latencies[i]
		cores, memory := l.Taken()
		fmt.Fprintf(&b, "%s, %.0f events/s for %.0f s, from COMMIT to a reader of the broker: %s; cores %s, memory %s\n",
			l.Tool, l.Rate, l.Seconds, l.String(), cores, memory)
	}
	for _, sentence := range r.sentences() {
		b.WriteString(sentence + "\n")
	}
	return b.String()
}

// Markdown is the result as a document.
func (r *Result) Markdown() string {
	var b strings.Builder
	for _, line := range r.headlines() {
		b.WriteString("- " + line + "\n")
	}
	if len(r.Runs) > 0 {
		fmt.Fprintf(&b, "\n| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
		for i := range r.Runs {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(r.cells(&r.Runs[i]), " | "))
		}
	}
	if len(r.Latencies) > 0 {
		fmt.Fprintf(&b, "\n| tool | events/s | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms | cores of the tool | peak memory, files |\n|%s\n", strings.Repeat("---|", 9))
	}
	for i := range r.Latencies {
		l := &r.Latencies[i]
		cores, memory := l.Taken()
		fmt.Fprintf(&b, "| %s | %.0f | %.2f | %.2f | %.2f | %.2f | %.2f | %s | %s |\n", l.Tool, l.Rate, l.P50, l.P90, l.P99, l.P999, l.Max, cores, memory)
	}
	for _, sentence := range r.sentences() {
		b.WriteString("\n" + sentence + "\n")
	}
	return b.String()
}
