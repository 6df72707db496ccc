package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/outbox"
)

// inOrder are the aggregate ids of all rows of t, in the order of their positions.
func (l *lane) inOrder() []string {
	l.Helper()
	rows, _ := l.adoptAll(100)
	slices.SortFunc(rows, func(a, b outbox.Row) int { return a.Event.Position.Compare(b.Event.Position) })
	order := make([]string, len(rows))
	for i := range rows {
		order[i] = string(rows[i].Event.AggregateID)
	}
	return order
}

// Rows of one transaction have one created_at; where they lie keeps them in the order of insertion.
func TestPositionsFollowCreationAndInsertion(t *testing.T) {
	l := setupLaneOf(t, "uuid", outbox.Config{})
	l.exec(`INSERT INTO t (id, aggregate_id, created_at) SELECT gen_random_uuid(), (1000 + i)::text, '2126-01-02 00:00:00.000001+00' FROM generate_series(1, 500) i`)
	l.exec(`INSERT INTO t (id, aggregate_id, created_at) VALUES (gen_random_uuid(), '0002', '2126-01-01'), (gen_random_uuid(), '3000', '2126-01-03'),
		(gen_random_uuid(), '0001', '1960-01-01'), (gen_random_uuid(), '0000', NULL), (gen_random_uuid(), '9999', 'infinity')`)
	rows, _ := l.adoptAll(100)
	slices.SortFunc(rows, func(a, b outbox.Row) int { return a.Event.Position.Compare(b.Event.Position) })
	order := make([]string, len(rows))
	for i := range rows {
		order[i] = string(rows[i].Event.AggregateID)
	}
	first, rest := order[:2], order[2:] // both before 1970
	slices.Sort(first)
	if order = slices.Concat(first, rest); len(order) != 505 || !slices.IsSorted(order) {
		t.Errorf("the positions order the rows as %q", order)
	}
	micro := time.Date(2126, 1, 2, 0, 0, 0, 1000, time.UTC)
	if got := rows[3].Event.Position; got.Epoch != 0 || got.Commit != event.LSN(micro.UnixMicro()<<11) {
		t.Errorf("the position of a row of %s is %s", micro, got)
	}
}

// A new row goes where there is room, which may be before an older one of its transaction.
func TestPositionsOfATransactionFollowItsCommands(t *testing.T) {
	l := setupLaneOf(t, "uuid", outbox.Config{})
	l.insertWhereThereIsRoom("now() + interval '1 hour'", "'2026-01-02'")
	if order := l.inOrder(); len(order) != 60 || !slices.IsSorted(order) {
		t.Errorf("the positions order the rows as %q", order)
	}
}

func TestPositionsOfOldRowsOfATransactionFollowTheirOccurrence(t *testing.T) {
	l := setupLaneOf(t, "uuid", outbox.Config{})
	const created = `'2026-01-02 03:04:05'::timestamptz`
	since := []string{"-1 day", "-8 s", "-7.999999 s", "-1 us", "0", "1 us", "2 us", "8 s", "8.370001 s", "1 day"}
	for _, i := range []int{5, 2, 8, 9, 0, 7, 3, 1, 6, 4} {
		if i == 4 { // whose address has more than 19 bits
			l.exec(`INSERT INTO t (id, status) SELECT gen_random_uuid(), 'SENT' FROM generate_series(1, 30000)`)
		}
		l.exec(`INSERT INTO t (id, aggregate_id, created_at, occurred_at) VALUES (gen_random_uuid(), $1, `+created+`, `+created+` + $2::text::interval)`,
			fmt.Sprint(1000+i), since[i])
	}
	if order := l.inOrder(); len(order) != len(since) || !slices.IsSorted(order) {
		t.Errorf("the positions order the rows as %q", order)
	}
}

