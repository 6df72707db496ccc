package park

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
)

// maxReason is how many characters of a reason are kept.
const maxReason = 500

// Insert parks rows, durably, by one statement. A row that is there already stays as it is. It returns how many are new.
func Insert(ctx context.Context, conn *pgx.Conn, lease event.Lease, rows []Row) (int, error) {
	return insert(ctx, conn, lease, rows, "")
}

// InsertMissing is Insert, but leaves out rows of events that have a row for the same target, of whatever partition: their place is known.
func InsertMissing(ctx context.Context, conn *pgx.Conn, lease event.Lease, rows []Row) (int, error) {
	return insert(ctx, conn, lease, rows, ` AND NOT EXISTS (SELECT FROM `+table(lease.Schema, "parked")+` p
		WHERE p.slot = $1 AND p.id = n.id AND p.replay = n.replay AND p.sink = n.sink AND p.target = n.target)`)
}

func insert(ctx context.Context, conn *pgx.Conn, lease event.Lease, rows []Row, unless string) (int, error) {
	if len(rows) == 0 {
		return 0, nil
	}
	sql := leaseCTE(lease.Schema) + `, parked AS (` + insertSQL(lease.Schema) + ` WHERE EXISTS (SELECT FROM lease)` + unless + `
		ON CONFLICT DO NOTHING RETURNING 1)` + answer("parked")
	n, err := write(ctx, conn, lease, sql, rowArrays(rows), 0)
	if err != nil {
		return 0, fmt.Errorf("park %d events: %w", len(rows), err)
	}
	return n, nil
}

// columns are those of a row that is written, with the type of each array.
var columns = []struct{ name, array string }{
	{"id", "text"}, {"replay", "int4"}, {"sink", "text"}, {"destination", "text"}, {"target", "text"}, {"state", "text"},
	{"epoch", "int8"}, {"commit_lsn", "pg_lsn"}, {"ordinal", "int8"}, {"key_hash", "int8"},
	{"attempts", "int4"}, {"due_at", "timestamptz"}, {"reason", "text"}, {"blocks", "bool"},
	{"landed_epoch", "int8"}, {"landed_lsn", "pg_lsn"}, {"landed_ordinal", "int8"}, {"committed_at", "timestamptz"}, {"bytes", "int4"},
	{"tenant_id", "text"}, {"topic", "text"}, {"aggregate_type", "text"}, {"aggregate_id", "text"}, {"occurred_at", "text"},
	{"schema_id", "text"}, {"schema_version", "text"}, {"payload", "text"}, {"metadata", "text"},
}

// firstColumn is the number of the first array parameter.
const firstColumn = 3

// insertSQL is INSERT ... SELECT from the arrays $3 and so on, as n; a condition may follow.
func insertSQL(schema string) string {
	names, values, arrays := "", "", ""
	for i, c := range columns {
		separator := ", "
		if i == len(columns)-1 {
			separator = ""
		}
		names += c.name + separator
		arrays += fmt.Sprintf("$%d::%s[]%s", i+firstColumn, c.array, separator)
		switch c.name {
		case "due_at":
			values += "coalesce(n.due_at, now())" + separator
		default:
			values += "n." + c.name + separator
		}
	}
	return `INSERT INTO ` + table(schema, "parked") + ` (slot, ` + names + `) SELECT $1, ` + values +
		` FROM unnest(` + arrays + `) AS n(` + names + `)`
}

// rowArrays returns the parameters of insertSQL.
func rowArrays(rows []Row) [][]byte {
	n := len(rows)
	all := make([]*array, len(columns))
	for i, c := range columns {
		switch c.array {
		case "text":
			all[i] = texts(n, 16)
		case "int4":
			all[i] = ints(n)
		case "int8":
			all[i] = longs(n)
		case "pg_lsn":
			all[i] = lsns(n)
		case "bool":
			all[i] = bools(n)
		default:
			all[i] = times(n)
		}
	}
	for i := range rows {
		appendRow(all, &rows[i])
	}
	values := make([][]byte, len(all))
	for i, a := range all {
		values[i] = a.done()
	}
	return values
}

// appendRow appends a row's values, in the order of columns.
func appendRow(all []*array, r *Row) {
	next := 0
	column := func() *array { next++; return all[next-1] }
	e := &r.Event
	column().bytes(e.ID)
	column().int32(int32(r.Replay))
	column().text(r.Destination.Sink)
	column().text(r.Destination.Name)
	column().text(r.Target)
	column().text(string(r.state()))
	column().int64(int64(e.Position.Epoch))
	column().int64(int64(e.Position.Commit))
	column().int64(int64(e.Position.Ordinal))
	column().int64(int64(r.Key))
	column().int32(int32(r.Attempts))
	column().time(r.Due)
	column().bytes(reasonOf(r.Reason))
	column().bool(r.Blocks)
	if r.LandedAfter.IsZero() {
		column().null()
		column().null()
		column().null()
	} else {
		column().int64(int64(r.LandedAfter.Epoch))
		column().int64(int64(r.LandedAfter.Commit))
		column().int64(int64(r.LandedAfter.Ordinal))
	}
	column().time(r.Committed)
	column().int32(int32(e.Size()))
	for _, text := range [][]byte{
		e.TenantID, e.Topic, e.AggregateType, e.AggregateID, e.OccurredAt, e.SchemaID, e.SchemaVersion, e.Payload, e.Metadata,
	} {
		column().bytes(text)
	}
}

func (r *Row) state() State {
	if r.State == "" {
		return Waiting
	}
	return r.State
}

// reasonOf cuts a reason to what is kept, in whole characters; an empty one is NULL.
func reasonOf(reason string) []byte {
	if reason == "" {
		return nil
	}
	if utf8.RuneCountInString(reason) > maxReason {
		reason = string([]rune(reason)[:maxReason])
	}
	b := make([]byte, 0, len(reason))
	for _, c := range reason { // a broker's words may hold what no text of PostgreSQL can
		if c != 0 {
			b = utf8.AppendRune(b, c)
		}
	}
	return b
}
