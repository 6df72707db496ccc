package outbox_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
)

// passed is a position that the checkpoint has passed unless a test says otherwise.
var passed = event.Position{Epoch: 5, Commit: 0x1000}

// lane is a table of events with short ids, and what is parked of them.
type lane struct {
	*fixture
	table *outbox.Table
	kind  string // of the id
}

// idKinds are the types of ids in use.
var idKinds = []string{"bigint", "uuid", "varchar(40)", "char(40)"}

func setupLane(t *testing.T, config outbox.Config) *lane { return setupLaneOf(t, "bigint", config) }

func setupLaneOf(t *testing.T, kind string, config outbox.Config) *lane {
	t.Helper()
	return setupLaneOn(t, testenv.Postgres(t), kind, config)
}

func setupLaneOn(t *testing.T, server *testenv.PostgresServer, kind string, config outbox.Config) *lane {
	t.Helper()
	l := &lane{fixture: setupOn(t, server, migrations.Options{}), kind: kind}
	l.createTable("")
	config.Table = "t"
	l.table = l.describe(config)
	return l
}

// createTable makes the table t; rest is what follows its columns in parentheses that it closes, with a primary key of its own.
func (l *lane) createTable(rest string) {
	key := "PRIMARY KEY"
	if rest != "" {
		key = "NOT NULL"
	}
	l.exec(`CREATE TABLE t (id ` + l.kind + ` ` + key + `, tenant_id text NOT NULL DEFAULT 'acme', aggregate_id text DEFAULT '7', aggregate_type text DEFAULT 'order',
		topic text NOT NULL DEFAULT 'order.created', occurred_at timestamptz DEFAULT '2026-01-02 03:04:05.6+00', schema_id text, schema_version int DEFAULT 1,
		payload jsonb NOT NULL DEFAULT '{"a": 1}', event_metadata jsonb, status varchar(10) DEFAULT 'NEW', retry_count int DEFAULT 0, retry_after timestamptz,
		error_message varchar(20), created_at timestamptz DEFAULT now()` + rest + `)`)
}

// id is the text form of the n-th id, as the log carries it.
func (l *lane) id(n int) string {
	switch l.kind {
	case "uuid":
		return fmt.Sprintf("00000000-0000-0000-0000-%012d", n)
	case "char(40)":
		return fmt.Sprintf("%-40s", fmt.Sprintf("%d", n))
	}
	return fmt.Sprint(n)
}

// row puts a row of that status into the outbox.
func (l *lane) row(n int, status string) {
	l.Helper()
	l.exec(`INSERT INTO t (id, status) VALUES ($1::text::`+l.kind+`, $2)`, l.id(n), status)
}

// at is where and how an event is parked.
type at struct {
	destination string
	state       string
	replay      int
	attempts    int
	position    event.Position // zero: one that is passed
	reason      string
}

func (l *lane) park(n int, rows ...at) {
	l.Helper()
	for _, a := range rows {
		if a.position.IsZero() && a.replay == 0 {
			a.position = event.Position{Epoch: 5, Commit: 0x10}
		}
		l.exec(`INSERT INTO outboxd.parked (slot, id, replay, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, attempts, due_at, reason, bytes, tenant_id, topic)
			VALUES ('slot', $1, $2, 'sink', $3, $3, $4, $5, $6::text::pg_lsn, 1, 1, $7, '2030-01-01 00:00:00+00', $8, 1, 'acme', 'order.created')`,
			l.id(n), a.replay, a.destination, a.state, int64(a.position.Epoch), a.position.Commit.String(), a.attempts, a.reason)
	}
}

func (l *lane) refs(ns ...int) []event.Ref {
	refs := make([]event.Ref, len(ns))
	for i, n := range ns {
		refs[i] = event.Ref{ID: l.id(n)}
	}
	return refs
}

func (l *lane) deliver(destination string, refs ...event.Ref) {
	l.Helper()
	if err := l.table.Deliver(l.Context(), l.conn, l.lease, "sink", destination, passed, refs); err != nil {
		l.Fatal(err)
	}
}

