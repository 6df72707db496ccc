package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
)

// Table is the outbox as Describe found it. It may be used by several goroutines. It does not change, but for where Finish goes on, and whether
// it takes mirrors.
type Table struct {
	config   Config   // without the columns that the table lacks
	change   string   // the UPDATE or DELETE of settling; $3 are the ids
	statuses [][]byte // its parameters from $4 on

	id  column
	has map[string]column // all columns, by name

	statusIndex, retryIndex bool  // an index begins with that column
	mayLock                 bool  // rows of it: the role may update something in them
	mayDelete               bool  // rows of it
	unreadable              error // why it cannot be read as events
	unwalkable              error // why it cannot be read in the order of ids

	replayed int64 // rows created up to then, in microseconds since 1970, may have been replayed from the log

	finishing  cursor
	unmirrored atomic.Bool // it has refused what a mirror writes
}

// column is what the catalog says of one column.
type column struct {
	name      string
	number    int16
	elements  string // its type without length, always with the schema, for the array of ids
	shown     string // its type as people know it
	maxLength int    // in characters; 0 without limit
	exact     string // its type with length or precision; valid SQL for types of pg_catalog
	labels    []string
	required  bool // it may not be NULL
	generated bool // from other columns
	defaulted bool // where a row names no value
	mayRead   bool
	mayUpdate bool
}

// relation is what the catalog says of the table.
type relation struct {
	oid       uint32
	kind      string // pg_class.relkind
	filtered  bool   // row security applies to this role
	mayUse    bool   // the schema
	mayDelete bool
}

// Describe looks the table up and checks that the configured OnSent works on it: columns, statuses that fit, an index on the id, the role's
// rights. An error names the statement or the setting that mends it. config is used with its defaults.
func Describe(ctx context.Context, db lease.Querier, config Config) (*Table, error) {
	config = config.WithDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	t, err := describe(ctx, db, config)
	if err != nil {
		return nil, fmt.Errorf("describe outbox table %s: %w", config.quoted(), err)
	}
	return t, nil
}

func describe(ctx context.Context, db lease.Querier, config Config) (*Table, error) {
	r, err := loadRelation(ctx, db, config)
	if err != nil {
		return nil, err
	}
	columns, err := loadColumns(ctx, db, r.oid)
	if err != nil {
		return nil, err
	}
	id, err := find(columns, config.Columns.ID, "columns.id")
	if err != nil {
		return nil, err
	}
	indexes, err := loadIndexes(ctx, db, r.oid)
	if err != nil {
		return nil, err
	}
	t := &Table{config: config, id: id, has: make(map[string]column, len(columns)), mayDelete: r.mayDelete}
	for _, c := range columns {
		t.has[c.name] = c
		t.mayLock = t.mayLock || c.mayUpdate
	}
	t.unreadable = t.dropAbsent()
	t.useIndexes(indexes, r)
	if err := t.loadReplayed(ctx, db); err != nil {
		return nil, err
	}
	if err := checkDue(config, r, t.has[config.Columns.Status]); err != nil {
		return nil, err
	}
	if config.OnSent == Keep {
		return t, nil
	}
	if err := checkAccess(config, r, id); err != nil {
		return nil, err
	}
	if err := checkIndex(config, indexes, r, id); err != nil {
		return nil, err
	}
	return t, t.prepareChange(config, id, columns)
}

const relationSQL = `SELECT c.oid, c.relkind::text, row_security_active(c.oid), has_schema_privilege(n.oid, 'USAGE'),
		has_table_privilege(c.oid, 'DELETE')
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = $1 AND c.relname = $2`

func loadRelation(ctx context.Context, db lease.Querier, config Config) (r relation, err error) {
	err = db.QueryRow(ctx, relationSQL, config.Schema, config.Table).
		Scan(&r.oid, &r.kind, &r.filtered, &r.mayUse, &r.mayDelete)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, errors.New("there is no such table: set database.table, or run outboxd migrate up to create it")
	}
	if err == nil && r.kind != "r" && r.kind != "p" {
		err = errors.New("it is not a table: set database.table to the table that the application inserts into")
	}
	return r, err
}

