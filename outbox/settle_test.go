package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
)

func TestSettleMarksOnlyNamedRowsThatAreNew(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id bigint PRIMARY KEY, status varchar(10) DEFAULT 'NEW')`)
	f.exec(`INSERT INTO t VALUES (1, 'NEW'), (2, 'FAILED'), (3, 'DEAD'), (4, NULL), (5, 'SENT'), (6, 'NEW'), (7, 'NEW')`)
	table := f.describe(outbox.Config{Table: "t"})
	f.settle(table, ids("1", "2", "3", "4", "5", "7", "99")...)
	if got, want := f.statuses("t"), "1=SENT,2=FAILED,3=DEAD,4=null,5=SENT,6=NEW,7=SENT"; got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
}

func TestSettleDeletesOnlyNamedRowsThatAreNew(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id bigint PRIMARY KEY, status varchar(10) DEFAULT 'NEW')`)
	f.exec(`INSERT INTO t VALUES (1, 'NEW'), (2, 'FAILED'), (4, NULL), (6, 'NEW')`)
	table := f.describe(outbox.Config{Table: "t", OnSent: outbox.Delete})
	f.settle(table, ids("1", "2", "4")...)
	if got, want := f.statuses("t"), "2=FAILED,4=null,6=NEW"; got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
}

func TestSettleDeletesFromATableWithoutAStatus(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id uuid PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload jsonb)`)
	f.exec(`INSERT INTO t VALUES ('00000000-0000-0000-0000-000000000001'), ('00000000-0000-0000-0000-000000000002')`)
	f.settle(f.describe(outbox.Config{Table: "t", OnSent: outbox.Delete}), ids("00000000-0000-0000-0000-000000000001")...)
	var left string
	if err := f.conn.QueryRow(t.Context(), `SELECT string_agg(id::text, ',') FROM t`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if want := "00000000-0000-0000-0000-000000000002"; left != want {
		t.Errorf("left are %s, want %s", left, want)
	}
}

func TestSettleWithKeepWritesNothing(t *testing.T) {
	f := setup(t, migrations.Options{})
	rows := f.insert(f.conn, 3)
	if s := f.settle(f.describe(outbox.Config{OnSent: outbox.Keep}), rows...); !s.Visible(1 << 30) {
		t.Error("something has to be settled again")
	}
	if got := f.counts(); got != "NEW=3" {
		t.Errorf("the rows are %s, want NEW=3", got)
	}
}

func TestSettleTakesIdsAsTheyAre(t *testing.T) {
	odd := []string{``, `NULL`, `null`, `a,b`, `{a}`, `"`, `\`, `\\"`, `a\"b`, `it's`, ` lead`, `trail `, "tab\tline\n", `{}`, `ü€😀`, `$1`, `%s`}
	for _, kind := range []string{"text", "varchar(20)", "char(20)", "own_id"} {
		t.Run(kind, func(t *testing.T) {
			f := setup(t, migrations.Options{})
			f.exec(`CREATE DOMAIN own_id AS varchar(40) CHECK (value <> 'never')`)
			f.exec(`CREATE TABLE t (id ` + kind + ` PRIMARY KEY, status text DEFAULT 'NEW')`)
			f.exec(`INSERT INTO t (id) VALUES ` + values(append(slices.Clone(odd), "other")))
			f.settle(f.describe(outbox.Config{Table: "t"}), ids(odd...)...)
			var left string
			err := f.conn.QueryRow(t.Context(), `SELECT string_agg(trim(id), '|') FROM t WHERE status = 'NEW'`).Scan(&left)
			if err != nil || left != "other" {
				t.Errorf("not settled are %q (%v), want only other", left, err)
			}
		})
	}
}

