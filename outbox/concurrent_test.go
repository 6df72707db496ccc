package outbox_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
)

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
		s, _, err := table.Settle(t.Context(), f.conn, f.lease, rows)
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

// History 20 of the protocol: a transaction that inserts and deletes leaves nothing to mark. It is settled at once, however old the oldest
// transaction is.
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
		_, _, err := f.describe(outbox.Config{OnSent: onSent}).Settle(t.Context(), f.conn, f.lease, rows)
		if !errors.Is(err, lease.ErrTermLost) {
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
		_, _, err := table.Settle(t.Context(), f.conn, f.lease, rows)
		settled <- err
	}()
	f.waitUntilBlocked(watcher, f.conn.PgConn().PID())
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-settled; !errors.Is(err, lease.ErrTermLost) {
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
		_, _, err := table.Settle(t.Context(), f.conn, f.lease, rows)
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
	_, _, err := table.Settle(t.Context(), f.conn, f.lease, rows)
	if err == nil || !outbox.Retryable(err) {
		t.Errorf("settle of a locked row: %v, want a retryable error", err)
	}
	f.exec(`SET lock_timeout = 0; SET statement_timeout = '10ms'`)
	_, _, err = table.Settle(t.Context(), f.conn, f.lease, rows)
	if err == nil || !outbox.Retryable(err) {
		t.Errorf("settle past the statement timeout: %v, want a retryable error", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for err = errors.ErrUnsupported; err != nil; { // this, too, may take that long
		if _, err = f.conn.Exec(t.Context(), `RESET ALL`); err != nil && !outbox.Retryable(err) {
			t.Fatal(err)
		}
	}
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
	if outbox.Retryable(lease.ErrTermLost) || outbox.Retryable(nil) {
		t.Error("a lost term, or no error, is retryable")
	}
}

func TestOnlyWhatTheTableSaysOfARowIsARefusal(t *testing.T) {
	const byTheServer, byATrigger, byBoth = 1, 2, 3
	for code, want := range map[string]int{
		"22P02": byBoth, "23514": byBoth, "27000": byBoth, "428C9": byBoth, "P0001": byBoth,
		"45000": byATrigger, "42501": byATrigger, "55000": byATrigger,
		"08006": 0, "25006": 0, "40001": 0, "40P01": 0, "53300": 0, "55P03": 0, "57014": 0, "57P01": 0, "58030": 0, "HV00N": 0, "XX000": 0,
	} {
		if got := outbox.Refused(&pgconn.PgError{Code: code, Routine: "ExecModifyTable"}); got != (want&byTheServer > 0) {
			t.Errorf("%s of the server is a refusal: %v", code, got)
		}
		if got := outbox.Refused(&pgconn.PgError{Code: code, Routine: "exec_stmt_raise"}); got != (want&byATrigger > 0) {
			t.Errorf("%s of a trigger is a refusal: %v", code, got)
		}
	}
	if outbox.Refused(lease.ErrTermLost) || outbox.Refused(nil) {
		t.Error("a lost term, or no error, is a refusal")
	}
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