// JoinBaseType goes into a FROM behind pg_attribute a: b is the row of pg_type of the column's type, behind all domains, and m.typmod its modifier;
// m.required says that the column, or one of these domains, is NOT NULL.
// Source: https://www.postgresql.org/docs/current/catalog-pg-type.html
const JoinBaseType = `CROSS JOIN LATERAL (
		WITH RECURSIVE m AS (SELECT a.atttypid AS oid, a.atttypmod AS typmod, a.attnotnull AS required
			UNION ALL SELECT d.typbasetype, d.typtypmod, m.required OR d.typnotnull FROM m JOIN pg_catalog.pg_type d ON d.oid = m.oid AND d.typtype = 'd')
		TABLE m
	) m
	JOIN pg_catalog.pg_type b ON b.oid = m.oid AND b.typtype <> 'd'`

const columnsSQL = `SELECT a.attname, a.attnum, format('%I.%I', n.nspname, b.typname), format_type(a.atttypid, a.atttypmod),
		CASE WHEN b.typname IN ('varchar', 'bpchar') AND m.typmod > 4 THEN m.typmod - 4 ELSE 0 END, format_type(b.oid, m.typmod),
		ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid), m.required, a.attgenerated <> '', a.atthasdef,
		has_column_privilege(a.attrelid, a.attnum, 'SELECT'), has_column_privilege(a.attrelid, a.attnum, 'UPDATE')
	FROM pg_catalog.pg_attribute a
	` + JoinBaseType + `
	JOIN pg_catalog.pg_namespace n ON n.oid = b.typnamespace
	WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped`

func loadColumns(ctx context.Context, db lease.Querier, oid uint32) ([]column, error) {
	rows, err := db.Query(ctx, columnsSQL, oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) {
		err = row.Scan(&c.name, &c.number, &c.elements, &c.shown, &c.maxLength, &c.exact, &c.labels, &c.required, &c.generated, &c.defaulted, &c.mayRead, &c.mayUpdate)
		return c, err
	})
}

func find(columns []column, name, setting string) (column, error) {
	var names []string
	for _, c := range columns {
		if c.name == name {
			return c, nil
		}
		names = append(names, c.name)
	}
	return column{}, fmt.Errorf("it has no column %q: set %s to one of %s", name, setting, strings.Join(names, ", "))
}

// checkDue finds out what would keep rows that are due from being found, whatever becomes of them later.
func checkDue(config Config, r relation, status column) error {
	switch {
	case r.filtered:
		return fmt.Errorf("row security hides rows from the role, which would never be delivered or settled: give it BYPASSRLS, "+
			"or a policy for all rows and ALTER TABLE %s DISABLE ROW LEVEL SECURITY", config.quoted())
	case status.elements == "pg_catalog.bpchar":
		return fmt.Errorf("column %q is %s, whose values the log pads with blanks, so that no row would be taken for new: ALTER TABLE %s ALTER COLUMN %s TYPE varchar",
			status.name, status.shown, config.quoted(), quote(status.name))
	case status.elements == "pg_catalog.bool":
		return fmt.Errorf("column %q is boolean, which the log and the statements of outboxd spell in different ways, so that rows that are due would not be found: "+
			"ALTER TABLE %s ALTER COLUMN %[3]s TYPE varchar, whose values are then false and true (statuses)", status.name, config.quoted(), quote(status.name))
	}
	return nil
}

