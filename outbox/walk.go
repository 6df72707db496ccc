package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/lease"
)

// walk looks at the next rows in the order of their ids behind after, look at most, and hands those that are wanted to each: what
// list selects of o. wanted is a condition on o; its parameters are args, from $1 on. last is the id of the last row looked at, for the
// next call; end says that no row is behind it.
//
// The table is read once, along an index on the id, whatever the planner thinks of the condition.
func (t *Table) walk(
	ctx context.Context, db lease.Querier, list, wanted, after string, look int, args []any, each func(values [][]byte) error,
) (last string, end bool, err error) {
	if t.unwalkable != nil {
		return "", false, t.unwalkable
	}
	id := `o.` + quote(t.id.name)
	args = append(args, look)
	limit := len(args)
	behind, args := t.behind(after, args)
	sql := fmt.Sprintf(`SELECT o."outboxd n"::text, ((%s) IS TRUE)::text, %s, %s FROM (
			SELECT o.*, row_number() OVER w AS "outboxd n", lead(true) OVER w IS NULL AS "outboxd last" FROM %s WINDOW w AS (ORDER BY %s)
		) o WHERE o."outboxd last" OR %[1]s ORDER BY o."outboxd n"`,
		wanted, t.idText(), list, t.source(fmt.Sprintf(`%s ORDER BY %s LIMIT $%d`, behind, id, limit)), id)
	looked := 0
	err = query(ctx, db, sql, args, func(values [][]byte) error {
		looked, last = count(values[0]), string(values[2])
		if string(values[1]) != "true" {
			return nil
		}
		return each(values[3:])
	})
	if last == "" {
		last = after
	}
	return last, looked < look, err
}

// walkRows is walk for whole rows.
func (t *Table) walkRows(
	ctx context.Context, db lease.Querier, wanted, after string, look int, args ...any,
) (rows []Row, last string, end bool, err error) {
	err = t.unreadable
	if err == nil {
		last, end, err = t.walk(ctx, db, t.list(), wanted, after, look, args, func(values [][]byte) error {
			r, err := t.scan(values)
			rows = append(rows, r)
			return err
		})
	}
	if err != nil {
		return nil, "", false, fmt.Errorf("select rows of %s: %w", t.config.quoted(), err)
	}
	return rows, last, end, nil
}

// behind is the condition that o comes behind a row in the order of ids, every one behind "", and args with the parameter that it adds.
func (t *Table) behind(after string, args []any) (string, []any) {
	if after == "" {
		return `true`, args
	}
	args = append(args, after)
	return fmt.Sprintf(`o.%s > $%d::text::%s`, quote(t.id.name), len(args), t.id.elements), args
}

// Filter says which rows Select returns. What is empty matches all.
type Filter struct {
	IDs                                       []string
	Statuses                                  []string
	Tenant, Topic, AggregateType, AggregateID string
	Since, Until                              time.Time // created_at, Until excluded
}

// Select looks at the next rows in the order of their ids behind after, look at most, and returns those that match. last is where the
// next call goes on. With ids in the filter it looks at those alone, all at once.
func (t *Table) Select(ctx context.Context, db lease.Querier, f Filter, after string, look int) (rows []Row, last string, end bool, err error) {
	matches, args, err := t.matches(f)
	if err != nil {
		return nil, "", false, fmt.Errorf("select rows of %s: %w", t.config.quoted(), err)
	}
	if len(f.IDs) == 0 {
		return t.walkRows(ctx, db, matches, after, look, args...)
	}
	args = append(args, f.IDs)
	rows, err = t.read(ctx, db, "select rows", t.source(t.idIn(fmt.Sprintf(`SELECT unnest($%d::text[])`, len(args)))+` AND `+matches), args...)
	return rows, "", true, err
}

// Spelled returns the id as the log and what is parked spell it, where people may write it otherwise: a UUID in capitals, a number with leading
// zeros. An id that is none of the table's type is the server's error.
func (t *Table) Spelled(ctx context.Context, db lease.Querier, id string) (string, error) {
	switch t.id.typeName() {
	case "pg_catalog.uuid", "pg_catalog.int2", "pg_catalog.int4", "pg_catalog.int8":
	default:
		return id, nil
	}
	if err := db.QueryRow(ctx, `SELECT $1::text::`+t.id.elements+`::text`, id).Scan(&id); err != nil {
		return "", fmt.Errorf("select rows of %s: id %q: %w", t.config.quoted(), id, err)
	}
	return id, nil
}

func (t *Table) matches(f Filter) (condition string, args []any, err error) {
	c := &t.config.Columns
	condition = "true" + t.andOurs()
	for _, one := range []struct {
		there             bool
		text, name, value string
	}{
		{c.TenantID != "" || t.config.DefaultTenant != "", t.tenantText(), "tenant", f.Tenant},
		{c.Topic != "", t.textOf(c.Topic), "topic", f.Topic},
		{c.AggregateType != "", t.textOf(c.AggregateType), "aggregate type", f.AggregateType},
		{c.AggregateID != "", t.textOf(c.AggregateID), "aggregate id", f.AggregateID},
	} {
		if one.value == "" {
			continue
		}
		if !one.there {
			return "", nil, fmt.Errorf("it has no column for the %s: look for something else, or name one (database.columns)", one.name)
		}
		args = append(args, one.value)
		condition += fmt.Sprintf(` AND %s = $%d`, one.text, len(args))
	}
	for _, one := range []struct {
		operator string
		at       time.Time
	}{{">=", f.Since}, {"<", f.Until}} {
		if one.at.IsZero() {
			continue
		}
		if c.CreatedAt == "" {
			return "", nil, errNoAge
		}
		args = append(args, one.at)
		condition += fmt.Sprintf(` AND o.%s %s $%d`, quote(c.CreatedAt), one.operator, len(args))
	}
	if len(f.Statuses) > 0 {
		if c.Status == "" {
			return "", nil, errors.New("it has no column for the status: look for something else, or name one (database.columns.status)")
		}
		condition += ` AND ` + t.isOneOf(f.Statuses...)
	}
	return condition, args, nil
}

var errNoAge = errors.New("it has no column that says how old a row is: name one (database.columns.created_at)")
