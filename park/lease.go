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

func raiseSQL(schema string) string {
	return `INSERT INTO ` + table(schema, "lease") + ` AS l (slot, term, holder)
		VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $2)
		ON CONFLICT (slot) DO UPDATE SET term = l.term + 1, holder = excluded.holder, raised_at = now()
		RETURNING term`
}