// What a server replays from its log has no command, but for what lies on pages that the log has as a whole. The rows are of nearly a minute
// later, so that it is the way of that recovery that tells.
func TestPositionsOfReplayedRowsFollowTheirOccurrence(t *testing.T) {
	for how, recovery := range map[string]func(*lane, *testenv.PostgresServer) (steps []func()){
		"KilledServer": func(_ *lane, server *testenv.PostgresServer) []func() {
			return []func(){func() {
				server.Kill()
				server.Start()
			}}
		},
		"KilledProcess": func(l *lane, _ *testenv.PostgresServer) []func() {
			return []func(){func() {
				var pid int
				if err := l.conn.QueryRow(l.Context(), `SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'`).Scan(&pid); err != nil {
					l.Fatal(err)
				}
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					l.Fatal(err)
				}
				for l.conn.Ping(l.Context()) == nil { // until the others are ended, too
				}
			}}
		},
		"PromotedStandbyThenRestarted": func(l *lane, server *testenv.PostgresServer) []func() {
			standby, err := server.Standby(l.Context())
			if err != nil {
				l.Fatal(err)
			}
			l.Cleanup(func() {
				if err := standby.Close(context.WithoutCancel(l.Context())); err != nil {
					l.Error(err)
				}
			})
			return []func(){func() {
				server.Kill()
				if err := standby.Promote(l.Context()); err != nil {
					l.Fatal(err)
				}
				l.url = standby.DatabaseURL(l.conn.Config().Database)
			}, func() {
				standby.Stop()
				standby.Start()
			}}
		},
	} {
		t.Run(how, func(t *testing.T) {
			server := testenv.NewPostgres(t, testenv.PostgresOptions{})
			l := setupLaneOn(t, server, "uuid", outbox.Config{})
			steps := recovery(l, server)
			l.insertWhereThereIsRoom("now() + interval '59.99 s'", "clock_timestamp() + interval '59.99 s'")
			for _, step := range steps {
				step()
				l.reconnect()
				if order := l.inOrder(); len(order) != 60 || !slices.IsSorted(order) {
					t.Errorf("the positions order the rows as %q", order)
				}
			}
		})
	}
}

// reconnect connects as soon as the server takes connections.
func (l *lane) reconnect() {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, l.url)
		if err == nil {
			if err := conn.Close(ctx); err != nil {
				l.Fatal(err)
			}
			break
		}
		if ctx.Err() != nil {
			l.Fatal(err)
		}
	}
	l.conn = l.connect()
}

// insertWhereThereIsRoom inserts 1000, 1001 and so on in one transaction and in commands of their own, such that they do not lie in that order.
func (l *lane) insertWhereThereIsRoom(createdAt, occurredAt string) {
	l.Helper()
	l.exec(`INSERT INTO t (id, aggregate_id, payload) SELECT gen_random_uuid(), '0000', to_jsonb(repeat('x', 500)) FROM generate_series(1, 100)`)
	l.exec(`DELETE FROM t WHERE ctid::text LIKE '%,1)' OR ctid::text LIKE '%,2)'`)
	l.exec(`VACUUM t`)
	tx, err := l.conn.Begin(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	insert := `INSERT INTO t (id, aggregate_id, payload, created_at, occurred_at) VALUES (gen_random_uuid(), $1, to_jsonb(repeat('x', $2::int)), ` +
		createdAt + `, ` + occurredAt + `)`
	for i := range 60 { // only the smaller ones have room where rows were deleted
		if _, err := tx.Exec(l.Context(), insert, fmt.Sprint(1000+i), []int{1500, 1500, 1500, 1500, 1500, 800}[i%6]); err != nil {
			l.Fatal(err)
		}
	}
	if err := tx.Commit(l.Context()); err != nil {
		l.Fatal(err)
	}
	l.exec(`DELETE FROM t WHERE aggregate_id = '0000'`)
	var place []string
	if err := l.conn.QueryRow(l.Context(), `SELECT array_agg(aggregate_id ORDER BY ctid) FROM t`).Scan(&place); err != nil {
		l.Fatal(err)
	}
	if slices.IsSorted(place) {
		l.Fatal("the rows lie in the order of insertion, so this shows nothing")
	}
}

func TestPositionsWithoutACreationTimeFollowInsertion(t *testing.T) {
	f := setupPlain(t)
	f.exec(`CREATE TABLE t (id uuid PRIMARY KEY, tenant_id text, topic text, payload text)`)
	f.exec(`INSERT INTO t SELECT gen_random_uuid(), 'a', (1000 + i)::text, repeat('x', 100) FROM generate_series(1, 500) i`)
	rows, _, _, err := adopt(t.Context(), f.describe(outbox.Config{Table: "t", OnSent: outbox.Keep}), f.conn, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(rows, func(a, b outbox.Row) int { return a.Event.Position.Compare(b.Event.Position) })
	sorted := slices.IsSortedFunc(rows, func(a, b outbox.Row) int { return strings.Compare(string(a.Event.Topic), string(b.Event.Topic)) })
	if len(rows) != 500 || !sorted || !rows[0].CreatedAt.IsZero() {
		t.Errorf("%d rows, in the order of insertion: %v", len(rows), sorted)
	}
}
