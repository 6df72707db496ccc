package park

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
)

// A Querier runs one statement: a *pgx.Conn, a pgx.Tx or a *pgxpool.Pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Raise begins a session: it raises the slot's term and returns the lease that the session's statements show. It waits for writes
// of the session before that have begun. holder says for people who the session is (host and process, for example).
func Raise(ctx context.Context, db Querier, schema, slot, holder string) (event.Lease, error) {
	lease := event.Lease{Schema: schema, Slot: slot}
	err := db.QueryRow(ctx, raiseSQL(schema), slot, holder).Scan(&lease.Term)
	if err != nil {
		return event.Lease{}, fmt.Errorf("raise the term of slot %q in schema %q: %w", slot, schema, classify(err))
	}
	return lease, nil
}

// Check returns [event.ErrTermLost] when a later session has raised the term, as of now: it may be raised right behind the answer.
func Check(ctx context.Context, db Querier, lease event.Lease) error {
	var ours bool
	err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+table(lease.Schema, "lease")+` WHERE slot = $1 AND term = $2)`, lease.Slot, lease.Term).Scan(&ours)
	switch {
	case err != nil:
		return fmt.Errorf("check the term of slot %q: %w", lease.Slot, classify(err))
	case !ours:
		return event.ErrTermLost
	default:
		return nil
	}
}

func raiseSQL(schema string) string {
	return `INSERT INTO ` + table(schema, "lease") + ` AS l (slot, term, holder)
		VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $2)
		ON CONFLICT (slot) DO UPDATE SET term = l.term + 1, holder = excluded.holder, raised_at = now()
		RETURNING term`
}