func (l *lane) finish(limit int) (finished int, more bool) {
	l.Helper()
	finished, more, _, err := l.table.Finish(l.Context(), l.conn, l.lease, passed, limit)
	if err != nil {
		l.Fatal(err)
	}
	return finished, more
}

// want checks the rows of the outbox, "1=NEW", and what is parked, "1@d=waiting 1@d#4=done".
func (l *lane) want(rows, parked string) {
	l.Helper()
	var gotRows, gotParked string
	err := l.conn.QueryRow(l.Context(), `SELECT
		(SELECT coalesce(string_agg(ltrim(right(trim(id::text), 12), '0') || '=' || coalesce(status, 'null'), ' ' ORDER BY id), '') FROM t),
		(SELECT coalesce(string_agg(ltrim(right(trim(id), 12), '0') || '@' || destination || CASE WHEN replay > 0 THEN '#' || replay ELSE '' END || '=' || state,
			' ' ORDER BY id, destination, replay), '') FROM outboxd.parked)`).Scan(&gotRows, &gotParked)
	if err != nil {
		l.Fatal(err)
	}
	if gotRows != rows || gotParked != parked {
		l.Errorf("the rows are %q, want %q; parked is %q, want %q", gotRows, rows, gotParked, parked)
	}
}

// hold locks a row as an application does, until the test ends.
func (l *lane) hold(n int) {
	l.Helper()
	tx, _ := l.begin(l.connect())
	if _, err := tx.Exec(l.Context(), `SELECT 1 FROM t WHERE id = $1::text::`+l.kind+` FOR UPDATE`, l.id(n)); err != nil {
		l.Fatal(err)
	}
}

// Every write of a session whose term was raised changes nothing.
func TestLostTermChangesNothing(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	for n := 1; n <= 4; n++ {
		l.row(n, "NEW")
	}
	l.row(5, "SENT")
	l.park(1, at{destination: "d", state: "waiting", attempts: 3})
	l.park(2, at{destination: "d", state: "done"})
	l.park(5, at{destination: "d", state: "dead"})
	l.raise()
	ctx, conn, held := t.Context(), l.conn, l.lease
	for name, write := range map[string]func() error{
		"Settle":  func() error { _, _, err := l.table.Settle(ctx, conn, held, ids("4")); return err },
		"Deliver": func() error { return l.table.Deliver(ctx, conn, held, "sink", "d", passed, l.refs(1)) },
		"Finish":  func() error { _, _, _, err := l.table.Finish(ctx, conn, held, passed, 10); return err },
		"Mirror": func() error {
			_, err := l.table.Mirror(ctx, conn, held, []outbox.Mirror{{ID: "1", Status: "FAILED", RetryCount: 3}})
			return err
		},
		"RepairMirrors": func() error { _, _, err := l.table.RepairMirrors(ctx, conn, held, "", 10); return err },
		"SkipSent":      func() error { _, _, err := l.table.SkipSent(ctx, conn, held, "", 10); return err },
	} {
		if err := write(); !errors.Is(err, lease.ErrTermLost) {
			t.Errorf("%s: %v, want ErrTermLost", name, err)
		}
	}
	l.want("1=NEW 2=NEW 3=NEW 4=NEW 5=SENT", "1@d=waiting 2@d=done 5@d=dead")
}

