package doctor

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
)

func TestFaultsOfTheServerAreFound(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{
		"wal_level = replica", "wal_sender_timeout = 0", "autovacuum = off", "track_counts = off", "max_connections = 12", "max_prepared_transactions = 2",
		"superuser_reserved_connections = 3",
	}})
	r := bare(t, server)
	r.migrate()
	findings := r.examine()
	wantFinding(t, findings, "wal_level", Error, `wal_level is "replica"`, "ALTER SYSTEM SET wal_level = 'logical'")
	wantFinding(t, findings, "wal_sender_timeout", Warning, "is 0", "'60s'")
	wantFinding(t, findings, "autovacuum", Warning, "off", "ALTER SYSTEM RESET autovacuum")
	wantFinding(t, findings, "track_counts", Warning, "off", "ALTER SYSTEM RESET track_counts")
	wantFinding(t, findings, "fsync", Warning, "off", "ALTER SYSTEM RESET fsync")
	wantFinding(t, findings, "max_connections", Warning, "outboxd opens up to 9", "ALTER SYSTEM SET max_connections = ")

	shorten(t, &maxPrepared)
	r.exec(`BEGIN; CREATE TABLE one (); PREPARE TRANSACTION 'it''s one'`)
	r.want("prepared", Warning, "'it''s one'", "ROLLBACK PREPARED 'it''s one'")
	r.exec(`ROLLBACK PREPARED 'it''s one'`)
	r.wantNone("prepared", Warning)
}

func TestASmallOrMissingLimitOfASlotsLogIsFound(t *testing.T) {
	if server := testenv.Postgres(t); server.Major < 13 {
		setup(t).want("max_slot_wal_keep_size", Info, "no limit", "PostgreSQL 13")
		return
	}
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"max_slot_wal_keep_size = 64MB"}})
	bare(t, server).want("max_slot_wal_keep_size", Warning, "64.0 MiB", "max_slot_wal_keep_size = '4096MB'")
	setup(t).want("max_slot_wal_keep_size", Info, "is -1", "ALTER SYSTEM SET max_slot_wal_keep_size")
}

func TestSettingsOfOtherServersAreJudged(t *testing.T) {
	for seconds, want := range map[string]Level{"0": OK, "3600": Warning, "604800": Info} {
		s := settings{values: map[string]string{"idle_replication_slot_timeout": seconds}}
		if got := worst(s.idleTimeout()); got != want {
			t.Errorf("idle_replication_slot_timeout of %s: %s, want %s", seconds, got, want)
		}
	}
	s := settings{values: map[string]string{"max_slot_wal_keep_size": "1024"}, maxRetained: 1 << 30}
	wantFinding(t, s.keepSize(), "max_slot_wal_keep_size", Info, "parked from half of it on", "")
	s.values["max_slot_wal_keep_size"] = "4096"
	wantFinding(t, s.keepSize(), "max_slot_wal_keep_size", OK, "4.0 GiB", "")
	s = settings{values: map[string]string{"max_wal_senders": "3"}, senders: 3}
	wantFinding(t, []Finding{s.room("max_wal_senders", "senders", s.senders)}, "max_wal_senders", Info, "all 3", "max_wal_senders = 8")
}

func TestARoleThatMayNotReplicateIsFound(t *testing.T) {
	r := setup(t)
	role := r.role("LOGIN")
	r.as(role)
	r.want("role", Error, "may not replicate", "ALTER ROLE")
	r.want("transactions", Info, "cannot be seen", "GRANT pg_read_all_stats")
}

// role makes a role that ends with the test.
func (r *rig) role(options string) string {
	r.Helper()
	name := fmt.Sprintf("doctor_%d", time.Now().UnixNano())
	r.exec("CREATE ROLE " + name + " " + options)
	r.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY " + name, "DROP ROLE " + name} {
			if _, err := r.conn.Exec(context.Background(), sql); err != nil {
				r.Errorf("%s: %v", sql, err)
			}
		}
	})
	return name
}

func TestNoConnectionIsExplained(t *testing.T) {
	r := setup(t)
	r.as(r.role("NOLOGIN"))
	r.want("connection", Error, "not permitted to log in", "LOGIN")

	r.url = strings.Replace(r.url, "/outboxd_", "/missing_", 1)
	r.as("")
	r.want("connection", Error, "does not exist", "create the database")

	r.url = "postgres://postgres@" + testenv.FreeAddress(t) + "/app?sslmode=disable"
	r.want("connection", Error, "connection refused", "see that PostgreSQL runs")
	if n := len(r.examine()); n != 1 {
		t.Errorf("%d findings of a server that is down, want one", n)
	}
}

// A server that accepts and says nothing must not hold doctor up.
func TestASilentServerIsReportedInTime(t *testing.T) {
	r := setup(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() //nolint:errcheck // it is a listener of the test
	r.url = "postgres://postgres@" + silent.Addr().String() + "/app?sslmode=disable"
	r.cfg.Timeout = 200 * time.Millisecond
	r.want("connection", Error, "no connection", "see that PostgreSQL runs")
}

// The lock is that of a migration of the application, which everything that reads the table waits for.
func TestALockedTableHoldsUpNoOtherCheck(t *testing.T) {
	r := setup(t)
	r.events(1, "NEW", "0s")
	r.exec("BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
	r.cfg.Timeout = 3 * time.Second // in which a busy machine makes the other checks
	findings := r.examine()
	wantFinding(t, findings, "statuses", Warning, "not checked: ", "--timeout")
	wantFinding(t, findings, "waiting", OK, "no delivery waits", "")
	r.exec("ROLLBACK")
}

func TestOpenTransactionsAreFound(t *testing.T) {
	r := setup(t)
	shorten(t, &longTransaction)
	other, err := pgx.Connect(t.Context(), r.url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background()) //nolint:errcheck // it ends with the test
	if _, err := other.Exec(t.Context(), "SET application_name = 'forgetful'; BEGIN; SELECT 1"); err != nil {
		t.Fatal(err)
	}
	r.want("transactions", Warning, "forgetful", fmt.Sprintf("pg_terminate_backend(%d)", other.PgConn().PID()))
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	r.want("transactions", OK, "no transaction", "")
}

// shorten sets a limit to 0 until the test's end.
func shorten(t *testing.T, limit *time.Duration) {
	before := *limit
	*limit = 0
	t.Cleanup(func() { *limit = before })
}

func TestAClockThatIsWrongIsFound(t *testing.T) {
	r := setup(t)
	now = func() time.Time { return time.Now().Add(-time.Minute) }
	defer func() { now = time.Now }()
	r.want("clock", Warning, "by 1m0s", "timedatectl")
	now = time.Now
	r.want("clock", OK, "agrees", "")
}

func TestDoctorWritesNothing(t *testing.T) {
	r := setup(t)
	d := &database{Config: &r.cfg}
	if err := d.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.conn.Close(context.Background()) //nolint:errcheck // it ends with the test
	if _, err := d.conn.Exec(t.Context(), "DELETE FROM outbox"); err == nil || !strings.Contains(err.Error(), "read-only transaction") {
		t.Errorf("a delete in doctor's session: %v", err)
	}
}
