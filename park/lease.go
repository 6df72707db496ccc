package park

import (
	"context"
	"fmt"

	"github.com/outboxd/outboxd/lease"
)

// Raise begins a session: it raises the slot's term and returns the lease that the session's statements show. It waits for writes
// of the session before that have begun. holder says for people who the session is (host and process, for example).
func Raise(ctx context.Context, db lease.Querier, schema, slot, holder string) (lease.Lease, error) {
	held := lease.Lease{Schema: schema, Slot: slot}
	err := db.QueryRow(ctx, raiseSQL(schema), slot, holder).Scan(&held.Term, nil)
	if err != nil {
		return lease.Lease{}, fmt.Errorf("raise the term of slot %q in schema %q: %w", slot, schema, lease.Classify(err))
	}
	return held, nil
}

// Check returns [lease.ErrTermLost] when a later session has raised the term, as of now: it may be raised right behind the answer.
func Check(ctx context.Context, db lease.Querier, held lease.Lease) error {
	var ours bool
	err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+lease.Table(held.Schema, "lease")+` WHERE slot = $1 AND term = $2)`, held.Slot, held.Term).Scan(&ours)
	switch {
	case err != nil:
		return fmt.Errorf("check the term of slot %q: %w", held.Slot, lease.Classify(err))
	case !ours:
		return lease.ErrTermLost
	default:
		return nil
	}
}

func raiseSQL(schema string) string {
	return `INSERT INTO ` + lease.Table(schema, "lease") + ` AS l (slot, term, holder)
		VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $2)
		ON CONFLICT (slot) DO UPDATE SET term = l.term + 1, holder = excluded.holder, raised_at = now()
		RETURNING term, ` + lease.Durable
}
