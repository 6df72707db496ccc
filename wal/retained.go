package wal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// RetainedBytes is how much log lies between the slot's confirmed position and the end of the log: what a consumer that is confirmed up to
// date would set free. It is one cheap statement, for a primary only. Without such a slot the error is [ErrSlotMissing].
func RetainedBytes(ctx context.Context, conn *pgx.Conn, slot string) (int64, error) {
	var retained int64
	err := conn.QueryRow(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
		FROM pg_replication_slots WHERE slot_name = $1`, slot).Scan(&retained)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrSlotMissing
	}
	if err != nil {
		return 0, fmt.Errorf("read what slot %q holds back: %w", slot, err)
	}
	return retained, nil
}

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