// checkAccess finds out what would make a settle change nothing, or fail.
func checkAccess(config Config, r relation, id column) error {
	table := config.quoted()
	switch {
	case !r.mayUse:
		return fmt.Errorf("the role may not use its schema: GRANT USAGE ON SCHEMA %s TO it", quote(config.Schema))
	case !id.mayRead:
		return fmt.Errorf("the role may not read it: GRANT SELECT ON %s TO it", table)
	case config.OnSent == Delete && !r.mayDelete:
		return fmt.Errorf("the role may not delete its rows, as on_sent: delete does: GRANT DELETE ON %s TO it", table)
	}
	return nil
}

// prepareChange builds the UPDATE or DELETE.
func (t *Table) prepareChange(config Config, id column, columns []column) error {
	named := `o.` + quote(id.name) + ` = ANY(ARRAY(SELECT unnest($3::` + id.elements + `[])))`
	status, err := find(columns, config.Columns.Status, "columns.status")
	if config.OnSent == Delete {
		t.change = `DELETE FROM ` + config.quoted() + ` o WHERE ` + named
		if err == nil { // a table without a status has only fresh rows
			t.change += andNew(status)
			t.statuses = [][]byte{[]byte(config.Statuses.New)}
			return errors.Join(checkStatus(status, config.Statuses.New), t.checkUpdate(status))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w, or on_sent to delete or keep", err)
	}
	if status.generated {
		return fmt.Errorf("column %q is generated, so that no row can be marked: set on_sent to delete or keep", status.name)
	}
	if err := t.checkUpdate(status); err != nil {
		return err
	}
	t.change = `UPDATE ` + config.quoted() + ` o SET ` + quote(status.name) + ` = $5 WHERE ` + named + andNew(status)
	t.statuses = [][]byte{[]byte(config.Statuses.New), []byte(config.Statuses.Sent)}
	return errors.Join(checkStatus(status, config.Statuses.New), checkStatus(status, config.Statuses.Sent))
}

// checkUpdate makes sure that the role may change what settling and mirroring change.
func (t *Table) checkUpdate(status column) error {
	var missing []string
	for _, c := range append([]column{status}, t.mirrored()...) {
		if !c.mayUpdate {
			missing = append(missing, quote(c.name))
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("the role may not mark its rows: GRANT UPDATE (%s) ON %s TO it", strings.Join(missing, ", "), t.config.quoted())
}

// andNew is the condition that the row is still NEW, in a form that no index serves. Where statistics are absent or say that hardly a row
// is NEW, the planner would otherwise read all NEW rows by an index on the status, and compare each with the ids.
func andNew(status column) string { return ` AND (o.` + quote(status.name) + ` = $4) IS TRUE` }

// checkStatus makes sure that the column can hold the value.
func checkStatus(c column, value string) error {
	if !c.mayRead {
		return fmt.Errorf("the role may not read column %q: GRANT SELECT on it", c.name)
	}
	if c.maxLength > 0 && utf8.RuneCountInString(value) > c.maxLength {
		return fmt.Errorf("status %q does not fit into column %q, which is %s: name a shorter one (statuses)", value, c.name, c.shown)
	}
	if !c.holds(value) {
		those := "numbers as PostgreSQL writes them"
		if len(c.labels) > 0 {
			those = strings.Join(c.labels, ", ")
		}
		return fmt.Errorf("column %q knows no status %q: name one of %s (statuses)", c.name, value, those)
	}
	return nil
}

// holds tells whether a value of the column can be this text, as the log writes it. An enum, or a number, can also not be compared with what it does not hold.
func (c *column) holds(value string) bool {
	if len(c.labels) > 0 {
		return slices.Contains(c.labels, value)
	}
	bits := 0
	switch c.typeName() {
	case "pg_catalog.int2":
		bits = 16
	case "pg_catalog.int4":
		bits = 32
	case "pg_catalog.int8":
		bits = 64
	case "pg_catalog.numeric", "pg_catalog.float4", "pg_catalog.float8":
		_, err := strconv.ParseFloat(value, 64)
		return err == nil
	default:
		return true
	}
	n, err := strconv.ParseInt(value, 10, bits)
	return err == nil && strconv.FormatInt(n, 10) == value
}