func TestOldestAndNewestPostgres(t *testing.T) {
	for _, version := range []int{12, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			server := testenv.NewPostgres(t, testenv.PostgresOptions{Version: version})
			for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Delete, outbox.Keep} {
				l := setupLaneOn(t, server, "uuid", outbox.Config{OnSent: onSent})
				for n := 1; n <= 6; n++ {
					l.row(n, "NEW")
				}
				l.row(7, "SENT")
				l.park(1, at{destination: "d", state: "waiting"})
				l.park(2, at{destination: "d", state: "done"})
				l.park(3, at{destination: "d", state: "waiting", attempts: 1})
				l.park(7, at{destination: "d", state: "waiting"})
				l.deliver("d", l.refs(1)...)
				l.finish(10)
				l.runAll(ids(l.id(4)), nil)
				if _, err := l.table.New(t.Context(), l.conn, l.lease, 0, 10); err != nil {
					t.Error(err)
				}
				rows, _ := l.adoptAll(2)
				if want := map[outbox.OnSent]int{outbox.Mark: 3, outbox.Delete: 3, outbox.Keep: 6}[onSent]; len(rows) != want {
					t.Errorf("%s: %d rows are adopted, want %d", onSent, len(rows), want)
				}
				l.want(map[outbox.OnSent]string{
					outbox.Mark:   "1=SENT 2=SENT 3=FAILED 4=SENT 5=NEW 6=NEW 7=SENT",
					outbox.Delete: "3=FAILED 5=NEW 6=NEW 7=SENT",
					outbox.Keep:   "1=NEW 2=NEW 3=NEW 4=NEW 5=NEW 6=NEW 7=SENT",
				}[onSent], map[bool]string{true: "3@d=waiting 7@d=waiting", false: "3@d=waiting 7@d=skipped"}[onSent == outbox.Keep])
			}
		})
	}
}

// Each statement finds its rows by an index, whatever the server knows of a backlog of 200,000: statistics from before it, or right ones.
func TestTableLaneReadsByIndexes(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`ALTER TABLE t SET (autovacuum_enabled = off); ALTER TABLE outboxd.parked SET (autovacuum_enabled = off)`)
	l.exec(`CREATE INDEX ON t (status, retry_after)`)
	l.exec(`VACUUM ANALYZE t, outboxd.parked`)
	l.backlog(200_000)
	plans := l.watchPlans()
	for _, statistics := range []string{"of empty tables", "right"} {
		l.walkThroughAll()
		for _, plan := range plans() {
			for line := range strings.SplitSeq(plan, "\n") {
				if strings.Contains(line, "Seq Scan on t") || strings.Contains(line, "Seq Scan on parked") || strings.Contains(line, "parked_order") || strings.Contains(line, "parked_key") {
					t.Errorf("statistics %s: %s in\n%s", statistics, line, plan)
				}
			}
		}
		l.exec(`ANALYZE t, outboxd.parked`)
	}
}

func TestFewAdoptableRowsAreFoundByASequentialScanAndManyByTheIndex(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`ALTER TABLE t SET (autovacuum_enabled = off); CREATE INDEX ON t (status, retry_after)`)
	l.exec(`INSERT INTO t (id, status) SELECT i, CASE WHEN i % 1000 = 0 THEN 'NEW' ELSE 'SENT' END FROM generate_series(1, 200000) i`)
	l.exec(`ANALYZE t`)
	plans := l.watchPlans()
	l.exec(`SET enable_seqscan = off`) // as the sessions that work on the tables have it
	adopted := func(after string, most, want int) string {
		t.Helper()
		if rows, _, _, err := adopt(t.Context(), l.table, l.conn, after, most); err != nil || len(rows) != want {
			t.Fatalf("%d rows are adopted, want %d: %v", len(rows), want, err)
		}
		return plans()[0]
	}
	if plan := adopted("", 1000, 200); !strings.Contains(plan, "Seq Scan on t") || strings.Contains(plan, "t_pkey") {
		t.Errorf("few are due:\n%s", plan)
	}
	l.exec(`UPDATE t SET status = 'NEW'; ANALYZE t`)
	plans()
	if plan := adopted("", 100, 100); !strings.Contains(plan, "t_pkey") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("all are due:\n%s", plan)
	}
	l.exec(`UPDATE t SET status = 'SENT' WHERE id % 100 > 0; ANALYZE t`) // so that a scan looks best
	plans()
	if plan := adopted("1000", 1000, 1000); !strings.Contains(plan, "t_pkey") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("many are due:\n%s", plan)
	}
	ids, _, err := l.table.Adoptable(t.Context(), l.conn, 1<<40, "", 100)
	if plan := plans()[0]; err != nil || len(ids) > 0 || !strings.Contains(plan, "Seq Scan on t") || strings.Contains(plan, "t_pkey") {
		t.Errorf("none are so young, and %q are due: %v\n%s", ids, err, plan)
	}
	var off string
	if err := l.conn.QueryRow(t.Context(), `SHOW enable_seqscan`).Scan(&off); err != nil || off != "off" {
		t.Errorf("enable_seqscan is %q behind it: %v", off, err)
	}
}

