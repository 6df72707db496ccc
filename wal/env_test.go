package wal_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/wal"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

// fixture is a database of the test's own with an outbox table, and the configuration to stream it.
type fixture struct {
	*pgx.Conn
	t   testing.TB
	cfg wal.Config
}

func setup(t testing.TB) *fixture {
	t.Helper()
	return setupOn(t, testenv.Postgres(t).Database(t))
}

func setupOn(t testing.TB, url string) *fixture {
	t.Helper()
	f := &fixture{Conn: dial(t, url), t: t, cfg: wal.Config{
		URL: url, Schema: "public", Table: "outbox", Columns: []string{"id", "payload"},
		Publication: "outboxd", Create: true, StatusInterval: 100 * time.Millisecond,
	}}
	// Slots are the server's, not the database's.
	f.cfg.Slot = "s" + query[string](f, "SELECT md5(random()::text || clock_timestamp())")
	f.exec("CREATE TABLE outbox (id bigint PRIMARY KEY, payload text)")
	return f
}

func dial(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { closeConn(t, conn) })
	return conn
}

// afterTest is a context for cleanups: the test's own ends before they run.
func afterTest(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }

func closeConn(t testing.TB, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(afterTest(t), patience)
	defer cancel()
	if err := conn.Close(ctx); err != nil {
		t.Logf("close connection: %v", err)
	}
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

func query[T any](f *fixture, sql string, args ...any) T {
	f.t.Helper()
	var value T
	if err := f.QueryRow(f.t.Context(), sql, args...).Scan(&value); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// other opens one more session on the same database.
func (f *fixture) other() *fixture {
	return &fixture{Conn: dial(f.t, f.cfg.URL), t: f.t, cfg: f.cfg}
}

// create makes the publication and the slot.
func (f *fixture) create() *wal.Server {
	f.t.Helper()
	server, err := wal.Setup(f.t.Context(), f.Conn, f.cfg)
	if err != nil {
		f.t.Fatalf("set up: %v", err)
	}
	return server
}

func (f *fixture) insert(ids ...int) {
	f.t.Helper()
	for _, id := range ids {
		f.exec("INSERT INTO outbox VALUES ($1, 'p')", id)
	}
}

// waitFor polls a condition of the database until it holds.
func (f *fixture) waitFor(what, sql string, args ...any) {
	f.t.Helper()
	eventually(f.t, what, func() bool { return query[bool](f, sql, args...) })
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// reader receives from a stream and remembers the relations it was told of.
type reader struct {
	*wal.Stream
	t testing.TB
}

func (f *fixture) open(start event.LSN) *reader {
	f.t.Helper()
	stream, err := wal.Open(f.t.Context(), f.cfg, start)
	if err != nil {
		f.t.Fatalf("open stream: %v", err)
	}
	r := &reader{stream, f.t}
	f.t.Cleanup(func() { r.close() })
	return r
}

// close ends the stream and frees the slot. A stream that is gone already is fine.
func (r *reader) close() {
	ctx, cancel := context.WithTimeout(afterTest(r.t), patience)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		r.t.Logf("close stream: %v", err)
	}
}

// transaction is what a stream carried between a Begin and its Commit.
type transaction struct {
	ids         []string // first column of each insert
	commit, end event.LSN
}

// next receives until a transaction with rows is complete. Before PostgreSQL 15 one without is sent, too, such as those of autovacuum.
func (r *reader) next() transaction {
	r.t.Helper()
	var tx transaction
	for deadline := time.Now().Add(patience); ; {
		m, err := r.Receive(deadline)
		if err != nil {
			r.t.Fatalf("receive: %v", err)
		}
		if m.Kind == wal.Tick {
			r.t.Fatalf("no transaction within %s", patience)
		}
		if m.Kind != wal.Data {
			continue
		}
		switch m := parse(r.t, m.Data).(type) {
		case *pglogrepl.InsertMessage:
			tx.ids = append(tx.ids, string(m.Tuple.Columns[0].Data))
		case *pglogrepl.CommitMessage:
			tx.commit, tx.end = event.LSN(m.CommitLSN), event.LSN(m.TransactionEndLSN)
			if len(tx.ids) > 0 {
				return tx
			}
		}
	}
}

func parse(t testing.TB, data []byte) pglogrepl.Message {
	t.Helper()
	message, err := pglogrepl.Parse(data)
	if err != nil {
		t.Fatalf("parse %q: %v", data, err)
	}
	return message
}

// nextIDs receives n transactions and returns their inserts.
func (r *reader) nextIDs(n int) string {
	r.t.Helper()
	var ids []string
	for range n {
		ids = append(ids, r.next().ids...)
	}
	return fmt.Sprint(ids)
}

// until receives, confirming nothing, until the condition holds for a message.
func (r *reader) until(what string, holds func(wal.Message) bool) wal.Message {
	r.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		m, err := r.Receive(time.Now().Add(20 * time.Millisecond))
		if err != nil {
			r.t.Fatalf("receive: %v", err)
		}
		if holds(m) {
			return m
		}
	}
	r.t.Fatalf("not within %s: %s", patience, what)
	return wal.Message{}
}
