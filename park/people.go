package park

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
)

// Filter says which parked rows a person means. What is empty matches all.
type Filter struct {
	IDs                                       []string
	States                                    []State
	Tenant, Topic, AggregateType, AggregateID string
	Sink, Destination                         string
	Reason                                    string    // a part of it, in whatever case
	Before, Since                             time.Time // when the row was parked
}

// where returns the condition on p; $1 is the slot.
func (f *Filter) where(values *[]any) string {
	condition := `p.slot = $1`
	add := func(sql string, value any) {
		*values = append(*values, value)
		condition += ` AND ` + strings.ReplaceAll(sql, "?", fmt.Sprintf("$%d", len(*values)))
	}
	for _, one := range []struct{ column, value string }{
		{"tenant_id", f.Tenant}, {"topic", f.Topic}, {"aggregate_type", f.AggregateType}, {"aggregate_id", f.AggregateID},
		{"sink", f.Sink}, {"destination", f.Destination},
	} {
		if one.value != "" {
			add(`p.`+one.column+` = ?`, one.value)
		}
	}
	if len(f.IDs) > 0 {
		add(`p.id = ANY(?)`, f.IDs)
	}
	if len(f.States) > 0 {
		states := make([]string, len(f.States))
		for i, s := range f.States {
			states[i] = string(s)
		}
		add(`p.state = ANY(?)`, states)
	}
	if f.Reason != "" {
		add(`strpos(lower(p.reason), lower(?)) > 0`, f.Reason)
	}
	if !f.Before.IsZero() {
		add(`p.parked_at < ?`, f.Before)
	}
	if !f.Since.IsZero() {
		add(`p.parked_at >= ?`, f.Since)
	}
	return condition
}

// List returns the rows that match in position order behind the cursor, limit at most.
func List(ctx context.Context, conn *pgx.Conn, schema, slot string, f Filter, after Cursor, limit int) ([]Row, error) {
	p := after.Position
	values := []any{slot, int64(p.Epoch), p.Commit.String(), int64(p.Ordinal), after.ID, after.Replay, limit}
	condition := f.where(&values)
	result, err := conn.Query(ctx, `SELECT `+rowColumns+` FROM `+table(schema, "parked")+` p WHERE `+condition+`
		AND (p.epoch, p.commit_lsn, p.ordinal, p.id, p.replay) > ($2, $3::text::pg_lsn, $4, $5, $6)
		ORDER BY p.epoch, p.commit_lsn, p.ordinal, p.id, p.replay, p.sink, p.destination LIMIT $7`, values...)
	if err != nil {
		return nil, fmt.Errorf("list parked events: %w", classify(err))
	}
	rows, err := pgx.CollectRows(result, scanRow)
	if err != nil {
		return nil, fmt.Errorf("list parked events: %w", classify(err))
	}
	return rows, nil
}

// Matching counts the rows that match.
func Matching(ctx context.Context, conn *pgx.Conn, schema, slot string, f Filter) (n int, err error) {
	values := []any{slot}
	condition := f.where(&values)
	err = conn.QueryRow(ctx, `SELECT count(*) FROM `+table(schema, "parked")+` p WHERE `+condition, values...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count parked events: %w", classify(err))
	}
	return n, nil
}

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
	condition := f.where(&values)
	err = conn.QueryRow(ctx, `WITH lease AS MATERIALIZED (SELECT 1 FROM `+table(schema, "lease")+` WHERE slot = $1 FOR SHARE), changed AS (
			UPDATE `+table(schema, "parked")+` p SET `+set+` WHERE `+condition+` AND p.state IN ('waiting', 'dead')
				AND (SELECT count(*) FROM lease) >= 0
			RETURNING p.id, p.sink, p.destination
		), noted AS (
			INSERT INTO `+table(schema, "audit")+` (slot, id, sink, destination, action, note)
			SELECT $1, id, sink, destination, $2, $3 FROM changed
		)
		SELECT count(*), pg_notify($4, $2) IS NULL FROM changed`, values...).Scan(&n, nil)
	if err != nil {
		return 0, fmt.Errorf("%s parked events: %w", action, classify(err))
	}
	return n, nil
}

// InsertReplays parks rows that a person wants delivered once more. The running instance is told. It returns how many are new.
func InsertReplays(ctx context.Context, conn *pgx.Conn, schema, slot string, rows []Row, note string) (n int, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var lease event.Lease
		lease.Schema, lease.Slot = schema, slot
		err := tx.QueryRow(ctx, `SELECT term FROM `+table(schema, "lease")+` WHERE slot = $1 FOR SHARE`, slot).Scan(&lease.Term)
		if err != nil {
			return fmt.Errorf("slot %q has no lease, so it was never run: %w", slot, classify(err))
		}
		if n, err = Insert(ctx, conn, lease, rows); err != nil {
			return err
		}
		ids, sinks, destinations := make([]string, len(rows)), make([]string, len(rows)), make([]string, len(rows))
		for i := range rows {
			ids[i], sinks[i], destinations[i] = string(rows[i].Event.ID), rows[i].Destination.Sink, rows[i].Destination.Name
		}
		_, err = tx.Exec(ctx, `WITH noted AS (INSERT INTO `+table(schema, "audit")+` (slot, id, sink, destination, action, note)
				SELECT $1, n.id, n.sink, n.destination, 'replay', $5 FROM unnest($2::text[], $3::text[], $4::text[]) AS n(id, sink, destination))
			SELECT pg_notify($6, 'replay')`, slot, ids, sinks, destinations, note, Channel(slot))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("park replays: %w", err)
	}
	return n, nil
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
	result, err := conn.Query(ctx, `SELECT at, action, sink, destination, by_role, note FROM `+table(schema, "audit")+`
		WHERE slot = $1 AND id = $2 ORDER BY at`, slot, id)
	if err != nil {
		return nil, fmt.Errorf("read what was done to event %s: %w", id, classify(err))
	}
	lines, err := pgx.CollectRows(result, func(row pgx.CollectableRow) (l AuditLine, err error) {
		err = row.Scan(&l.At, &l.Action, &l.Destination.Sink, &l.Destination.Name, &l.Role, &l.Note)
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what was done to event %s: %w", id, classify(err))
	}
	return lines, nil
}