func TestSettleWorksWithEnumStatusesAndOddNames(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE SCHEMA "My ""app"""; CREATE TYPE "My ""app"""."State" AS ENUM ('fresh', 'it''s out')`)
	f.exec(`CREATE TABLE "My ""app"""."Out.box" ("Event ID" uuid PRIMARY KEY, "The State" "My ""app"""."State" DEFAULT 'fresh')`)
	f.exec(`INSERT INTO "My ""app"""."Out.box" VALUES ('00000000-0000-0000-0000-000000000001')`)
	table := f.describe(outbox.Config{
		Schema: `My "app"`, Table: "Out.box", Columns: outbox.Columns{ID: "Event ID", Status: "The State"},
		Statuses: outbox.Statuses{New: "fresh", Sent: "it's out"},
	})
	f.settle(table, ids("00000000-0000-0000-0000-000000000001")...)
	var status string
	if err := f.conn.QueryRow(t.Context(), `SELECT "The State"::text FROM "My ""app"""."Out.box"`).Scan(&status); err != nil || status != "it's out" {
		t.Errorf("the status is %q, %v; want it's out", status, err)
	}
}

func TestSettleWorksOnAPartitionedTable(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id bigint, day int, status text DEFAULT 'NEW', PRIMARY KEY (id, day)) PARTITION BY RANGE (day)`)
	f.exec(`CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (1) TO (2)`)
	f.exec(`CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (2) TO (3)`)
	f.exec(`INSERT INTO t VALUES (1, 1), (2, 2), (3, 1), (4, 2)`)
	f.settle(f.describe(outbox.Config{Table: "t"}), ids("1", "2")...)
	f.settle(f.describe(outbox.Config{Table: "t", OnSent: outbox.Delete}), ids("4")...)
	if got, want := f.statuses("t"), "1=SENT,2=SENT,3=NEW"; got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
}

func TestSettleOfManyRowsTakesSeveralStatements(t *testing.T) {
	f := setup(t, migrations.Options{})
	rows := f.insert(f.conn, 12_345)
	f.settle(f.describe(outbox.Config{}), rows...)
	if got := f.counts(); got != "SENT=12345" {
		t.Errorf("the rows are %s, want SENT=12345", got)
	}
}

// Of several statements the first one's snapshot counts: a later one may see a transaction that the first could not.
func TestSnapshotOfSeveralStatementsIsTheFirst(t *testing.T) {
	f := setup(t, migrations.Options{})
	table := f.describe(outbox.Config{})
	locked := f.insert(f.conn, 1)
	tx, xid := f.begin(f.connect())
	unseen := f.insert(tx, 1)
	holder, _ := f.begin(f.connect())
	if _, err := holder.Exec(t.Context(), `SELECT 1 FROM outbox FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	type result struct {
		snapshot outbox.Snapshot
		err      error
	}
	settled := make(chan result, 1)
	go func() {
		rows := append([][]byte{locked[0]}, slices.Repeat(unseen, 6000)...)
		s, err := table.Settle(t.Context(), f.conn, f.lease, rows)
		settled <- result{s, err}
	}()
	f.waitUntilBlocked(f.connect(), f.conn.PgConn().PID())
	if err := errors.Join(tx.Commit(t.Context()), holder.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	if r := <-settled; r.err != nil || r.snapshot.Visible(xid) {
		t.Errorf("the transaction that the first statement could not see is visible: %v, %v", r.snapshot.Visible(xid), r.err)
	}
}

// An event can arrive before its row is visible: settling matches nothing, and the row must not be forgotten.
func TestEventWhoseRowIsNotVisibleIsNotSettled(t *testing.T) {
	f := setup(t, migrations.Options{})
	table := f.describe(outbox.Config{})
	tx, xid := f.begin(f.connect())
	rows := f.insert(tx, 1)
	if f.settle(table, rows...).Visible(xid) {
		t.Error("an open transaction is visible")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.counts(); got != "NEW=1" {
		t.Errorf("the row is %s, want NEW=1", got)
	}
	if !f.settle(table, rows...).Visible(xid) {
		t.Error("a committed transaction is not visible")
	}
	if got := f.counts(); got != "SENT=1" {
		t.Errorf("the row is %s, want SENT=1", got)
	}
}

// A transaction that inserts and deletes leaves nothing to mark. It is settled at once, however old the oldest transaction is.
func TestDeletedRowIsSettledBesideALongTransaction(t *testing.T) {
	f := setup(t, migrations.Options{})
	table := f.describe(outbox.Config{})
	long, longXid := f.begin(f.connect())
	tx, xid := f.begin(f.connect())
	rows := f.insert(tx, 1)
	if _, err := tx.Exec(t.Context(), `DELETE FROM outbox`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := f.settle(table, rows...)
	if !s.Visible(xid) {
		t.Error("the event waits for a transaction that is not its own")
	}
	if s.Visible(longXid) {
		t.Error("the open transaction is visible")
	}
	if err := long.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestSessionWithoutTheTermSettlesNothing(t *testing.T) {
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Delete} {
		f := setup(t, migrations.Options{})
		rows := f.insert(f.conn, 3)
		f.raise()
		_, err := f.describe(outbox.Config{OnSent: onSent}).Settle(t.Context(), f.conn, f.lease, rows)
		if !errors.Is(err, event.ErrTermLost) {
			t.Errorf("%s: %v, want ErrTermLost", onSent, err)
		}
		if got := f.counts(); got != "NEW=3" {
			t.Errorf("%s: the rows are %s, want NEW=3", onSent, got)
		}
	}
}

// A statement that a cut-off session had already sent finds the new term, although its snapshot is older.
func TestSettleThatWaitedForARaiseChangesNothing(t *testing.T) {
	f := setup(t, migrations.Options{})
	rows := f.insert(f.conn, 3)
	table := f.describe(outbox.Config{})
	raiser, watcher := f.connect(), f.connect()
	tx, err := raiser.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE outboxd.lease SET term = term + 1`); err != nil {
		t.Fatal(err)
	}
	settled := make(chan error, 1)
	go func() {
		_, err := table.Settle(t.Context(), f.conn, f.lease, rows)
		settled <- err
	}()
	f.waitUntilBlocked(watcher, f.conn.PgConn().PID())
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-settled; !errors.Is(err, event.ErrTermLost) {
		t.Errorf("settle: %v, want ErrTermLost", err)
	}
	if got := f.counts(); got != "NEW=3" {
		t.Errorf("the rows are %s, want NEW=3", got)
	}
}

