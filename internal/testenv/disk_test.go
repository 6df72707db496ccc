package testenv_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
)

// needMount skips the test by name, in CI too, where the user may not mount: no installation gives that right.
func needMount(t *testing.T) {
	t.Helper()
	if err := testenv.CanMount(); err != nil {
		t.Skip(err)
	}
}

func TestFullDiskOfPostgresRefusesWritesUntilItIsEmptied(t *testing.T) {
	needMount(t)
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Disk: 512 << 20})
	write := func() error {
		conn, err := pgx.Connect(t.Context(), server.URL)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(context.Background()) }()
		_, err = conn.Exec(t.Context(), "CREATE TABLE t AS SELECT repeat(i::text, 100) FROM generate_series(1, 10000) i")
		return err
	}
	if err := server.FillDisk(64 << 10); err != nil {
		t.Fatal(err)
	}
	err := write()
	if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "53100" {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := server.EmptyDisk(); err != nil {
		t.Fatal(err)
	}
	if err := write(); err != nil {
		t.Fatalf("the disk is still full: %v", err)
	}
}

func TestFullDiskEndsARedisThatWritesAlways(t *testing.T) {
	needMount(t)
	server := testenv.NewRedis(t, testenv.RedisOptions{Disk: 16 << 20, Settings: []string{"appendonly yes", "appendfsync always"}})
	write := func() error {
		client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1})
		defer client.Close() //nolint:errcheck // what it wrote counts
		return client.Set(t.Context(), "key", strings.Repeat("x", 64<<10), 0).Err()
	}
	if err := server.FillDisk(0); err != nil {
		t.Fatal(err)
	}
	if write() == nil {
		t.Fatal("the disk is not full")
	}
	eventually(t, "Redis has ended", func() string {
		if server.Running() {
			return "it runs"
		}
		return ""
	})
	if err := server.EmptyDisk(); err != nil {
		t.Fatal(err)
	}
	server.Start()
	if err := write(); err != nil {
		t.Fatalf("the disk is still full: %v", err)
	}
}
