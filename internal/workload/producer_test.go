package workload_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// setup returns a database with an outbox table and a Producer that is ready to run.
func setup(t *testing.T, database string, cfg workload.Config) *workload.Producer {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is open on it
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	if cfg.URL == "" {
		cfg.URL = database
	}
	p, err := workload.NewProducer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// runUntil runs the Producer until enough says so, and resolves.
func runUntil(t *testing.T, p *workload.Producer, enough func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.Run(running) }()
	for !enough() {
		select {
		case err := <-done:
			t.Fatalf("the producer ended: %v", err)
		case <-ctx.Done():
			t.Fatal("the producer has not written enough")
		case <-time.After(time.Millisecond):
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := p.Resolve(ctx); err != nil {
		t.Fatal(err)
	}
}

// relay carries the rows of the outbox table to Redis as outboxd would, in an order that keeps each key's.
func relay(t *testing.T, database, prefix string, client *redis.Client) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it only read
	rows, err := conn.Query(t.Context(), `SELECT id::text, tenant_id, topic, coalesce(aggregate_type, ''), coalesce(aggregate_id, ''), payload::text
		FROM outbox ORDER BY tenant_id, aggregate_id, (payload->>'seq')::bigint`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names := []string{"id", "tenant_id", "topic", "aggregate_type", "aggregate_id", "payload"}
	for rows.Next() {
		v := make([]string, len(names))
		if err := rows.Scan(&v[0], &v[1], &v[2], &v[3], &v[4], &v[5]); err != nil {
			t.Fatal(err)
		}
		var values []string
		for i, name := range names {
			values = append(values, name, v[i])
		}
		if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: prefix + v[1] + ":" + v[2], Values: values}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// audit compares the ledger with what lies in the table, by way of Redis and its reader.
func audit(t *testing.T, database string, p *workload.Producer) workload.Report {
	t.Helper()
	reader, client, prefix := redisReader(t)
	relay(t, database, prefix, client)
	c := workload.NewChecker(p.Ledger())
	c.Destination = func(tenant, topic string) string { return prefix + tenant + ":" + topic }
	if err := reader.ReadAll(t.Context(), func(r workload.Received) { c.Add(r) }); err != nil {
		t.Fatal(err)
	}
	return c.Report()
}

func redisReader(t *testing.T) (*workload.RedisReader, *redis.Client, string) {
	t.Helper()
	server := testenv.Redis(t)
	options, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	prefix := fmt.Sprintf("%s[*]?:%d:", t.Name(), time.Now().UnixNano())
	reader, err := workload.NewRedisReader(server.URL, prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := reader.Delete(context.Background()); err != nil {
			t.Error(err)
		}
		_ = reader.Close()
		_ = client.Close()
	})
	return reader, client, prefix
}

func TestLedgerAgreesWithTheDatabase(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	database := testenv.Postgres(t).Database(t)
	p := setup(t, database, workload.Config{Rollbacks: 0.2, Savepoints: 0.2, Keyless: 0.1, Keys: 5})
	runUntil(t, p, func() bool { return p.Totals().Committed > 2000 })
	r := audit(t, database, p)
	if !r.OK() {
		t.Error(r.String())
	}
	totals := p.Totals()
	if int(totals.Committed) != r.Committed || int(totals.RolledBack) != r.RolledBack || r.RolledBack == 0 {
		t.Errorf("counts %+v, report %s", totals, r.String())
	}
}

func TestOrdersAndEventsCommitTogether(t *testing.T) {
	database := testenv.Postgres(t).Database(t)
	p := setup(t, database, workload.Config{Rollbacks: 0.3, Savepoints: 0.3})
	runUntil(t, p, func() bool { return p.Totals().Committed > 500 })
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it only read
	var orders, different int
	err = conn.QueryRow(t.Context(), `
		SELECT count(*), count(*) FILTER (WHERE 'order.' || o.state IS DISTINCT FROM e.topic OR o.cents IS DISTINCT FROM e.cents)
		FROM orders o FULL JOIN (
			SELECT DISTINCT ON (tenant_id, aggregate_id) tenant_id, aggregate_id, topic, (payload->>'cents')::bigint AS cents
			FROM outbox WHERE aggregate_id IS NOT NULL ORDER BY tenant_id, aggregate_id, (payload->>'seq')::bigint DESC
		) e ON e.tenant_id = o.tenant_id AND e.aggregate_id = o.id`).Scan(&orders, &different)
	if err != nil || orders == 0 || different != 0 {
		t.Errorf("%d of %d orders differ from their last event: %v", different, orders, err)
	}
}

func TestRateIsKept(t *testing.T) {
	database := testenv.Postgres(t).Database(t)
	p := setup(t, database, workload.Config{Rate: 400, Rollbacks: -1, Savepoints: -1})
	began := time.Now()
	runUntil(t, p, func() bool { return p.Totals().Committed >= 400 })
	if took := time.Since(began); took < 700*time.Millisecond || took > 30*time.Second {
		t.Errorf("400 events at 400/s took %s", took)
	}
}

// cutter passes connections on to the server and cuts some of them right behind a COMMIT.
type cutter struct {
	t      *testing.T
	target string
	seen   atomic.Int64
}

func (c *cutter) listen(database string) string {
	c.t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		c.t.Fatal(err)
	}
	c.target = u.Host
	listener, err := new(net.ListenConfig).Listen(c.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.pass(conn)
		}
	}()
	u.Host = listener.Addr().String()
	return u.String()
}

