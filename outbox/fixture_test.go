package outbox_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// fixture is a fresh database with outboxd's own tables, a connection to it, and a lease.
type fixture struct {
	*testing.T
	url   string
	conn  *pgx.Conn
	lease lease.Lease
}

func setup(t *testing.T, o migrations.Options) *fixture {
	t.Helper()
	return setupOn(t, testenv.Postgres(t), o)
}

func setupOn(t *testing.T, server *testenv.PostgresServer, o migrations.Options) *fixture {
	t.Helper()
	f := &fixture{T: t, url: server.Database(t)}
	f.conn = f.connect()
	if _, err := migrations.Up(t.Context(), f.conn, o); err != nil {
		t.Fatal(err)
	}
	f.lease = f.raise()
	return f
}

func (f *fixture) connect() *pgx.Conn {
	f.Helper()
	config, err := pgx.ParseConfig(f.url)
	if err != nil {
		f.Fatal(err)
	}
	return f.connectWith(config)
}

func (f *fixture) connectWith(config *pgx.ConnConfig) *pgx.Conn {
	f.Helper()
	conn, err := pgx.ConnectConfig(f.Context(), config)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(f.Context())); err != nil {
			f.Error(err)
		}
	})
	return conn
}

func (f *fixture) raise() lease.Lease {
	f.Helper()
	lease, err := park.Raise(f.Context(), f.conn, "outboxd", "slot", "test")
	if err != nil {
		f.Fatal(err)
	}
	return lease
}

func (f *fixture) exec(sql string, args ...any) {
	f.Helper()
	if _, err := f.conn.Exec(f.Context(), sql, args...); err != nil {
		f.Fatalf("%v in %s", err, sql)
	}
}

func (f *fixture) describe(c outbox.Config) *outbox.Table {
	f.Helper()
	table, err := outbox.Describe(f.Context(), f.conn, c)
	if err != nil {
		f.Fatal(err)
	}
	return table
}

func (f *fixture) settle(table *outbox.Table, ids ...[]byte) outbox.Snapshot {
	f.Helper()
	s, _, err := table.Settle(f.Context(), f.conn, f.lease, ids)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// insert adds n rows in one transaction, on db, and returns their ids.
func (f *fixture) insert(db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, n int,
) [][]byte {
	f.Helper()
	rows, err := db.Query(f.Context(), `INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
		SELECT 'tenant' || i % 7, 'order', i::text, 'order.created', now(), jsonb_build_object('i', i, 'text', repeat('x', 200))
		FROM generate_series(1, $1) AS i RETURNING id::text::bytea`, n)
	if err != nil {
		f.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		f.Fatal(err)
	}
	return ids
}

// statuses lists the table as "id=status,...", sorted; a NULL status is "null".
func (f *fixture) statuses(from string) string {
	f.Helper()
	var list string
	err := f.conn.QueryRow(f.Context(), `SELECT coalesce(string_agg(line, ',' ORDER BY line COLLATE "C"), '')
		FROM (SELECT id::text || '=' || coalesce(status::text, 'null') AS line FROM `+from+`) AS l`).Scan(&list)
	if err != nil {
		f.Fatal(err)
	}
	return list
}

// counts lists how many rows have each status: "NEW=1,SENT=2".
func (f *fixture) counts() string {
	f.Helper()
	var list string
	err := f.conn.QueryRow(f.Context(), `SELECT coalesce(string_agg(status || '=' || n, ',' ORDER BY status), '')
		FROM (SELECT status, count(*) AS n FROM outbox GROUP BY status) AS c`).Scan(&list)
	if err != nil {
		f.Fatal(err)
	}
	return list
}

// waitUntilBlocked returns when the backend waits for a lock.
func (f *fixture) waitUntilBlocked(watcher *pgx.Conn, pid uint32) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 30*time.Second)
	defer cancel()
	for blocked := false; !blocked; {
		err := watcher.QueryRow(ctx, `SELECT cardinality(pg_blocking_pids($1::int)) > 0 FROM pg_sleep(0.005)`, int32(pid)).Scan(&blocked)
		if err != nil {
			f.Fatalf("wait until backend %d waits for a lock: %v", pid, err)
		}
	}
}

func ids(texts ...string) [][]byte {
	list := make([][]byte, len(texts))
	for i, text := range texts {
		list[i] = []byte(text)
	}
	return list
}

func values(texts []string) string {
	rows := make([]string, len(texts))
	for i, text := range texts {
		rows[i] = fmt.Sprintf("('%s')", strings.ReplaceAll(text, "'", "''"))
	}
	return strings.Join(rows, ", ")
}

func setupPlain(t *testing.T) *fixture {
	t.Helper()
	return setup(t, migrations.Options{})
}

func (f *fixture) count(sql string, args ...any) (n int) {
	f.Helper()
	if err := f.conn.QueryRow(f.Context(), sql, args...).Scan(&n); err != nil {
		f.Fatalf("%v in %s", err, sql)
	}
	return n
}

func (f *fixture) texts(sql string) []string {
	f.Helper()
	rows, err := f.conn.Query(f.Context(), sql)
	if err != nil {
		f.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		f.Fatal(err)
	}
	return list
}
