package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Started says when the connection's server was started, to the microsecond. That tells it from every other one, also from a standby that was promoted and its old
// primary: those have the same system identifier, and the same positions for different logs.
func Started(ctx context.Context, conn *pgconn.PgConn) (string, error) {
	row, err := queryRow(ctx, conn, `SELECT pg_postmaster_start_time()::text`)
	if err == nil && len(row) != 1 {
		err = fmt.Errorf("the server answered %d columns, want 1", len(row))
	}
	if err != nil {
		return "", fmt.Errorf("read when the server was started: %w", classify(err))
	}
	return string(row[0]), nil
}

// SameServer refuses, with [ErrOtherServer], another server than the one that was started then, as [Started] says it; "" is any.
func SameServer(ctx context.Context, conn *pgconn.PgConn, started string) error {
	if started == "" {
		return nil
	}
	now, err := Started(ctx, conn)
	if err == nil && now != started {
		err = ErrOtherServer
	}
	return err
}
