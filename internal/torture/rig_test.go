package torture

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/shard"
)

const (
	slot   = "torture"
	secret = "hunter2" // a password of the database, which asks for none; no log may show it
)

// rig is everything that one run is made of.
type rig struct {
	t         *testing.T
	o         options
	dir       string
	timeline  *timeline
	postgres  *testenv.PostgresServer
	standby   *standby // nil where no fault needs one
	database  string   // URL for the application, which no fault of a connection befalls
	broker    *broker
	network   *network
	instances []*instance
	authority string // file with PostgreSQL's certificate authority
	producer  *workload.Producer
	meter     *meter
}

// newRig starts the servers, the proxies and two instances, with more settings of an instance where there are any. The test's end takes all of it away.
func newRig(t *testing.T, o options, more ...func(number int) []string) *rig {
	if o.shards < 1 || o.tenants < 1 {
		t.Fatalf("SHARDS=%d TENANTS=%d: choose 1 or more", o.shards, o.tenants)
	}
	r := &rig{t: t, o: o, dir: o.dir, network: newNetwork()}
	r.must(r.folder())
	r.timeline = newTimeline(t.Output())
	r.postgres = testenv.NewPostgres(t, testenv.PostgresOptions{TLS: true, Disk: sizeOf(o.disk), Clock: o.clock, Settings: []string{
		"wal_sender_timeout = 4s", // shorter than what is frozen and held half-open
		"deadlock_timeout = 200ms",
	}})
	t.Cleanup(r.network.close)
	r.reach(r.postgres.Database(t))
	r.broker = newBroker(t, o.sink, o.brokerDisk)
	r.migrate()
	r.application()
	program := r.build()
	for number := range 2 {
		r.add(number, program, more)
	}
	r.awaitActive()
	return r
}

// reach makes the address of the database for the application, and keeps the authority that instances know PostgreSQL by: both outlast the server.
func (r *rig) reach(database string) {
	address, err := url.Parse(database)
	r.must(err)
	server := address.Host
	address.Host = testenv.FreeAddress(r.t)
	r.database = address.String()
	r.must(r.network.add(applicationProxy, address.Host, server))
	authority, err := os.ReadFile(r.postgres.Certificates.CA)
	r.must(err)
	r.authority = filepath.Join(r.t.TempDir(), "postgres-ca.pem")
	r.must(os.WriteFile(r.authority, authority, 0o600))
}

// keepStandby has a standby made, and another one when it was promoted, where a fault needs it.
func (r *rig) keepStandby(chosen []fault) {
	if !slices.ContainsFunc(chosen, func(f fault) bool { return f.standby }) {
		return
	}
	r.standby = &standby{ready: make(chan *testenv.PostgresServer, 1), tell: func(format string, args ...any) { r.timeline.add("note", format, args...) }}
	r.standby.begin(r.postgres, nil)
	r.t.Cleanup(func() { r.must(errors.Join(r.standby.end(), r.postgres.Close(context.Background()))) })
}

