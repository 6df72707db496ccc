package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// KeepLimit is max_slot_wal_keep_size in bytes: the server invalidates a slot whose RestartLSN is further than that behind the end of the log.
// It is 0 without a limit, and on PostgreSQL 12, which has none; a limit of 0 is given as 1.
func KeepLimit(ctx context.Context, conn *pgx.Conn) (int64, error) {
	var megabytes int64 // the setting's unit; -1 for no limit
	err := conn.QueryRow(ctx, `SELECT coalesce((SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), -1)`).Scan(&megabytes)
	switch {
	case err != nil:
		return 0, fmt.Errorf("read max_slot_wal_keep_size: %w", err)
	case megabytes < 0:
		return 0, nil
	default:
		return max(1, megabytes<<20), nil
	}
}
