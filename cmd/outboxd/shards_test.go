package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/shard"
)

const shardsTested = 3

// sharded is a table that is split, with an application that writes to it and a broker.
type sharded struct {
	*testing.T
	url, slot string
	by        string
	environ   []string
	conn      *pgx.Conn
	producer  *workload.Producer
	reader    *workload.RedisReader
}

// newSharded splits a table by tenant or key; nothing runs yet.
func newSharded(t *testing.T, by string, settings ...string) *sharded {
	t.Helper()
	return newShardedOn(t, filtering(t), testenv.Redis(t), by, settings...)
}

// filtering is a server that has row filters.
func filtering(t *testing.T) *testenv.PostgresServer {
	t.Helper()
	if database := testenv.Postgres(t); database.Major >= 15 {
		return database
	}
	return testenv.NewPostgres(t, testenv.PostgresOptions{Version: 15})
}

func newShardedOn(t *testing.T, database *testenv.PostgresServer, server *testenv.RedisServer, by string, settings ...string) *sharded {
	t.Helper()
	s := &sharded{T: t, by: by, url: database.Database(t), slot: fmt.Sprintf("shards_%d", time.Now().UnixNano())}
	prefix := s.slot
	destination := map[string]string{"tenant": prefix + ":{tenant}:{topic}", "key": prefix + ":{shard}:{topic}"}[by]
	s.environ = append([]string{
		"DATABASE_URL=" + s.url, "REDIS_URL=" + server.URL, "OUTBOXD_DATABASE_SLOT=" + s.slot, fmt.Sprintf("OUTBOXD_SHARDS_COUNT=%d", shardsTested),
		"OUTBOXD_SHARDS_BY=" + by, "OUTBOXD_ROUTES=[{to: [{sink: redis, destination: '" + destination + "'}]}]",
		"OUTBOXD_HTTP_ADDR=", "OUTBOXD_CHECKPOINT_INTERVAL=100ms", "OUTBOXD_POLL_SWEEP=1s",
	}, settings...)
	var err error
	if s.reader, err = workload.NewRedisReader(server.URL, prefix); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.reader.Delete(context.Background()), s.reader.Close()); err != nil { // t.Context is over
			t.Errorf("remove what arrived: %v", err)
		}
	})
	if s.conn, err = pgx.Connect(t.Context(), s.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close(context.Background()) })
	s.child().run("migrate", "up")
	if s.producer, err = workload.NewProducer(workload.Config{URL: s.url, Tenants: workload.Tenants(12), Rate: 600, Random: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.producer.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sharded) child(settings ...string) *child {
	c := newChild(s.T, slices.Concat(s.environ, settings))
	s.Cleanup(func() {
		if s.Failed() {
			s.Logf("the log of a child %v:\n%s", settings, c.log.String())
		}
	})
	return c
}

// shard is the process of one shard.
func (s *sharded) shard(number int, settings ...string) *child {
	return s.child(append(settings, fmt.Sprintf("OUTBOXD_SHARDS_NUMBER=%d", number))...)
}

// load lets the application write until stop is called, and returns when it has written n events.
func (s *sharded) load(n int64) (stop func()) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.producer.Run(ctx); err != nil {
			s.Errorf("the application: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	s.Cleanup(stop)
	s.written(n)
	return stop
}

// written waits until the application has written n more events.
func (s *sharded) written(n int64) {
	s.Helper()
	before := s.producer.Totals().Committed
	eventually(s.T, "the application has written", func() bool { return s.producer.Totals().Committed >= before+n })
}

func (s *sharded) count(sql string, args ...any) (n int) {
	s.Helper()
	if err := s.conn.QueryRow(s.Context(), sql, args...).Scan(&n); err != nil {
		s.Fatalf("%v in %s", err, sql)
	}
	return n
}

// streaming tells whether the shard has adopted its backlog and streams.
func (s *sharded) streaming(number int) bool { return s.streamingOf(s.of(number)) }

func (s *sharded) of(number int) shard.Shard {
	return shard.Shard{Count: shardsTested, Number: number, By: shard.By(s.by)}
}

func (s *sharded) streamingOf(one shard.Shard) bool {
	return s.count(`SELECT count(*) FROM pg_replication_slots s JOIN `+one.Name("outboxd")+`.checkpoint c ON c.slot = s.slot_name
		WHERE s.slot_name = $1 AND s.active AND c.adopt_snapshot IS NULL`, one.Name(s.slot)) == 1
}

func (s *sharded) term(number int) int {
	return s.count(`SELECT coalesce(max(term), 0) FROM ` + s.of(number).Name("outboxd") + `.lease`)
}

// wantAll waits until everything has arrived once and in order, and each row is marked.
func (s *sharded) wantAll() {
	s.Helper()
	report := waitForAll(s.T, s.producer, s.reader)
	if !report.OK() {
		s.Errorf("events were lost, doubled or out of order")
	}
	s.Log(report.String())
	eventually(s.T, "each delivered row is marked", func() bool { return s.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
}

// Each shard is a process of its own. They share the backlog out, one of them is killed again and again, and the others do not notice.
func TestShardsDeliverEveryEventOnceAndInOrder(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"tenant", "key"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			s := newSharded(t, by)
			s.load(500)()
			var all []*child
			addr := testenv.FreeAddress(t)
			for number := range shardsTested {
				all = append(all, s.shard(number, []string{"OUTBOXD_HTTP_ADDR=", "OUTBOXD_HTTP_ADDR=", "OUTBOXD_HTTP_ADDR=" + addr}[number]))
				all[number].start()
				defer all[number].kill()
			}
			eventually(t, "all shards stream", func() bool { return s.streaming(0) && s.streaming(1) && s.streaming(2) })
			for number := range shardsTested {
				if s.term(number) == 0 {
					t.Errorf("shard %d has no lease", number)
				}
			}
			var status shardsReport
			if err := json.Unmarshal([]byte(get(t, "http://"+addr+"/status")), &status); err != nil || len(status.Shards) != 1 || status.Shards[0].Shard != 2 {
				t.Errorf("the status of the process for shard 2 is %+v, %v", status, err)
			}
			before := [shardsTested]int{s.term(0), s.term(1), s.term(2)}
			stop := s.load(300)
			random := rand.New(rand.NewPCG(1, 1))
			for range 3 {
				all[1].dieAfter(time.Duration(random.Int64N(int64(longestLife))))
				all[1].start()
			}
			stop()
			s.wantAll()
			if s.term(0) != before[0] || s.term(2) != before[2] {
				t.Errorf("the shards that were not killed began new sessions: terms %d and %d, before %d and %d", s.term(0), s.term(2), before[0], before[2])
			}
			for _, c := range all {
				c.stop()
			}
			s.wantBothSidesUsed()
		})
	}
}

// wantBothSidesUsed makes sure that the test was none of one shard alone.
func (s *sharded) wantBothSidesUsed() {
	s.Helper()
	columns := shard.Columns{ID: "id", TenantID: "tenant_id", AggregateType: "aggregate_type", AggregateID: "aggregate_id"}
	for number := range shardsTested {
		if n := s.count(`SELECT count(*) FROM ` + s.of(number).Name("outboxd") + `.parked`); n != 0 {
			s.Errorf("shard %d keeps %d parked rows", number, n)
		}
		rows, err := s.of(number).Rows(columns, "")
		if err != nil {
			s.Fatal(err)
		}
		if n := s.count(`SELECT count(*) FROM outbox WHERE ` + rows); n == 0 {
			s.Errorf("no row is of shard %d", number)
		}
	}
}

// One process has all shards, with metrics and a status of each. When it dies, another that stands by has them all.
func TestOneProcessHasAllShardsAndAnotherTakesThemOver(t *testing.T) {
	t.Parallel()
	addr := testenv.FreeAddress(t)
	s := newSharded(t, "tenant", "OUTBOXD_HTTP_ADDR="+addr)
	first, second := s.child(), s.child("OUTBOXD_HTTP_ADDR=")
	first.start()
	defer first.kill()
	eventually(t, "all shards stream", func() bool { return s.streaming(0) && s.streaming(1) && s.streaming(2) })
	second.start()
	defer second.kill()
	stop := s.load(300)
	s.wantStatusOfAll("http://" + addr)
	eventually(t, "the second stands by for all", func() bool {
		return s.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == shardsTested
	})
	before := s.term(0)
	first.dieAfter(0)
	eventually(t, "the second has taken over", func() bool { return s.term(0) > before && s.streaming(0) && s.streaming(1) && s.streaming(2) })
	stop()
	s.wantAll()
	second.stop()
}

func (s *sharded) wantStatusOfAll(base string) {
	s.Helper()
	var status shardsReport
	eventually(s.T, "all shards are ready", func() bool {
		return json.Unmarshal([]byte(get(s.T, base+"/status")), &status) == nil && status.Ready
	})
	if len(status.Shards) != shardsTested || status.Shards[2].Shard != 2 || !status.Shards[2].Ready {
		s.Errorf("the status is %+v", status)
	}
	if got := get(s.T, base+"/readyz"); got != "active\n" {
		s.Errorf("/readyz answers %q", got)
	}
	metrics := get(s.T, base+"/metrics")
	for number := range shardsTested {
		if want := fmt.Sprintf(`outboxd_ready{shard="%d"} 1`, number); !strings.Contains(metrics, want) {
			s.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestTheLeastRoleRunsShardsOfATableWhoseNamesNeedQuotes(t *testing.T) {
	t.Parallel()
	if testenv.Postgres(t).Major < 15 {
		return // no row filters there
	}
	o := newOddOperator(t, "OUTBOXD_SHARDS_COUNT=2", "OUTBOXD_SHARDS_BY=key", `OUTBOXD_DATABASE_DEFAULT_TENANT=o'n\e`)
	o.environ = append(o.environ, "OUTBOXD_ROUTES=[{to: [{sink: redis, destination: '"+o.prefix+":{shard}'}]}]")
	o.insertOddly("old", 20, 1)
	o.launch()
	eventually(t, "older rows are delivered", func() bool { return o.oddStatus("old", "SENT") == 20 })
	o.insertOddly("acme", 20, 1)
	eventually(t, "fresh rows are delivered", func() bool { return o.oddStatus("acme", "SENT") == 20 })
	both := append(o.stream("0"), o.stream("1")...)
	if slices.Sort(both); len(both) != 40 || len(slices.Compact(both)) != 40 || len(o.stream("0")) == 0 || len(o.stream("1")) == 0 {
		t.Errorf("shards 0 and 1 delivered %d and %d events", len(o.stream("0")), len(o.stream("1")))
	}
	o.want("doctor", "0 errors, ", "shard 1: publication", "publishes the rows of the shard alone")
	if _, said := o.run(exitUsage, "events", "list"); !strings.Contains(said, "looks at one shard at a time: name it with --set shards.number=K, 0 to 1") {
		t.Errorf("events list says %s", said)
	}
	o.want("events replay --tenant acme --yes --set shards.number=0", "parked for replay: ")
	eventually(t, "those of the shard are delivered again", func() bool { return replays(o.stream("0")) > 0 && o.count(parkedOddly(0)) == 0 })
	if again := replays(o.stream("0")); again >= 20 || replays(o.stream("1")) != 0 {
		t.Errorf("shard 0 delivered %d again, shard 1 %d", again, replays(o.stream("1")))
	}
	_, said := o.run(exitFailure, append([]string{"events", "replay", "--yes", "--set", "shards.number=1"}, strings.TrimSuffix(o.stream("0")[0], "+"))...)
	if !strings.Contains(said, "is in shard 1 of the outbox table, so nothing was replayed") {
		t.Errorf("a replay of another shard's event says %s", said)
	}
	o.exec(oddly(`UPDATE {outbox} SET {created_at} = now() - interval '30 days'`))
	o.want("cleanup --yes --set shards.number=0", "deleted ")
	if left := o.oddStatus("acme", "SENT") + o.oddStatus("old", "SENT"); left != len(o.stream("1")) {
		t.Errorf("a cleanup of shard 0 left %d rows, and %d are of shard 1", left, len(o.stream("1")))
	}
	o.stop()
	o.want("slot drop --yes", "shard 0 of 2", "shard 1 of 2", "dropped slot")
}

func parkedOddly(number int) string {
	return `SELECT count(*) FROM ` + quoted(fmt.Sprintf("%s_2k_%d", oddOwn, number), "parked")
}

// replays is how many entries of a stream are replays.
func replays(ids []string) (n int) {
	for _, id := range ids {
		if strings.HasSuffix(id, "+") {
			n++
		}
	}
	return n
}

// What would deliver rows twice, or not at all, ends outboxd at once, with the mend.
func TestRunRefusesAnotherLayoutAndAnotherFilter(t *testing.T) {
	t.Parallel()
	s := newSharded(t, "tenant")
	c := s.child()
	c.start()
	defer c.kill()
	eventually(t, "all shards stream", func() bool { return s.streaming(0) && s.streaming(1) && s.streaming(2) })
	for _, other := range []struct{ settings, want string }{
		{"OUTBOXD_SHARDS_COUNT=1", "of another layout of this table (shards.count: 3, shards.by: tenant), whose instances deliver the same rows"},
		{"OUTBOXD_SHARDS_BY=key", "of another layout of this table (shards.count: 3, shards.by: tenant), whose instances deliver the same rows"},
		{"OUTBOXD_SHARDS_COUNT=2", "of another layout of this table (shards.count: 3, shards.by: tenant), whose instances deliver the same rows"},
	} {
		refused := s.child(other.settings, "OUTBOXD_ROUTES=[{to: [{sink: redis, destination: '"+s.slot+":{tenant}:{shard}'}]}]")
		refused.run("migrate", "up")
		s.wantRefused(refused, other.want)
	}
	c.stop()
	s.wantRefused(s.child("OUTBOXD_DATABASE_DEFAULT_TENANT=acme"), "publishes other rows than those of this shard")
}

func (s *sharded) wantRefused(c *child, want string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), killPatience)
	defer cancel()
	run := exec.CommandContext(ctx, c.path, "run")
	run.Env = c.environ
	said, err := run.CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(said), want) {
		s.Errorf("outboxd run ends with %v, want one that says %q:\n%s", err, want, said)
	}
	if strings.Contains(string(said), relay.ErrLogLost.Error()) {
		s.Errorf("outboxd run, of a layout that was left, speaks of a lost slot:\n%s", said)
	}
}

// The steps of docs/scaling.md: from one instance to three shards, and from three to two.
func TestTableIsSplitAnewWhileItsWritersPause(t *testing.T) {
	t.Parallel()
	for onSent, counts := range map[string][]int{"mark": {1, 3}, "keep": {3, 2}} {
		t.Run(onSent, func(t *testing.T) {
			t.Parallel()
			s := newSharded(t, "tenant", "OUTBOXD_ON_SENT="+onSent)
			for n, count := range counts {
				c := s.child(fmt.Sprintf("OUTBOXD_SHARDS_COUNT=%d", count))
				c.run("migrate", "up")
				args := []string{"run"}
				if onSent == "keep" && n > 0 {
					args = append(args, "--skip-backlog")
				}
				c.begin(args...)
				defer c.kill()
				eventually(t, "all shards stream", func() bool { return s.allStream(count) })
				s.load(200)()
				if report := waitForAll(t, s.producer, s.reader); !report.OK() {
					t.Fatalf("%d shards: events were lost, doubled or out of order: %s", count, report.String())
				}
				c.stop()
				if !strings.Contains(c.log.String(), "stopped; everything received is delivered or parked, and confirmed") {
					t.Errorf("%d shards did not stop in order", count)
				}
				c.run("slot", "drop", "--yes")
				c.run("migrate", "down", "--yes")
			}
		})
	}
}
