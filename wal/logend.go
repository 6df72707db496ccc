package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
)

// LogEnd returns the server's insert position: whatever was committed before the call lies before it. It may not be on the disk yet. A standby has none.
// Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-BACKUP
func LogEnd(ctx context.Context, conn *pgx.Conn) (event.LSN, error) {
	var text string
	if err := conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return 0, fmt.Errorf("read the end of the log: %w", err)
	}
	return event.ParseLSN(text)
}
