package park_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/park"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestTermRisesWithEachSessionOfASlot(t *testing.T) {
	_, conn := migrated(t)
	first, other, second := raise(t, conn, "a"), raise(t, conn, "b"), raise(t, conn, "a")
	if first.Slot != "a" || first.Schema != "outboxd" {
		t.Errorf("the lease is %+v, want slot a in schema outboxd", first)
	}
	if second.Term != first.Term+1 {
		t.Errorf("the second term is %d, want one more than %d", second.Term, first.Term)
	}
	if other.Slot != "b" {
		t.Errorf("the other slot's lease is %+v", other)
	}
}

func TestTermDoesNotComeBackWhenTheRowWasRemoved(t *testing.T) {
	_, conn := migrated(t)
	before := raise(t, conn, "a")
	if _, err := conn.Exec(t.Context(), `TRUNCATE outboxd.lease`); err != nil {
		t.Fatal(err)
	}
	if after := raise(t, conn, "a"); after.Term <= before.Term {
		t.Errorf("the term is %d after %d was given", after.Term, before.Term)
	}
}

// A term that a crash of the server takes back would be given twice.
func TestRaisedTermIsDurableOnADatabaseThatIsNot(t *testing.T) {
	_, conn := migrated(t)
	raise(t, conn, "a")
	exec(t, conn, `SET synchronous_commit = off`)
	exec(t, conn, `CREATE FUNCTION sync() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO syncs VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$`)
	exec(t, conn, `CREATE TABLE syncs (setting text)`)
	exec(t, conn, `CREATE CONSTRAINT TRIGGER sync AFTER INSERT OR UPDATE ON outboxd.lease DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sync()`)
	raise(t, conn, "a")
	raise(t, conn, "b")
	var settings string
	if err := conn.QueryRow(t.Context(), `SELECT string_agg(setting, ' ') FROM syncs`).Scan(&settings); err != nil || settings != "on on" {
		t.Errorf("the terms were committed with synchronous_commit %q, %v; want on for both", settings, err)
	}
}

func TestRaiseWaitsForAWriteThatHasBegun(t *testing.T) {
	url, writer := migrated(t)
	lease := raise(t, writer, "a")
	tx, err := writer.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var one int
	err = tx.QueryRow(t.Context(), `SELECT 1 FROM outboxd.lease WHERE slot = $1 AND term = $2 FOR SHARE`, lease.Slot, lease.Term).Scan(&one)
	if err != nil {
		t.Fatal(err)
	}
	raised := make(chan error, 1)
	successor, watcher := connect(t, url), connect(t, url)
	go func() {
		_, err := park.Raise(t.Context(), successor, "outboxd", "a", "successor")
		raised <- err
	}()
	waitUntilBlocked(t, watcher, successor.PgConn().PID())
	select {
	case err := <-raised:
		t.Fatalf("the raise did not wait: %v", err)
	default:
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-raised; err != nil {
		t.Fatal(err)
	}
}

func TestRaiseWithoutTablesNamesTheMend(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	if _, err := park.Raise(t.Context(), conn, "outboxd", "a", "test"); !errors.Is(err, lease.ErrNotMigrated) {
		t.Errorf("without the schema: %v, want ErrNotMigrated", err)
	}
	if _, err := conn.Exec(t.Context(), `CREATE SCHEMA outboxd`); err != nil {
		t.Fatal(err)
	}
	if _, err := park.Raise(t.Context(), conn, "outboxd", "a", "test"); !errors.Is(err, lease.ErrNotMigrated) {
		t.Errorf("without the table: %v, want ErrNotMigrated", err)
	}
}

func raise(t testing.TB, conn *pgx.Conn, slot string) lease.Lease {
	t.Helper()
	lease, err := park.Raise(t.Context(), conn, "outboxd", slot, "test")
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func migrated(t testing.TB) (url string, conn *pgx.Conn) {
	t.Helper()
	url = testenv.Postgres(t).Database(t)
	conn = connect(t, url)
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	return url, conn
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return connectWith(t, config)
}

func connectWith(t testing.TB, config *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// waitUntilBlocked returns when the backend waits for a lock.
func waitUntilBlocked(t *testing.T, conn *pgx.Conn, pid uint32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for blocked := false; !blocked; {
		err := conn.QueryRow(ctx, `SELECT cardinality(pg_blocking_pids($1::int)) > 0 FROM pg_sleep(0.005)`, int32(pid)).Scan(&blocked)
		if err != nil {
			t.Fatalf("wait until backend %d waits for a lock: %v", pid, err)
		}
	}
}
