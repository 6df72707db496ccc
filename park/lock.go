package park

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Channel is the name of the notification channel by which commands tell the running instance that they changed something.
func Channel(slot string) string { return "outboxd_" + slot }

// lockKey is the key of the lock, as SQL.
const lockKey = `hashtextextended('outboxd ' || $1::text || ' ' || $2::text, 0)`

// Lock waits until no other session holds the lock of the slot, and takes it. It lives as long as conn: when its process dies, or the server finds
// the connection broken, the next one that waits has it.
func Lock(ctx context.Context, conn *pgx.Conn, schema, slot string) error {
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(`+lockKey+`)`, schema, slot); err != nil {
		return fmt.Errorf("wait for the lock of slot %q: %w", slot, err)
	}
	return nil
}

// TryLock takes the lock if no other session holds it.
func TryLock(ctx context.Context, conn *pgx.Conn, schema, slot string) (taken bool, err error) {
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(`+lockKey+`)`, schema, slot).Scan(&taken); err != nil {
		return false, fmt.Errorf("take the lock of slot %q: %w", slot, err)
	}
	return taken, nil
}
