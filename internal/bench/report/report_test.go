package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/internal/bench"
)

// drained is the result of a backlog that three tools delivered.
func drained(sink, onSent string, size int) bench.Result {
	took := func(seconds float64) *float64 { return &seconds }
	r := bench.Result{
		Machine: bench.Machine{Processor: "Abacus", Cores: 2, System: "linux", Versions: []string{"outboxd v1", "PostgreSQL 17"}, Settings: []string{"fsync = on"}},
		Load:    bench.Load{Rows: 1000, Transaction: size, PayloadBytes: 480, Keys: 10, Sink: sink, OnSent: onSent, Indexes: "lean"},
		Runs: []bench.Run{{
			Tool: "outboxd", Entries: 1000, Seconds: 2, StreamingPerSecond: 900, CPU: bench.CPUPerMillion{Tool: took(5)}, Memory: bench.Memory{PeakMemory: 50 << 20, FileMemory: 40 << 20},
			Work: &bench.Work{WAL: 100_000, Transactions: 10, Updated: 1000},
		}},
	}
	if onSent == "keep" {
		r.Runs = append([]bench.Run{
			{Tool: bench.Limit, Entries: 1000, Seconds: 1, StreamingPerSecond: 1000},
			{Tool: "debezium", Entries: 1000, Seconds: 5, StreamingPerSecond: 300, CPU: bench.CPUPerMillion{Tool: took(50)}},
		}, r.Runs...)
	} else {
		r.Runs[0].Settled, r.Runs[0].PerSettle = 4, 100
		r.Runs = append(r.Runs, bench.Run{Tool: bench.Update, Entries: 1000, Settled: 3})
	}
	return r
}

// spilled is the result of a backlog that was parked, and slower than all.
func spilled() bench.Result {
	r, slow := drained("redis", "mark", 10), 9.0
	r.Runs = append(r.Runs, bench.Run{Tool: bench.Spilled, Entries: 1000, Start: 5.5, StreamingPerSecond: 540, CPU: bench.CPUPerMillion{Tool: &slow}, Work: &bench.Work{}})
	r.Spill = &bench.Spill{Ratio: 0.6}
	return r
}

func TestReportStandsBetweenItsLines(t *testing.T) {
	folder := t.TempDir()
	results, document := filepath.Join(folder, "results"), filepath.Join(folder, "benchmarks.md")
	if err := os.MkdirAll(results, 0o700); err != nil {
		t.Fatal(err)
	}
	incomplete := drained("redis", "keep", 10)
	incomplete.Notes = []string{"polling is left out: it fell asleep"}
	paced := bench.Result{Load: bench.Load{Sink: "redis", OnSent: "keep", Transaction: 1, Destinations: 30}, Latencies: []bench.Latency{{Tool: "outboxd", Rate: 1000, P50: 1.25, Max: 9}}}
	beside := bench.Result{
		Load: bench.Load{Sink: "redis", OnSent: "keep", Transaction: 1}, Isolation: &bench.Isolation{Tenants: 100, Failing: 1, Parked: 300, P50: 1.01, P99: 1.1},
		Latencies: []bench.Latency{{Tool: "outboxd", P50: 2, P99: 10}, {Tool: "outboxd, 1 of 100 tenants failing", Rate: 990, P50: 2.02, P99: 11}},
	}
	for name, r := range map[string]bench.Result{"a": incomplete, "b": drained("redis", "keep", 1), "c": drained("redis", "mark", 10), "d": paced, "e": beside, "f": spilled()} {
		text, err := json.Marshal(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(results, name+".json"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, axis := range []string{"keys", "waiting"} {
		if err := os.MkdirAll(filepath.Join(results, "growth", axis), 0o700); err != nil {
			t.Fatal(err)
		}
		for i, speed := range []float64{800, 1000} { // more in the first file
			grown := drained("redis", "keep", 10)
			grown.Load.Keys, grown.Load.Waiting, grown.Runs[2].StreamingPerSecond = 1000/(1+999*i), 500*(1-i), speed
			text, err := json.Marshal(grown)
			if err == nil {
				err = os.WriteFile(filepath.Join(results, "growth", axis, fmt.Sprint(i)+".json"), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(document, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second time changes nothing
		if err := report(results, document, "Nothing is missing."); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"before\n" + begin + "Nothing is missing.", end + "after\n", "Abacus, 2 cores, linux", "outboxd v1, PostgreSQL 17", "PostgreSQL has fsync = on",
		"| 10 | outboxd | 0.90 | 3.00 | 5.0 us | 0.10 |", "| 1 | pg_recvlogical | 1.00 | 3.33 |", "| redis | mark | lean | 10 | 0.50 | 0.75 | 5.0 us | 100 B | 1.00 | 100 |",
		"| redis | keep | 30 | outboxd | 1000 | 1 | 1.2 |", "| redis | 100 | 1 | 990 | 2.0, 2.0 | 1.01 | 10.0, 11.0 | 1.10 | 300 |", "| 1 | 1000 | 1.00 | 5.0 us |", "| 1000 | 1000 | 0.80 | 5.0 us |", "](charts/growth-keys.svg)",
		"| 0 | 1000 | 1.00 | 5.0 us |", "| 500 | 1000 | 0.80 | 5.0 us |", "](charts/growth-waiting.svg)", "| redis | mark | 1000 | 0.60 | 5.5 | 9.0 us |", "](charts/redis-speed.svg)",
		"To redis, transactions of 10: polling is left out: it fell asleep.",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if n := strings.Count(string(text), "| redis | mark | lean |"); n != 1 {
		t.Errorf("the backlog that was spilled is beside those that were marked, too: %d", n)
	}
	if strings.Contains(string(text), "\nold\n") || strings.Count(string(text), "### A backlog to Redis") != 1 {
		t.Errorf("what stood there is left:\n%s", text)
	}
	for _, name := range []string{"redis-speed.svg", "redis-cpu.svg"} {
		picture, err := os.ReadFile(filepath.Join(folder, "charts", name))
		if err != nil || !strings.Contains(string(picture), "<svg") || !strings.Contains(string(picture), "pg_recvlogical") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReportSaysWhatItLacks(t *testing.T) {
	folder := t.TempDir()
	document := filepath.Join(folder, "benchmarks.md")
	if err := report(folder, document, ""); err == nil || !strings.Contains(err.Error(), "there are no results in "+folder) {
		t.Errorf("no results: %v", err)
	}
	for name, text := range map[string]string{"a.json": "{}", "benchmarks.md": "nothing"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := report(folder, document, ""); err == nil || !strings.Contains(err.Error(), "lacks the lines") {
		t.Errorf("no lines: %v", err)
	}
}
