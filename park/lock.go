package park

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// Channel is the name of the notification channel by which commands tell the running instance that they changed something. The names of
// long slots are cut and told apart by a hash, since a channel's name has 63 bytes at most.
func Channel(slot string) string {
	const most, kept = 63, 38
	name := "outboxd_" + slot
	if len(name) > most {
		return fmt.Sprintf("%s_%016x", name[:kept], event.HashKey([]byte(slot)))
	}
	return name
}

// lockKey is the key of the lock, as SQL.
const lockKey = `hashtextextended('outboxd ' || $1::text || ' ' || $2::text, 0)`

// Lock waits until no other session holds the lock of the slot, and takes it. It lives as long as conn: when its process dies, or the server finds
// the connection broken, the next one that waits has it. A time limit of the role or the database for locks or statements does not end the wait.
//
// A statement that waits holds a snapshot, which keeps VACUUM from removing dead rows in the whole database. So it is begun anew
// once a minute.
func Lock(ctx context.Context, conn *pgx.Conn, schema, slot string) error {
	if _, err := conn.Exec(ctx, `SET lock_timeout = '1min'`); err != nil {
		return fmt.Errorf("wait for the lock of slot %q: %w", slot, err)
	}
	for {
		_, err := conn.Exec(ctx, `SELECT pg_advisory_lock(`+lockKey+`)`, schema, slot)
		if err == nil {
			_, err = conn.Exec(ctx, `RESET lock_timeout`)
			return err
		}
		if lease.HasCode(err, lease.LockNotAvailable, lease.QueryCanceled) && ctx.Err() == nil { // lock_timeout or statement_timeout
			continue
		}
		return fmt.Errorf("wait for the lock of slot %q: %w", slot, err)
	}
}

// TryLock takes the lock if no other session holds it. A session that holds it already takes it once more.
func TryLock(ctx context.Context, conn *pgx.Conn, schema, slot string) (taken bool, err error) {
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(`+lockKey+`)`, schema, slot).Scan(&taken); err != nil {
		return false, fmt.Errorf("take the lock of slot %q: %w", slot, err)
	}
	return taken, nil
}

// Slots returns the names of all slots that a session was begun on with this schema, or [lease.ErrNotMigrated].
func Slots(ctx context.Context, conn *pgx.Conn, schema string) (slots []string, err error) {
	err = query(ctx, conn, `SELECT slot FROM `+lease.Table(schema, "lease")+` ORDER BY slot`, func(c *cells) { slots = append(slots, string(c.bytes())) })
	if err != nil {
		return nil, fmt.Errorf("list the slots of schema %q: %w", schema, err)
	}
	return slots, nil
}

// ofLock is the condition that a row of pg_locks is about the lock of the schema $1 and the slot $2.
// Source: https://www.postgresql.org/docs/current/view-pg-locks.html
const ofLock = `locktype = 'advisory' AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND (classid::bigint << 32 | objid::bigint) = ` + lockKey

// WaitersSQL is an expression: how many sessions wait for the lock of the schema $1 and the slot $2.
const WaitersSQL = `(SELECT count(*) FROM pg_locks WHERE ` + ofLock + ` AND NOT granted)`