// folder makes the folder for reports and logs. One that nobody named is removed unless the test fails.
func (r *rig) folder() (err error) {
	if r.dir != "" {
		return os.MkdirAll(r.dir, 0o755)
	}
	r.dir, err = os.MkdirTemp("", "outboxd-torture-")
	r.t.Cleanup(func() {
		if r.t.Failed() {
			r.t.Logf("the instances' logs are kept in %s", r.dir)
		} else if err := os.RemoveAll(r.dir); err != nil {
			r.t.Error(err)
		}
	})
	return err
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// build compiles outboxd as it is in this tree, so that a patched copy of the tree tortures the patched program. It is compiled as the tests are,
// so that their cache holds most of it.
func (r *rig) build() string {
	program := filepath.Join(r.t.TempDir(), "outboxd")
	args := slices.Concat([]string{"build", "-buildvcs=false", "-pgo=off"}, buildFlags, []string{"-o", program, "github.com/outboxd/outboxd/cmd/outboxd"})
	answer, err := exec.CommandContext(r.t.Context(), "go", args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("build outboxd: %v\n%s", err, answer)
	}
	return program
}

func (r *rig) migrate() {
	r.must(r.query(func(ctx context.Context, conn *pgx.Conn) error {
		for _, schema := range r.names("outboxd") {
			if _, err := migrations.Up(ctx, conn, migrations.Options{Schema: schema}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// application prepares what writes. It does not begin yet.
func (r *rig) application() {
	var err error
	r.producer, err = workload.NewProducer(workload.Config{
		URL: r.database, Rate: r.o.rate, Random: r.o.seed + 1, Keys: 20, Rollbacks: 0.1, Savepoints: 0.1, Tenants: workload.Tenants(r.o.tenants),
	})
	r.must(err)
	r.must(r.producer.Setup(r.t.Context()))
	r.meter = newMeter(r.producer.Ledger())
}

// add starts one instance with its proxies.
func (r *rig) add(number int, program string, more []func(number int) []string) {
	address, err := url.Parse(r.postgres.URL)
	r.must(err)
	database, err := url.Parse(r.database)
	r.must(err)
	database.Host, database.User = testenv.FreeAddress(r.t), url.UserPassword(database.User.Username(), secret)
	// TLS notices what corrupts a connection.
	database.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {r.authority}}.Encode()
	r.must(r.network.open(number, legPostgres, database.Host, address.Host))
	broker := r.broker.proxies[number]
	r.must(r.network.open(number, legBroker, broker, r.broker.upstreams[number]))
	name := fmt.Sprintf("outboxd-%d", number+1)
	log, err := os.OpenFile(filepath.Join(r.dir, name+".log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	r.must(err)
	i := &instance{
		name: name, number: number, program: program, log: log,
		tell:    func(format string, args ...any) { r.timeline.add("note", format, args...) },
		environ: append(append(settings(name, database.String()), fmt.Sprintf("OUTBOXD_SHARDS_COUNT=%d", r.o.shards)), r.broker.settings(broker)...),
	}
	for _, settings := range more {
		i.environ = append(i.environ, settings(number)...)
	}
	i.begin()
	r.t.Cleanup(func() {
		if err := errors.Join(i.stop(), log.Close()); err != nil {
			r.t.Error(err)
		}
	})
	r.instances = append(r.instances, i)
}

// settings are an instance's, with waits short enough for a storm.
func settings(name, database string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.Getenv("TMPDIR"),
		"DATABASE_URL=" + database,
		"OUTBOXD_DATABASE_APPLICATION_NAME=" + name, "OUTBOXD_DATABASE_SLOT=" + slot,
		"OUTBOXD_DATABASE_CONNECT_TIMEOUT=2s", "OUTBOXD_DATABASE_STATEMENT_TIMEOUT=5s", "OUTBOXD_DATABASE_KEEPALIVE=2s",
		"OUTBOXD_STATUS_INTERVAL=500ms", "OUTBOXD_CHECKPOINT_INTERVAL=200ms", "OUTBOXD_SHUTDOWN_TIMEOUT=3s",
		"OUTBOXD_POLL_SWEEP=2s", "OUTBOXD_POLL_BACKOFF_BASE=200ms", "OUTBOXD_POLL_BACKOFF_MAX_EXPONENT=3", "OUTBOXD_POLL_MAX_ATTEMPTS=1000",
		"OUTBOXD_RETRY_BASE=50ms", "OUTBOXD_RETRY_MAX=1s", "OUTBOXD_OUTAGE_MAX_RETAINED_WAL=16MiB", "OUTBOXD_MEMORY_BUDGET=4MiB",
		"OUTBOXD_CLEANUP_SCHEDULE=", "OUTBOXD_MONITOR_INTERVAL=0s", "OUTBOXD_HTTP_ADDR=", "OUTBOXD_LOG_FORMAT=json",
	}
}

// query does something with a connection of its own, past the instances' proxies.
func (r *rig) query(do func(ctx context.Context, conn *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, r.database)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return errors.Join(do(ctx, conn), conn.Close(ctx))
}

// exec runs a statement and returns how many rows it concerned.
func (r *rig) exec(sql string, args ...any) (rows int64, err error) {
	err = r.query(func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, sql, args...)
		rows = tag.RowsAffected()
		return err
	})
	return rows, err
}

// names are what the shards call their own that is called base where the table is not split.
func (r *rig) names(base string) []string {
	var all []string
	for number := range r.o.shards {
		all = append(all, shard.Shard{Count: r.o.shards, Number: number, By: shard.Tenant}.Name(base))
	}
	return all
}

// streaming tells whether every slot is read.
func (r *rig) streaming() bool {
	read := 0
	err := r.query(func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT count(*) FROM pg_replication_slots WHERE slot_name = ANY ($1) AND active`, r.names(slot)).Scan(&read)
	})
	return err == nil && read == r.o.shards
}

// active is the number of an instance whose walsender streams, or -1. Of several shards both instances may have some: it is the first then.
func (r *rig) active() int {
	number := -1
	err := r.query(func(ctx context.Context, conn *pgx.Conn) error {
		const sql = `SELECT coalesce(min(substr(a.application_name, 9)::int), 0) - 1 FROM pg_replication_slots s
			JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = ANY ($1) AND a.application_name LIKE 'outboxd-_'`
		return conn.QueryRow(ctx, sql, r.names(slot)).Scan(&number)
	})
	if err != nil {
		return -1 // PostgreSQL is down: nobody is
	}
	return number
}

// awaitActive waits until an instance streams for the first time.
func (r *rig) awaitActive() {
	r.t.Helper()
	if !until(time.Minute, func() bool { return r.active() >= 0 }) {
		r.t.Fatal("no instance streams after a minute")
	}
}

// until waits for a condition, and tells whether it came true in time.
func until(limit time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

// meter counts what arrives while the storm runs. Its findings are a first sign; the verdict reads everything again.
type meter struct {
	mu      sync.Mutex
	checker *workload.Checker
	arrived int64
}

func newMeter(l *workload.Ledger) *meter { return &meter{checker: workload.NewChecker(l)} }

func (m *meter) add(r workload.Received) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.checker.Add(r) {
		m.arrived++
	}
}

func (m *meter) read() (arrived int64, findings int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	doubled, outOfOrder, wrong := m.checker.Findings()
	return m.arrived, doubled + outOfOrder + wrong
}
