package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/bench"
	"github.com/outboxd/outboxd/internal/testenv"
)

// runBench runs the command in an environment that would spoil its own servers' settings, did the bench not keep it away.
func runBench(t *testing.T, args ...string) (r bench.Result, said string) {
	t.Helper()
	tmp := openFolder(t)
	var out, told bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program(t), append([]string{"bench", "--output", "json"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if !slices.Contains(args, "--env-file") {
		cmd.Env = append(cmd.Env, "OUTBOXD_ON_SENT=nonsense")
	}
	cmd.Stdout, cmd.Stderr = &out, &told
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, told.String())
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if left, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	return r, told.String()
}

// wantRun looks whether the figures of a tool are there and possible.
func wantRun(t *testing.T, r *bench.Result, tool string, rows int64) *bench.Run {
	t.Helper()
	run := r.Run(tool)
	if run == nil {
		t.Fatalf("no run of %s in %+v", tool, r.Runs)
	}
	if run.Entries != rows || run.EventsPerSecond <= 0 || run.Seconds < run.Start || run.Start <= 0 {
		t.Errorf("%+v", run)
	}
	if run.CPU.Tool == nil || *run.CPU.Tool <= 0 || run.CPU.Broker == nil || run.PeakMemory < 1<<20 {
		t.Errorf("%+v of %+v", run.CPU, run)
	}
	return run
}

func TestBenchDrainsWithServersOfItsOwn(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	r, _ := runBench(t, "--rows", "5000", "--transaction", "7", "--tenants", "2", "--topics", "2", "--on-sent", "mark", "--profile", folder)
	run := wantRun(t, &r, "outboxd", 5000)
	if run.Work.Updated < 5000 || run.Settled < run.Seconds || run.Work.WAL < 5000*100 || r.Load.Destinations != 4 {
		t.Errorf("%+v of %+v", run.Work, r)
	}
	if run.PerPublish < 1 || run.PerSettle < 1 {
		t.Errorf("%.1f events a publish, %.1f rows a statement", run.PerPublish, run.PerSettle)
	}
	if run.CPU.Walsender == nil {
		t.Error("the walsender was not found")
	}
	for _, name := range []string{"cpu", "heap", "allocs"} {
		if info, err := os.Stat(filepath.Join(folder, name+".pprof")); err != nil || info.Size() == 0 {
			t.Errorf("profile %s: %v", name, err)
		}
	}
}

func TestBenchDrainsWhatWasSpilled(t *testing.T) {
	t.Parallel()
	r, _ := runBench(t, "--rows", "6000", "--on-sent", "mark", "--spilled", "--waiting", "700", "--table", "900")
	log, spilled := wantRun(t, &r, "outboxd", 6000), wantRun(t, &r, bench.Spilled, 6000)
	ratio := 0.0
	if log.StreamingPerSecond > 0 { // else all of them came at one look
		ratio = spilled.StreamingPerSecond / log.StreamingPerSecond
	}
	if r.Spill == nil || r.Spill.ParkSeconds <= 0 || r.Spill.Ratio != ratio {
		t.Errorf("%+v of %+v", r.Spill, r.Runs)
	}
	if log.Work.Inserted > 100 || spilled.Work.Inserted < 6000 || spilled.Work.Inserted > 6100 { // into parked, each once
		t.Errorf("from the log %+v, spilled %+v", log.Work, spilled.Work)
	}
	if r.Load.Waiting != 700 || r.Load.Old != 900 {
		t.Errorf("%+v", r.Load)
	}
}

func TestBenchSharesTheTableOut(t *testing.T) {
	t.Parallel()
	url := filtering(t).Database(t)
	file := envFile(t, "DATABASE_URL="+url, "REDIS_URL="+testenv.NewRedis(t, testenv.RedisOptions{}).URL)
	r, _ := runBench(t, "--env-file", file, "--rows", "3000", "--shards", "3", "--tenants", "2", "--on-sent", "mark")
	run := wantRun(t, &r, "outboxd", 3000)
	if run.Work.Updated < 3000 || r.Load.Destinations != 6 || r.Load.Shards != 3 || run.CPU.Walsender == nil {
		t.Errorf("%+v of %+v", run.Work, r)
	}
	if n := madeIn(t, url); n != 0 {
		t.Errorf("%d schemas, publications and slots are left", n)
	}
}

// madeIn counts the schemas, publications and slots in the database.
func madeIn(t *testing.T, url string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // it only read
	err = conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'outboxd%') + (SELECT count(*) FROM pg_publication)
		+ (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestBenchComparesOnTheSameLog(t *testing.T) {
	t.Parallel()
	r, _ := runBench(t, "--rows", "2000", "--against", "polling,update,pg_recvlogical")
	limit, polled := r.Run(bench.Limit), r.Run("polling")
	if update := r.Run(bench.Update); update == nil || update.Entries != 2000 || update.Settled <= 0 || update.CPU.Backends == nil {
		t.Errorf("%+v", update)
	}
	if len(r.Runs) != 4 || limit == nil || limit.EventsPerSecond <= 0 || limit.CPU.Tool == nil || polled == nil || polled.Entries != 2000 || polled.CPU.Broker == nil {
		t.Errorf("%+v", r.Runs)
	}
	wantRun(t, &r, "outboxd", 2000)
	if text := r.Markdown(); !strings.Contains(text, "| pg_recvlogical | ") || !strings.Contains(text, "| outboxd | ") {
		t.Error(text)
	}
}

func TestBenchMeasuresLatency(t *testing.T) {
	t.Parallel()
	r, _ := runBench(t, "--rate", "200", "--for", "2s", "--transaction", "2", "--topics", "2", "--against", "direct")
	if len(r.Latencies) != 2 {
		t.Fatalf("%+v", r)
	}
	if direct := r.Latencies[1]; direct.Tool != bench.Direct || direct.Events != 400 || direct.P50 <= 0 {
		t.Errorf("%+v", direct)
	}
	l := r.Latencies[0]
	if l.Events < 400 || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max || l.Cores <= 0 || l.PeakMemory == 0 {
		t.Errorf("%+v", l)
	}
	if l.Rate <= 0 || len(r.Runs) > 0 || r.Load.Rows != 600 {
		t.Errorf("%+v", r)
	}
}

// envFile writes the settings of the user's servers.
func envFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBenchLeavesForeignServersAsTheyWere(t *testing.T) {
	t.Parallel()
	pulsar := testenv.Pulsar(t)
	for _, sink := range []string{"redis", "pulsar"} {
		t.Run(sink, func(t *testing.T) {
			t.Parallel()
			url, redis := testenv.Postgres(t).Database(t), testenv.NewRedis(t, testenv.RedisOptions{}).URL
			file := envFile(t, "DATABASE_URL="+url, "REDIS_URL="+redis, "PULSAR_SERVICE_URL="+pulsar.URL, "OUTBOXD_SINKS_PULSAR_ADMIN_URL="+pulsar.AdminURL,
				"OUTBOXD_DATABASE_COLUMNS_TOPIC=subject", "OUTBOXD_SINKS_REDIS_MAXLEN=1000")
			r, _ := runBench(t, "--env-file", file, "--sink", sink, "--rows", "3000", "--topics", "2", "--on-sent", "delete")
			run := wantRun(t, &r, "outboxd", 3000)
			if run.Work.Deleted < 3000 || r.Load.Sink != sink {
				t.Errorf("%+v of %+v", run.Work, r)
			}
			r, _ = runBench(t, "--env-file", file, "--sink", sink, "--rate", "100", "--for", "1s", "--transaction", "1", "--tenants", "12", "--failing", "1")
			wantIsolated(t, &r, 200, 16)
			if n := madeIn(t, url); n != 0 {
				t.Errorf("%d schemas, publications and slots are left", n)
			}
			if left := streamsIn(t, redis, "outboxd-bench-"); len(left) > 0 {
				t.Errorf("streams are left: %v", left)
			}
			if sink == "pulsar" {
				wantNoTopics(t, pulsar, "outboxd-bench-")
			}
		})
	}
}

// wantIsolated looks whether the refused events of so many were parked, and the others' latency compared.
func wantIsolated(t *testing.T, r *bench.Result, rows, refused int64) {
	t.Helper()
	i := r.Isolation
	if i == nil || len(r.Latencies) != 2 {
		t.Fatalf("%+v", r)
	}
	without, with := r.Latencies[0], r.Latencies[1]
	if i.Parked != refused || i.P50 != with.P50/without.P50 || i.P99 != with.P99/without.P99 || !strings.Contains(with.Tool, "1 of 12 tenants failing") {
		t.Errorf("%+v of %+v", i, r.Latencies)
	}
	if without.Events >= rows/2 || with.Events >= rows/2 || with.Events < rows/3 {
		t.Errorf("not the others alone are measured: %+v", r.Latencies)
	}
}

func TestBenchRefusesWhatItCannotDo(t *testing.T) {
	file := envFile(t, "DATABASE_URL=postgres://localhost/shop", "REDIS_URL=redis://localhost:6379/0", "PULSAR_SERVICE_URL=pulsar://localhost:6650")
	for args, want := range map[string]string{
		"--rows 0":                          "--rows 0: choose",
		"--transaction=0":                   "at least 1",
		"--tenants 20000":                   "--tenants 20000",
		"--against direct":                  "choose of pg_recvlogical",
		"--rate 10 --against polling":       "choose of direct",
		"--failing 1 --tenants 2":           "--failing 1 goes with --rate",
		"--spilled --rate 10":               "leave out --rate",
		"--spilled --env-file " + file:      "has to be the bench's own",
		"--waiting -1":                      "--waiting -1",
		"--rate 10 --rows 5":                "with --rate say --for",
		"--shards 17":                       "--shards 17: choose 1 to 16",
		"--shards 2 --spilled":              "--shards goes with none of",
		"--failing 2 --tenants 2 --rate 10": "more --tenants than fail",
		"--failing 1 --tenants 2 --rate 10 --against direct": "leave out --against",
		"--against debezium": "--debezium: name the folder",
		"--rate 10 --against debezium-128m --debezium " + t.TempDir(): "holds no debezium-server-*runner.jar",
		"--on-sent burn":                       "burn",
		"--env-file " + file:                   "there are several sinks: choose one with --sink",
		"--env-file " + file + " --sink kafka": "no sink of Redis or Pulsar",
	} {
		var out bytes.Buffer
		a := &app{in: strings.NewReader(""), out: io.Discard, err: &out}
		if code := execute(t.Context(), a, append([]string{"bench"}, strings.Fields(args)...)); code != exitUsage || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit code %d: %s", args, code, out.String())
		}
	}
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: io.Discard, err: &out}
	if code := execute(t.Context(), a, []string{"bench", "--env-file", file, "--sink", "pulsar"}); code != exitFailure || !strings.Contains(out.String(), "sinks.pulsar.admin_url is needed") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	out.Reset()
	if code := execute(t.Context(), a, []string{"bench", "--env-file", file, "--sink", "redis", "--set", "format=bento"}); code != exitFailure || !strings.Contains(out.String(), "add --set format=raw") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	if got := fmt.Sprint(shown([]string{"sinks.redis.password=secret", "batch.max_messages=1"})); got != "[batch.max_messages=1]" {
		t.Errorf("shown: %s", got)
	}
}
