package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/outbox"
)

// checkTable sees whether rows can be settled as configured.
func checkTable(ctx context.Context, d *database) ([]Finding, error) {
	if d.server != nil && d.server.TableOwner == "" {
		return nil, nil // there is no such table, which is told
	}
	table, err := outbox.Describe(ctx, d.conn, d.Outbox)
	if err == nil {
		d.table = table
		return []Finding{ok("table", "rows of %s.%s can be settled (on_sent: %s)", d.WAL.Schema, d.WAL.Table, d.Outbox.WithDefaults().OnSent)}, nil
	}
	if ctx.Err() != nil || d.conn.IsClosed() {
		return nil, err
	}
	return describeFindings(err), nil
}

// describeFindings takes an error of outbox.Describe apart: "PROBLEM: MEND", several where it joins several.
func describeFindings(err error) (findings []Finding) {
	prefix, problems := "", []error{err}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		if joined, ok := inner.(interface{ Unwrap() []error }); ok { //nolint:errorlint // it is looked for on the way down
			problems = joined.Unwrap()
			prefix = strings.TrimSuffix(err.Error(), inner.Error())
			break
		}
	}
	for _, p := range problems {
		saw, mend := prefix+p.Error(), ""
		if i := strings.LastIndex(saw, ": "); i >= 0 {
			saw, mend = saw[:i], saw[i+2:]
		}
		findings = append(findings, found(Error, "table", saw, "delivered rows cannot be settled, and outboxd run refuses to start", mend))
	}
	return findings
}

// column is what the catalog says of a column of the outbox table.
type column struct {
	Name, Type string // the type without its length
	NotNull    bool
	Default    bool // it has one
}

func checkColumns(ctx context.Context, d *database) ([]Finding, error) {
	rows, err := d.conn.Query(ctx, `SELECT a.attname, format_type(b.oid, NULL), m.required, a.atthasdef
		FROM pg_attribute a `+outbox.JoinBaseType+`
		WHERE a.attrelid = (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)
			AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, d.WAL.Schema, d.WAL.Table)
	if err != nil {
		return nil, err
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil || len(columns) == 0 {
		return nil, err
	}
	d.columns = map[string]column{}
	for _, c := range columns {
		d.columns[c.Name] = c
	}
	return columnFindings(d.Outbox.WithDefaults(), d.columns), nil
}

// checkPartitionKey sees whether updates move rows between partitions. The columns of a key depend on their table as its own parts do, those of expressions
// too. Source: https://www.postgresql.org/docs/current/catalog-pg-depend.html
func checkPartitionKey(ctx context.Context, d *database) ([]Finding, error) {
	c := d.Outbox.WithDefaults().Columns
	rows, err := d.conn.Query(ctx, `SELECT DISTINCT quote_ident(a.attname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_partition_tree(c.oid) p
		JOIN pg_depend k ON k.classid = 'pg_class'::regclass AND k.refclassid = 'pg_class'::regclass AND k.deptype = 'i'
			AND k.objid = p.relid AND k.refobjid = p.relid AND k.objsubid > 0 AND k.refobjsubid = 0
		JOIN pg_attribute a ON a.attrelid = p.relid AND a.attnum = k.objsubid
		WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = ANY($3) ORDER BY 1`,
		d.WAL.Schema, d.WAL.Table, []string{c.Status, c.RetryCount, c.RetryAfter, c.ErrorMessage})
	if err != nil {
		return nil, err
	}
	changing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(changing) == 0 {
		return nil, err
	}
	return []Finding{found(Warning, "partition_key", "rows move to another partition when they change: the table is partitioned by "+strings.Join(changing, ", "),
		"the log has such a move as an insert: the event of a row that is NEW there is delivered again; and statements that meet a row on its way fail",
		"partition by a column that never changes, such as created_at")}, nil
}

var (
	textTypes = []string{"text", "character varying", "character"}
	jsonTypes = append([]string{"json", "jsonb"}, textTypes...)
	timeTypes = []string{"timestamp with time zone"}

	anyTimeTypes = append(timeTypes[:1:1], "timestamp without time zone")
)

// use is what a column is for.
type use struct {
	column, setting string
	types           []string // that serve; nil for any
	why             string   // when it is of another type
	notNull         string   // why it must not be NULL; "" where it may
}

func usesOf(c outbox.Columns) []use {
	dead := "an event with a NULL there is dead at once"
	return []use{
		{c.ID, "id", nil, "", "a row without an id stops the stream"},
		{c.TenantID, "tenant_id", nil, "", dead},
		{c.Topic, "topic", nil, "", dead},
		{c.Payload, "payload", append([]string{"bytea"}, jsonTypes...), "its text form is delivered as it is", ""},
		{c.Metadata, "event_metadata", jsonTypes, "it is no JSON object, and is not passed on as one", ""},
		{c.OccurredAt, "occurred_at", timeTypes, "without a time zone it is taken for UTC, and another type for no time at all", ""},
		{c.RetryCount, "retry_count", []string{"smallint", "integer", "bigint", "numeric"}, "how often an event was refused is not shown there", ""},
		{c.RetryAfter, "retry_after", anyTimeTypes, "when an event is tried again is not shown there", ""},
		{c.ErrorMessage, "error_message", []string{"text", "character varying"}, "why an event was refused is not shown there", ""},
		{c.CreatedAt, "created_at", anyTimeTypes, "rows that are older than the slot have no order, and none is cleaned up by age", ""},
	}
}

func columnFindings(o outbox.Config, columns map[string]column) (findings []Finding) {
	for _, u := range usesOf(o.Columns) {
		c, there := columns[u.column]
		switch {
		case !there:
			continue // what is needed is told by the check of the server
		case u.types != nil && !slices.Contains(u.types, c.Type):
			findings = append(findings, found(Warning, "column_type", fmt.Sprintf("column %q has the type %s", c.Name, c.Type), u.why,
				fmt.Sprintf("ALTER TABLE ... ALTER COLUMN %s TYPE %s, or name another column (database.columns.%s)", quote(c.Name), u.types[0], u.setting)))
		case u.notNull != "" && !c.NotNull:
			findings = append(findings, found(Warning, "column_null", fmt.Sprintf("column %q may be NULL", c.Name), u.notNull,
				fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", quote(o.Schema, o.Table), quote(c.Name))))
		}
	}
	if len(findings) == 0 {
		findings = append(findings, ok("columns", "the columns have types that serve"))
	}
	return findings
}
