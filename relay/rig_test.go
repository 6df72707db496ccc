package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/decode"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/format"
	"github.com/outboxd/outboxd/sink/redis"
	"github.com/outboxd/outboxd/wal"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const patience = 60 * time.Second

// rig is a database with an outbox, a Redis, and relays between them.
type rig struct {
	t        *testing.T
	url      string
	conn     *pgx.Conn
	redis    *goredis.Client
	cfg      relay.Config
	prefix   string // of the streams
	redisURL string
	inserted string // where the log is confirmed to, at least, when it is confirmed past the last insert
}

// newRig makes a rig on the shared servers, or on the given ones.
func newRig(t *testing.T, databaseURL, redisURL string) *rig {
	t.Helper()
	r := &rig{t: t, url: databaseURL, redisURL: redisURL, prefix: fmt.Sprintf("%s:%d", t.Name(), time.Now().UnixNano())}
	if r.url == "" {
		r.url = testenv.Postgres(t).Database(t)
	}
	if redisURL == "" {
		redisURL = testenv.Redis(t).URL
		r.redisURL = redisURL
	}
	r.conn = r.connect()
	if _, err := migrations.Up(t.Context(), r.connect(), migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	options, err := goredis.ParseURL(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	options.ReadTimeout = patience // a busy machine is no failure
	r.redis = goredis.NewClient(options)
	t.Cleanup(func() { _ = r.redis.Close() })
	r.cfg = r.config(redisURL)
	r.record()
	return r
}

// record makes the slot and its record, as a first session would have.
func (r *rig) record() {
	r.t.Helper()
	server, err := wal.Setup(r.t.Context(), r.conn, r.cfg.WAL)
	if err != nil {
		r.t.Fatal(err)
	}
	lease, err := park.Raise(r.t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, "test")
	if err != nil {
		r.t.Fatal(err)
	}
	first := checkpoint.Record{SystemID: server.SystemID, Timeline: server.Timeline, Confirmed: server.Slot.ConfirmedFlush}
	if _, err := checkpoint.NewEpoch(r.t.Context(), r.conn, lease, first, time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

// unrecord lets the next session be the first.
func (r *rig) unrecord() {
	r.t.Helper()
	r.dropSlot()
	r.exec(`DELETE FROM outboxd.checkpoint`)
}

// dropSlot drops the slot when nobody has it: a session that was cut off may have it for a while.
func (r *rig) dropSlot() {
	r.t.Helper()
	r.eventually("nobody has the slot", func() bool {
		return r.count(`SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active`, r.cfg.WAL.Slot) == 0
	})
	r.exec(`SELECT pg_drop_replication_slot($1)`, r.cfg.WAL.Slot)
}

func (r *rig) connect() *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (r *rig) config(redisURL string) relay.Config {
	r.t.Helper()
	broker, err := redis.New(redis.Config{URL: redisURL})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := broker.Close(context.Background()); err != nil {
			r.t.Errorf("close the sink: %v", err)
		}
	})
	columns := decode.DefaultColumns()
	return relay.Config{
		WAL: wal.Config{
			URL: r.url, Schema: "public", Table: "outbox", Columns: columns.Names(), Slot: slotName(r.t), Publication: "outboxd",
			Create: true, StatusInterval: 500 * time.Millisecond,
		},
		Schema: "outboxd", Outbox: outbox.Config{}.WithDefaults(), Columns: columns, Holder: r.t.Name(),
		Router: r.router("{tenant}:{topic}"), Sinks: map[string]sink.Sink{"redis": broker},
		NewEncoder:    func() *format.Encoder { return mustEncoder(r.t) },
		BatchMessages: 500, BatchBytes: 1 << 20, Concurrency: 4, PublishTimeout: 10 * time.Second,
		Table: relay.TableConfig{
			BatchSize: 200, MaxConcurrent: 3, MaxAttempts: 1000, BackoffBase: 50 * time.Millisecond, Multiplier: 2, MaxExponent: 3,
			Sweep: 200 * time.Millisecond, FullSweep: 200 * time.Millisecond,
		},
		MaxRetainedWAL: 1 << 40,
		RetryBase:      20 * time.Millisecond, RetryMax: 200 * time.Millisecond, MemoryBudget: 8 << 20,
		StatusInterval: 500 * time.Millisecond, CheckpointInterval: 100 * time.Millisecond, ShutdownTimeout: 10 * time.Second,
		Log: zerolog.New(zerolog.NewTestWriter(r.t)), Registry: prometheus.NewRegistry(),
	}
}

func mustEncoder(t *testing.T) *format.Encoder {
	e, err := format.New("raw", format.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// slotName is one of the test's own: slots are shared by all databases of a server.
func slotName(t *testing.T) string {
	return fmt.Sprintf("s%d", time.Now().UnixNano())
}

// router sends everything to streams of the rig.
func (r *rig) router(destination string) *route.Router {
	r.t.Helper()
	return r.routes(route.Rule{To: []route.Target{{Sink: "redis", Destination: r.prefix + ":" + destination}}})
}

func (r *rig) routes(rules ...route.Rule) *route.Router {
	r.t.Helper()
	router, err := route.New(rules, map[string]route.Kind{"redis": route.Redis}, route.Shard{})
	if err != nil {
		r.t.Fatal(err)
	}
	return router
}

// running is a relay that runs.
type running struct {
	*relay.Relay
	done   chan struct{}
	err    error
	cancel context.CancelCauseFunc

	registry *prometheus.Registry
}

// start runs a relay until the test ends.
func (r *rig) start(change func(*relay.Config)) *running {
	r.t.Helper()
	cfg := r.cfg
	registry := prometheus.NewRegistry()
	cfg.Registry = registry
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	run := &running{Relay: relay.New(cfg), done: make(chan struct{}), cancel: cancel, registry: registry}
	go func() {
		defer close(run.done)
		run.err = run.Run(ctx)
	}()
	r.t.Cleanup(run.crash)
	return run
}

var errCrash = errors.New("crash")

// crash cuts everything off, as far as that is possible inside a process.
func (run *running) crash() {
	run.cancel(errCrash)
	<-run.done
}

// ended tells whether Run has returned.
func (run *running) ended() bool {
	select {
	case <-run.done:
		return true
	default:
		return false
	}
}

// stop drains and returns what Run returned.
func (run *running) stop() error {
	run.Stop()
	<-run.done
	return run.err
}

func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	if _, err := r.conn.Exec(r.t.Context(), sql, args...); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// insert commits n events of a tenant in one transaction, with seq from first on, for k keys in turn.
func (r *rig) insert(tenant string, first, n, keys int) {
	r.t.Helper()
	var end string
	b := &pgx.Batch{} // so that next to nothing comes between the end that is read and the commit
	b.Queue(`BEGIN`)
	b.Queue(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
		SELECT $1, 'order', (i % $4)::text, 'orders', now(), jsonb_build_object('seq', i)
		FROM generate_series($2::int, $2::int + $3::int - 1) i`, tenant, first, n, keys)
	// Behind the commit it may be that of what outboxd has written meanwhile, which an idle one does not confirm.
	b.Queue(`SELECT pg_current_wal_insert_lsn()::text`).QueryRow(func(row pgx.Row) error { return row.Scan(&end) })
	b.Queue(`COMMIT`)
	if err := r.conn.SendBatch(r.t.Context(), b).Close(); err != nil {
		r.t.Fatalf("insert: %v", err)
	}
	lsn, err := event.ParseLSN(end)
	if err != nil {
		r.t.Fatal(err)
	}
	r.inserted = (lsn + 1).String()
}

func (r *rig) count(sql string, args ...any) (n int) {
	r.t.Helper()
	if err := r.conn.QueryRow(r.t.Context(), sql, args...).Scan(&n); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// eventually waits for a condition.
func (r *rig) eventually(what string, condition func() bool) {
	r.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func (r *rig) stream(name string) string { return r.prefix + ":" + name }

func (r *rig) length(name string) int64 {
	r.t.Helper()
	n, err := r.redis.XLen(r.t.Context(), r.stream(name)).Result()
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// lines is a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write keeps the line.
func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// count is how often the text was logged.
func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.text.Bytes(), []byte(text))
}
