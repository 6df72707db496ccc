package testenv_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/internal/testenv"
)

// standby makes a standby that the test's end closes.
func standby(t *testing.T, of *testenv.PostgresServer) *testenv.PostgresServer {
	t.Helper()
	s, err := of.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Each failover leads to a server whose own standby is made from it.
func TestPromotedStandbyHasEveryCommit(t *testing.T) {
	primary := testenv.NewPostgres(t, testenv.PostgresOptions{TLS: true})
	name := connect(t, primary.Database(t)).Config().Database
	execute(t, connect(t, primary.DatabaseURL(name)), "CREATE TABLE kept (n int)")
	for turn := range 2 {
		next := standby(t, primary)
		conn := connect(t, primary.DatabaseURL(name))
		for i := range 20 {
			execute(t, conn, "INSERT INTO kept VALUES ($1)", 20*turn+i)
		}
		primary.Kill()
		if _, err := connect(t, next.DatabaseURL(name)).Exec(t.Context(), "INSERT INTO kept VALUES (0)"); err == nil {
			t.Fatal("a standby takes writes")
		}
		for range 2 {
			if err := next.Promote(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := ask[int](t, connect(t, next.DatabaseURL(name)), "SELECT count(DISTINCT n) FROM kept"), 20*(turn+1); got != want {
			t.Fatalf("failover %d: %d rows are left of %d", turn+1, got, want)
		}
		if err := primary.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		primary = next
	}
	connect(t, strings.Replace(primary.DatabaseURL(name), "sslmode=disable", "sslmode=require", 1))
}

func TestCommitWaitsForTheStandby(t *testing.T) {
	primary := testenv.NewPostgres(t, testenv.PostgresOptions{})
	conn := connect(t, primary.URL)
	execute(t, conn, "CREATE TABLE kept (n int)")
	next := standby(t, primary)
	execute(t, conn, "INSERT INTO kept VALUES (1)")
	next.Kill()
	execute(t, conn, "SET statement_timeout = '100ms'") // which does not end a commit's wait
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := conn.Exec(ctx, "INSERT INTO kept VALUES (2)")
	if _, refused := errors.AsType[*pgconn.PgError](err); err == nil || refused {
		t.Errorf("without the standby a commit ends with %v", err)
	}
	if err := primary.CaughtUp(ctx); err == nil {
		t.Error("a standby that is down has caught up")
	}
	next.Start()
	if err := primary.CaughtUp(t.Context()); err != nil {
		t.Error(err)
	}
}

func execute(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
