package outbox

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/shard"
)

// Row is a row of the outbox as it stands in the table. It owns its bytes.
type Row struct {
	// Event is the row's event, as the log would have carried it. Its Position has epoch 0 and orders the rows of the table: by created_at
	// in microseconds since 1970 in the place of a log position, then by the commands of its transaction or by occurred_at, then by where it lies.
	Event      event.Event
	Status     string // "" without a status
	RetryCount int
	RetryAfter time.Time // zero: none
	CreatedAt  time.Time // zero: not known
	Error      string
	Xmin       uint64 // the transaction that wrote this version of the row, with its epoch; below 3 for one that is older than all others
}

// names of what is read beside the table's columns, which no column has by chance
const (
	xminName = `"outboxd xmin"`
	cminName = `"outboxd cmin"`
	ctidName = `"outboxd ctid"`
)

// source selects, with a condition on o, what rows consist of, as they lie in the table.
func (t *Table) source(rest string) string {
	var list strings.Builder
	for _, name := range t.config.Columns.all() {
		list.WriteString(`o.` + quote(name) + `, `)
	}
	return `(SELECT ` + list.String() + `o.xmin AS ` + xminName + `, o.cmin AS ` + cminName + `, o.ctid AS ` + ctidName + ` FROM ` + t.config.quoted() + ` o WHERE ` + rest + `) o`
}

// list is what scan reads, of a source o, everything as text.
func (t *Table) list() string {
	c := &t.config.Columns
	list := []string{t.idText()}
	for _, f := range c.eventFields() {
		if f.column == &c.TenantID {
			list = append(list, t.tenantText())
			continue
		}
		list = append(list, t.textOf(*f.column))
	}
	list = append(list, t.textOf(c.Status), t.countOf(c.RetryCount), t.microsOf(c.RetryAfter), t.microsOf(c.CreatedAt), t.textOf(c.ErrorMessage),
		t.occurredMicros(),
		`o.`+xminName+`::text`, `(SELECT txid_snapshot_xmax(txid_current_snapshot()))::text`,
		`((o.`+ctidName+`::text::point)[0]::bigint * 2048 + (o.`+ctidName+`::text::point)[1]::bigint)::text`, `o.`+cminName+`::text`)
	return strings.Join(list, `, `)
}

func (t *Table) textOf(name string) string {
	c, there := t.has[name]
	if !there {
		return `NULL::text`
	}
	return c.text(`o.` + quote(name))
}

// tenantText is o's tenant, or the default one.
func (t *Table) tenantText() string {
	text := t.textOf(t.config.Columns.TenantID)
	if t.config.DefaultTenant == "" {
		return text
	}
	return `coalesce(` + text + `, ` + shard.Literal(t.config.DefaultTenant) + `)`
}

func (t *Table) countOf(name string) string {
	if name == "" {
		return `NULL::text`
	}
	return `o.` + quote(name) + `::bigint::text`
}

// microsOf is a time in microseconds since 1970, inside the years 1 to 9999: what is outside, or infinite, is at their ends.
func (t *Table) microsOf(name string) string {
	if name == "" {
		return `NULL::text`
	}
	x := `o.` + quote(name)
	return `CASE WHEN ` + x + ` > '9999-12-30' THEN '253402214400000000' WHEN ` + x + ` < '0001-01-02' THEN '-62135510400000000'
		ELSE round(extract(epoch FROM ` + x + `) * 1000000)::bigint::text END`
}

// occurredMicros is o's occurred_at like microsOf, where the column is a time.
func (t *Table) occurredMicros() string {
	name := t.config.Columns.OccurredAt
	if c, there := t.has[name]; !there || !c.isOf(timeTypes) {
		name = ""
	}
	return t.microsOf(name)
}

// isOf tells whether the column is of one of the types, which are named without the quotes of those that are keywords, too.
func (c *column) isOf(types []string) bool { return slices.Contains(types, c.typeName()) }

func (c *column) typeName() string { return strings.ReplaceAll(c.elements, `"`, "") }

// text is the expression's text as the log carries it, whatever the session's settings: in UTC, and in ISO style. A cast would do
// for most types; the others' differs from their output.
func (c *column) text(x string) string {
	switch c.typeName() {
	case "pg_catalog.timestamptz":
		return isoText(x, timeText(x+` AT TIME ZONE 'UTC'`), `+00`)
	case "pg_catalog.timestamp":
		return isoText(x, timeText(x), ``)
	case "pg_catalog.date":
		return isoText(x, `to_char(`+x+`, 'YYYY-MM-DD')`, ``)
	case "pg_catalog.uuid", "pg_catalog.text", "pg_catalog.varchar", "pg_catalog.int2", "pg_catalog.int4", "pg_catalog.int8", "pg_catalog.numeric",
		"pg_catalog.json", "pg_catalog.jsonb":
		return x + `::text`
	}
	return `CASE WHEN ` + x + ` IS NOT NULL THEN format('%s', ` + x + `) END`
}

