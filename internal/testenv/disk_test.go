package testenv_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/internal/testenv"
)

func TestFullDiskRefusesWritesUntilItIsEmptied(t *testing.T) {
	if err := testenv.CanMount(); err != nil {
		t.Skip(err)
	}
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