// walkThroughAll runs each statement once on a backlog.
func (l *lane) walkThroughAll() {
	l.Helper()
	mirrors := make([]outbox.Mirror, 100)
	for i := range mirrors {
		mirrors[i] = outbox.Mirror{ID: l.id(1000 + i), Status: "FAILED", RetryCount: 1}
	}
	var refs []int
	for n := range 500 {
		refs = append(refs, 2000+n)
	}
	l.deliver("d", l.refs(refs...)...)
	l.finish(1000)
	l.runAll(ids("1", "2", "3"), mirrors)
}

// runAll runs each statement but Deliver, Finish and Adoptable once.
func (l *lane) runAll(settled [][]byte, mirrors []outbox.Mirror) {
	l.Helper()
	ctx, conn, lease := l.Context(), l.conn, l.lease
	_, _, settleErr := l.table.Settle(ctx, conn, lease, settled)
	_, mirrorErr := l.table.Mirror(ctx, conn, lease, mirrors)
	_, _, repairErr := l.table.RepairMirrors(ctx, conn, lease, "", 1000)
	_, _, skipErr := l.table.SkipSent(ctx, conn, lease, "", 1000)
	_, failedErr := l.table.DueFailed(ctx, conn, lease, 0, 100)
	_, adoptErr := l.table.StillAdoptable(ctx, conn, []string{l.id(1), l.id(2)})
	_, stillErr := l.table.StillNew(ctx, conn, lease, []string{l.id(1), l.id(2)})
	retention := outbox.Retention{Sent: day, Dead: day, Settled: &outbox.Snapshot{}, Schema: "outboxd"}
	_, _, _, cleanupErr := l.table.Cleanup(ctx, conn, retention, l.id(1000), 1000)
	err := errors.Join(settleErr, mirrorErr, repairErr, skipErr, adoptErr, failedErr, stillErr, cleanupErr)
	if err != nil {
		l.Fatal(err)
	}
}

// backlog makes n rows that wait, and as many that were delivered long ago.
func (l *lane) backlog(n int) {
	l.exec(`INSERT INTO t (id, status) SELECT i, 'SENT' FROM generate_series($1::int + 1, 2 * $1::int) i`, n)
	l.exec(`INSERT INTO t (id) SELECT i FROM generate_series(1, $1::int) i`, n)
	l.exec(`INSERT INTO outboxd.parked (slot, id, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, bytes, tenant_id, topic, payload)
		SELECT 'slot', i::text, 'sink', 'd', 'd', 'waiting', 5, '0/10', i, i % 1000, 500, 'acme', 'order.created', repeat('x', 300) FROM generate_series(1, $1::int) i`, n)
}

// watchPlans lets the server tell the plan of each statement. The function returns those since its last call.
func (l *lane) watchPlans() func() []string {
	l.Helper()
	var plans []string
	config, err := pgx.ParseConfig(l.url)
	if err != nil {
		l.Fatal(err)
	}
	config.OnNotice = noticed(&plans)
	l.conn = l.connectWith(config)
	l.exec(`LOAD 'auto_explain'`)
	l.exec(`SET auto_explain.log_level = notice`)
	l.exec(`SET auto_explain.log_min_duration = 0`)
	return func() []string {
		all := plans
		plans = nil
		if len(all) == 0 {
			l.Fatal("the server told no plan")
		}
		return all
	}
}
