package park

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
)

// Retry makes the rows that match and wait or are dead due at once, with all their attempts before them. The running instance is told. It
// returns how many there were.
func Retry(ctx context.Context, conn *pgx.Conn, schema, slot string, f Filter, note string) (int, error) {
	return act(ctx, conn, schema, slot, f, "retry", `state = 'waiting', due_at = now(), attempts = 0, blocks = false`, note)
}

// Skip decides that the rows that match and wait or are dead are not delivered. The running instance is told. It returns how many there were.
func Skip(ctx context.Context, conn *pgx.Conn, schema, slot string, f Filter, note string) (int, error) {
	return act(ctx, conn, schema, slot, f, "skip", `state = 'skipped', blocks = false`, note)
}

// act changes rows for a person. It locks the lease's row, whatever the term, so that a session that begins sees all of it or comes
// before.
func act(ctx context.Context, conn *pgx.Conn, schema, slot string, f Filter, action, set, note string) (n int, err error) {
	values := []any{slot, action, note, Channel(slot)}
	condition := f.where(&values) + ` AND p.state IN ('waiting', 'dead')`
	err = conn.QueryRow(ctx, `WITH lease AS MATERIALIZED (SELECT 1 FROM `+lease.Table(schema, "lease")+` WHERE slot = $1 FOR SHARE), changed AS (
			UPDATE `+lease.Table(schema, "parked")+` p SET `+set+` WHERE `+condition+` AND (SELECT count(*) FROM lease) >= 0
			RETURNING p.id, p.sink, p.destination
		), noted AS (
			INSERT INTO `+lease.Table(schema, "audit")+` (slot, id, sink, destination, action, note)
			SELECT $1, id, sink, destination, $2, $3 FROM changed
		)
		SELECT count(*), pg_notify($4, $2) IS NULL FROM changed`, values...).Scan(&n, nil)
	if err != nil {
		return 0, fmt.Errorf("%s parked events: %w", action, lease.Classify(err))
	}
	return n, nil
}

// InsertReplays parks rows that a person wants delivered once more, in one transaction. The running instance is told. It returns how many are
// new.
func InsertReplays(ctx context.Context, conn *pgx.Conn, schema, slot string, rows []Row, note string) (n int, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// A process that stands still between two statements must not keep the lease's row locked: the next session could not raise the term.
		if _, err := tx.Exec(ctx, `SET LOCAL idle_in_transaction_session_timeout = '10s'`); err != nil {
			return lease.Classify(err)
		}
		held := lease.Lease{Schema: schema, Slot: slot}
		err := tx.QueryRow(ctx, `SELECT term FROM `+lease.Table(schema, "lease")+` WHERE slot = $1 FOR SHARE`, slot).Scan(&held.Term)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("slot %q has no lease: outboxd has not run with it yet", slot)
		}
		if err != nil {
			return lease.Classify(err)
		}
		if n, err = Insert(ctx, conn, held, rows); err != nil {
			return err
		}
		return noteReplays(ctx, tx, held, rows, note)
	})
	if err != nil {
		return 0, fmt.Errorf("park replays: %w", err)
	}
	return n, nil
}

func noteReplays(ctx context.Context, tx pgx.Tx, held lease.Lease, rows []Row, note string) error {
	ids, sinks, destinations := make([]string, len(rows)), make([]string, len(rows)), make([]string, len(rows))
	for i := range rows {
		ids[i], sinks[i], destinations[i] = string(rows[i].Event.ID), rows[i].Destination.Sink, rows[i].Destination.Name
	}
	_, err := tx.Exec(ctx, `WITH noted AS (INSERT INTO `+lease.Table(held.Schema, "audit")+` (slot, id, sink, destination, action, note)
			SELECT $1, n.id, n.sink, n.destination, 'replay', $5 FROM unnest($2::text[], $3::text[], $4::text[]) AS n(id, sink, destination))
		SELECT pg_notify($6, 'replay')`, held.Slot, ids, sinks, destinations, note, Channel(held.Slot))
	return lease.Classify(err)
}

// AuditLine is what a person did to an event.
type AuditLine struct {
	At          time.Time
	Action      string // retry, skip or replay
	Destination Destination
	Role        string
	Note        string
}

// Audit returns what people did to the event, oldest first.
func Audit(ctx context.Context, conn *pgx.Conn, schema, slot, id string) ([]AuditLine, error) {
	result, err := conn.Query(ctx, `SELECT at, action, sink, destination, by_role, note FROM `+lease.Table(schema, "audit")+`
		WHERE slot = $1 AND id = $2 ORDER BY at, sink, destination`, slot, id)
	if err != nil {
		return nil, fmt.Errorf("read what was done to event %s: %w", id, lease.Classify(err))
	}
	lines, err := pgx.CollectRows(result, func(row pgx.CollectableRow) (l AuditLine, err error) {
		err = row.Scan(&l.At, &l.Action, &l.Destination.Sink, &l.Destination.Name, &l.Role, &l.Note)
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what was done to event %s: %w", id, lease.Classify(err))
	}
	return lines, nil
}
