package testenv_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
)

// connect opens a session that the test's end closes.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may be gone
	return conn
}

func ask[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var answer T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func TestADatabaseIsDroppedWithItsSlotsAndSessions(t *testing.T) {
	server := testenv.Postgres(t)
	admin := connect(t, server.URL)
	t.Run("test", func(t *testing.T) {
		conn := connect(t, server.Database(t))
		ask[string](t, conn, "SELECT slot_name FROM pg_create_logical_replication_slot('left', 'pgoutput')")
		// The session stays open: its own cleanup would come first.
		if _, err := pgx.Connect(context.Background(), conn.Config().ConnString()); err != nil {
			t.Fatal(err)
		}
	})
	if n := ask[int](t, admin, "SELECT count(*) FROM pg_replication_slots"); n != 0 {
		t.Errorf("%d slots are left", n)
	}
	if n := ask[int](t, admin, "SELECT count(*) FROM pg_database WHERE datname LIKE 'outboxd%'"); n != 0 {
		t.Errorf("%d databases are left", n)
	}
}

// For the race detector: each test's end looks at the server while the others' begins do.
func TestParallelTestsShareAServer(t *testing.T) {
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			for range 5 {
				t.Run("test", func(t *testing.T) { testenv.Postgres(t).Database(t) })
			}
		})
	}
}

func TestAKilledPostgresStartsAgainWithItsData(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"max_wal_senders = 7"}})
	url := server.Database(t)
	conn := connect(t, url)
	if got := ask[string](t, conn, "SHOW max_wal_senders"); got != "7" {
		t.Errorf("max_wal_senders = %s, want the option's 7", got)
	}
	ask[int](t, conn, "WITH made AS (SELECT pg_sleep(0)) SELECT 1 FROM made")
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 42 AS answer"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		server.Kill()
		if _, err := pgx.Connect(t.Context(), url); err == nil {
			t.Fatal("the killed server answers")
		}
		server.Start()
		if got := ask[int](t, connect(t, url), "SELECT answer FROM kept"); got != 42 {
			t.Errorf("read %d, want 42", got)
		}
	}
	server.Stop()
	server.Start()
	if got := ask[int](t, connect(t, url), "SELECT answer FROM kept"); got != 42 {
		t.Errorf("after a clean stop read %d, want 42", got)
	}
}

func TestEveryPinnedPostgresRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("it downloads seven versions")
	}
	for version := 12; version <= 18; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			server := testenv.NewPostgres(t, testenv.PostgresOptions{Version: version})
			got := ask[int](t, connect(t, server.Database(t)), "SELECT current_setting('server_version_num')::int / 10000")
			if got != version || server.Major != version {
				t.Errorf("version %d runs and Major is %d, want %d", got, server.Major, version)
			}
			server.Kill()
			server.Start()
		})
	}
}
