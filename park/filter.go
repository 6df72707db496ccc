package park

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
)

// Filter says which parked rows a person means. What is empty matches all.
type Filter struct {
	IDs                                       []string
	States                                    []State
	Tenant, Topic, AggregateType, AggregateID string
	Sink, Destination                         string
	Reason                                    string    // a part of it, in whatever case
	Before, Since                             time.Time // when the row was parked
	WithPayload                               bool      // of List: otherwise payloads are left out
}

// where returns the condition on p, and appends its parameters to values; $1 is the slot.
func (f *Filter) where(values *[]any) string {
	condition := `p.slot = $1`
	add := func(sql string, value any) {
		*values = append(*values, value)
		condition += ` AND ` + strings.ReplaceAll(sql, "?", fmt.Sprintf("$%d", len(*values)))
	}
	for _, one := range []struct{ column, value string }{
		{"tenant_id", f.Tenant},
		{"topic", f.Topic},
		{"aggregate_type", f.AggregateType},
		{"aggregate_id", f.AggregateID},
		{"sink", f.Sink},
		{"destination", f.Destination},
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

// List returns the rows that match in position order behind the cursor, limit at most. It reads all that match for each call.
func List(ctx context.Context, conn *pgx.Conn, schema, slot string, f Filter, after Cursor, limit int) ([]Row, error) {
	p := after.Position
	values := []any{
		slot, int64(p.Epoch), p.Commit.String(), int64(p.Ordinal), after.ID, after.Replay, after.Destination.Sink, after.Destination.Name, limit,
	}
	condition := f.where(&values)
	selected := rowColumns
	if !f.WithPayload {
		selected = strings.Replace(rowColumns, "p.payload", "NULL::text", 1)
	}
	const order = inOrder + `, p.sink, p.destination`
	sql := `SELECT ` + selected + ` FROM ` + lease.Table(schema, "parked") + ` p WHERE ` + condition + `
		AND (` + order + `) > ($2::bigint, $3::text::pg_lsn, $4::bigint, $5::text, $6::integer, $7::text, $8::text) ORDER BY ` + order + ` LIMIT $9`
	result, err := conn.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, values...)...)
	if err != nil {
		return nil, fmt.Errorf("list parked events: %w", lease.Classify(err))
	}
	var r rowReader
	for result.Next() {
		r.read(&cells{values: result.RawValues()})
	}
	if err := result.Err(); err != nil {
		return nil, fmt.Errorf("list parked events: %w", lease.Classify(err))
	}
	return r.rows, nil
}

// Matching counts the rows that match.
func Matching(ctx context.Context, conn *pgx.Conn, schema, slot string, f Filter) (n int, err error) {
	values := []any{slot}
	condition := f.where(&values)
	err = conn.QueryRow(ctx, `SELECT count(*) FROM `+lease.Table(schema, "parked")+` p WHERE `+condition, values...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count parked events: %w", lease.Classify(err))
	}
	return n, nil
}