func (c *cutter) pass(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		defer near.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			if _, err := near.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := near.Read(buf)
		if err != nil {
			return
		}
		message := buf[:n]
		cut := isCommit(message)
		if cut {
			// Every fourth is cut before the server has it, every fourth after.
			turn := c.seen.Add(1) % 4
			if turn == 0 {
				return
			}
			cut = turn == 2
		}
		if _, err := far.Write(message); err != nil || cut {
			return
		}
	}
}

// isCommit tells whether all that is sent is the simple query COMMIT.
func isCommit(b []byte) bool { return len(b) > 5 && b[0] == 'Q' && string(b[5:]) == "COMMIT\x00" }

func TestCutCommitsAreResolved(t *testing.T) {
	database := testenv.Postgres(t).Database(t)
	c := &cutter{t: t}
	p := setup(t, database, workload.Config{URL: c.listen(database), Keys: 3, Rollbacks: 0.1})
	runUntil(t, p, func() bool { return p.CutCommits() > 40 && p.Totals().Committed > 100 })
	r := audit(t, database, p)
	if !r.OK() {
		t.Error(r.String())
	}
	t.Logf("%d transactions, %d of unknown outcome: %s", p.Transactions(), p.CutCommits(), r.String())
}

func TestKilledPostgresLeavesTheLedgerRight(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	database := server.Database(t)
	p := setup(t, database, workload.Config{Keys: 3})
	for range 3 {
		before := p.Totals().Committed
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		await(t, func() bool { return p.Totals().Committed > before+300 })
		server.Kill()
		interruptions := p.Interruptions()
		await(t, func() bool { return p.Interruptions() > interruptions })
		server.Start()
		after := p.Totals().Committed
		await(t, func() bool { return p.Totals().Committed > after+300 })
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := audit(t, database, p)
	if !r.OK() {
		t.Error(r.String())
	}
	t.Logf("%d interruptions, %d commits cut: %s", p.Interruptions(), p.CutCommits(), r.String())
}

func TestMissingTableEndsTheProducer(t *testing.T) {
	p, err := workload.NewProducer(workload.Config{URL: testenv.Postgres(t).Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err == nil {
		t.Error("a producer without an outbox table goes on")
	}
}

func await(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("waited for a minute")
		}
		<-time.After(2 * time.Millisecond)
	}
}