// The application changes a row while the settle waits for it: the row's new version decides.
func TestSettleLeavesARowThatTheApplicationChangedMeanwhile(t *testing.T) {
	f := setup(t, migrations.Options{})
	rows := f.insert(f.conn, 2)
	table := f.describe(outbox.Config{})
	application, watcher := f.connect(), f.connect()
	tx, err := application.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE outbox SET status = 'FAILED' WHERE id = $1::text::uuid`, string(rows[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE outbox SET retry_count = 7 WHERE id = $1::text::uuid`, string(rows[1])); err != nil {
		t.Fatal(err)
	}
	settled := make(chan error, 1)
	go func() {
		_, err := table.Settle(t.Context(), f.conn, f.lease, rows)
		settled <- err
	}()
	f.waitUntilBlocked(watcher, f.conn.PgConn().PID())
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-settled; err != nil {
		t.Fatal(err)
	}
	if got := f.counts(); got != "FAILED=1,SENT=1" {
		t.Errorf("the rows are %s, want FAILED=1,SENT=1", got)
	}
}

func TestHeldLockIsRetryable(t *testing.T) {
	f := setup(t, migrations.Options{})
	rows := f.insert(f.conn, 1)
	table := f.describe(outbox.Config{})
	tx, _ := f.begin(f.connect())
	if _, err := tx.Exec(t.Context(), `SELECT 1 FROM outbox FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	f.exec(`SET lock_timeout = '10ms'`)
	_, err := table.Settle(t.Context(), f.conn, f.lease, rows)
	if err == nil || !outbox.Retryable(err) {
		t.Errorf("settle of a locked row: %v, want a retryable error", err)
	}
	f.exec(`SET statement_timeout = '10ms'; SET lock_timeout = 0`)
	_, err = table.Settle(t.Context(), f.conn, f.lease, rows)
	if err == nil || !outbox.Retryable(err) {
		t.Errorf("settle past the statement timeout: %v, want a retryable error", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.exec(`RESET ALL`)
	f.settle(table, rows...) // the same connection goes on
	if got := f.counts(); got != "SENT=1" {
		t.Errorf("the row is %s, want SENT=1", got)
	}
}

func TestOnlyWhatPassesByItselfIsRetryable(t *testing.T) {
	for code, want := range map[string]bool{"40P01": true, "40001": true, "55P03": true, "57014": true, "42501": false, "57P01": false, "22P02": false} {
		if got := outbox.Retryable(&pgconn.PgError{Code: code}); got != want {
			t.Errorf("%s is retryable: %v, want %v", code, got, want)
		}
	}
	if outbox.Retryable(event.ErrTermLost) || outbox.Retryable(nil) {
		t.Error("a lost term, or no error, is retryable")
	}
}

// The planner has all eight indexes to choose from, and statistics that are absent, right, or from before a burst, when no row was
// NEW: those of the status would then look best, and would read the whole burst for each settle.
func TestSettleFindsRowsByTheirId(t *testing.T) {
	const rows, named = 100_000, 1000
	f := setup(t, migrations.Options{Indexes: migrations.Full})
	f.exec(`ALTER TABLE outbox SET (autovacuum_enabled = off)`)
	all := f.insert(f.conn, rows)
	f.checkPlans("no statistics", all[:named])
	f.exec(`ANALYZE outbox`)
	f.checkPlans("all rows are new", all[:named])
	f.exec(`UPDATE outbox SET status = 'SENT'`)
	f.exec(`ANALYZE outbox`)
	f.checkPlans("no row was new", f.insert(f.conn, named))
}

func (f *fixture) checkPlans(statistics string, rows [][]byte) {
	f.Helper()
	for onSent, verb := range map[outbox.OnSent]string{outbox.Mark: "UPDATE", outbox.Delete: "DELETE"} {
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			f.exec(`SET plan_cache_mode = ` + mode)
			plan := f.explain(f.describe(outbox.Config{OnSent: onSent}), verb, rows)
			if !strings.Contains(plan, "outbox_pkey") || strings.Contains(plan, "Seq Scan on outbox") || strings.Contains(plan, "ix_") {
				f.Errorf("%s, %s, %s:\n%s", statistics, onSent, mode, plan)
			}
		}
	}
}

// explain returns the plan that the table's prepared statement gets for the rows.
func (f *fixture) explain(table *outbox.Table, verb string, rows [][]byte) string {
	f.Helper()
	f.settle(table, rows[:1]...) // prepares it
	var name string
	err := f.conn.QueryRow(f.Context(), `SELECT name FROM pg_prepared_statements
		WHERE statement LIKE 'WITH lease%' AND statement LIKE '%' || $1 || '%'`, verb).Scan(&name)
	if err != nil {
		f.Fatal(err)
	}
	statuses := map[string]string{"UPDATE": `'NEW', 'SENT'`, "DELETE": `'NEW'`}[verb]
	explain := `EXPLAIN (COSTS OFF) EXECUTE ` + pgx.Identifier{name}.Sanitize() + ` ('slot', 1, '{` + string(bytes.Join(rows, []byte(","))) + `}', ` + statuses + `)`
	results, err := f.conn.PgConn().Exec(f.Context(), explain).ReadAll()
	if err != nil {
		f.Fatal(err)
	}
	var plan []byte
	for _, row := range results[0].Rows {
		const enough = 100 // a line that lists all ids is very long
		plan = append(append(plan, row[0][:min(len(row[0]), enough)]...), '\n')
	}
	return string(plan)
}

// begin opens a transaction that has an id, and returns the id as the log would carry it.
func (f *fixture) begin(conn *pgx.Conn) (pgx.Tx, uint32) {
	f.Helper()
	tx, err := conn.Begin(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := tx.Rollback(context.WithoutCancel(f.Context())); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			f.Error(err)
		}
	})
	var xid int64
	if err := tx.QueryRow(f.Context(), `SELECT txid_current()`).Scan(&xid); err != nil {
		f.Fatal(err)
	}
	return tx, uint32(xid)
}
