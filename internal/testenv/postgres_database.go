package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Database creates an empty database and returns its URL. At the test's end its sessions are ended, its replication slots dropped, and
// then it is dropped itself.
func (p *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := "outboxd_" + strings.ToLower(rand.Text())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// template0 admits no sessions, so that several tests may create at once.
	if err := p.query(ctx, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		if p.owner != nil && !p.Running() {
			return // the test killed it, and its end removes it; a shared one is asked only under its lock
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own is over
		defer cancel()
		if err := p.drop(ctx, name); err != nil {
			t.Errorf("drop database %s: %v", name, err)
		}
	})
	return p.DatabaseURL(name)
}

func (p *PostgresServer) drop(ctx context.Context, name string) (err error) {
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	// A synchronous standby may be gone.
	if _, err := conn.Exec(ctx, "SET synchronous_commit = local; ALTER DATABASE "+name+" ALLOW_CONNECTIONS false"); err != nil {
		return err
	}
	if err := p.dropSlots(ctx, conn, name); err != nil {
		return err
	}
	force := ""
	if p.Major >= 13 {
		force = " WITH (FORCE)"
	}
	_, err = conn.Exec(ctx, "DROP DATABASE "+name+force)
	return err
}

// dropSlots ends the database's sessions, walsenders among them, until they are gone and with them the last use of its slots.
func (p *PostgresServer) dropSlots(ctx context.Context, conn *pgx.Conn, name string) error {
	const busy = `SELECT
		(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1) +
		(SELECT count(*) FROM pg_replication_slots WHERE database = $1 AND active)`
	for {
		var sessions int
		if err := conn.QueryRow(ctx, busy, name).Scan(&sessions); err != nil {
			return fmt.Errorf("end its sessions: %w", err)
		}
		if sessions == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end its sessions: %d remain: %w", sessions, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	_, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1", name)
	if err != nil {
		return fmt.Errorf("drop its replication slots: %w", err)
	}
	return nil
}