// isoText is a date or time with its zone and era. What is infinite has neither.
func isoText(x, text, zone string) string {
	return `CASE WHEN isfinite(` + x + `) THEN ` + text + ` || '` + zone + `' || CASE WHEN ` + x + ` < '0001-01-01` + zone + `' THEN ' BC' ELSE '' END
		ELSE ` + x + `::text END`
}

// timeText is a time without the zeros at the end of its fraction.
func timeText(x string) string {
	return `rtrim(rtrim(to_char(` + x + `, 'YYYY-MM-DD HH24:MI:SS.US'), '0'), '.')`
}

// scan reads what list selects. The row keeps the values.
func (t *Table) scan(values [][]byte) (r Row, err error) {
	e := &r.Event
	fields := []*[]byte{
		&e.ID, &e.TenantID, &e.Topic, &e.AggregateType, &e.AggregateID, &e.OccurredAt, &e.SchemaID, &e.SchemaVersion, &e.Payload, &e.Metadata, &e.Status,
	}
	for i, field := range fields {
		*field = values[i]
	}
	values = values[len(fields):]
	r.Status, r.Error = string(e.Status), string(values[3])
	var numbers [9]int64
	for i, text := range values {
		if i == 3 || text == nil {
			continue
		}
		if numbers[i], err = strconv.ParseInt(string(text), 10, 64); err != nil {
			return Row{}, fmt.Errorf("read row %q: %w", e.ID, err)
		}
	}
	r.RetryCount = int(numbers[0])
	r.RetryAfter, r.CreatedAt = timeOf(values[1], numbers[1]), timeOf(values[2], numbers[2])
	r.Xmin = widened(uint32(numbers[5]), uint64(numbers[6]))
	at := place{command: numbers[8], address: uint64(numbers[7])}
	if values[2] != nil {
		at.createdAt = &numbers[2]
	}
	if values[4] != nil {
		at.occurredAt = &numbers[4]
	}
	e.Position = at.position(t.replayed)
	return r, nil
}

func timeOf(text []byte, micros int64) time.Time {
	if text == nil {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// widened returns, with its epoch, the xmin of a row that a snapshot with the given end has seen. One that would lie behind the end is from an
// earlier round of the ids, 2^31 transactions ago or more: the row was frozen, and is older than everything. The end has to be that of the statement
// that reads the row: a stored snapshot's may be so old that a new row looks older than it.
func widened(xmin uint32, xmax uint64) uint64 {
	const frozenXid = 2
	if xmin < firstNormalXid {
		return uint64(xmin)
	}
	if full := nearest(xmin, xmax); full < xmax {
		return full
	}
	return frozenXid
}

// read returns the rows that the query behind FROM yields, and of each, what list selects.
func (t *Table) read(ctx context.Context, db lease.Querier, what, from string, args ...any) ([]Row, error) {
	if t.unreadable != nil {
		return nil, fmt.Errorf("%s of %s: %w", what, t.config.quoted(), t.unreadable)
	}
	var all []Row
	err := query(ctx, db, `SELECT `+t.list()+` FROM `+from, args, func(values [][]byte) error {
		r, err := t.scan(values)
		all = append(all, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", what, t.config.quoted(), err)
	}
	return all, nil
}

// query runs a query whose columns are all text. It is planned each time, as those of write are.
func query(ctx context.Context, db lease.Querier, sql string, args []any, each func(values [][]byte) error) error {
	rows, err := db.Query(ctx, sql, append([]any{pgx.QueryExecModeExec}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(copied(rows.RawValues())); err != nil {
			return err
		}
	}
	return rows.Err()
}

// copied returns the values in memory of their own.
func copied(values [][]byte) [][]byte {
	size := 0
	for _, v := range values {
		size += len(v)
	}
	memory, own := make([]byte, 0, size), make([][]byte, len(values))
	for i, v := range values {
		if v == nil {
			continue
		}
		from := len(memory)
		memory = append(memory, v...)
		own[i] = memory[from:len(memory):len(memory)]
	}
	return own
}
