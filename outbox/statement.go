package outbox

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/shard"
)

func parkedTable(schema string) string { return lease.Table(schema, "parked") }

// write runs a statement that begins with the lease and answers one row, of which the first column says whether the lease is ours; it
// returns the others. Parameters from $3 on are in text form.
//
// The statement is planned each time: the parked table can grow from nothing to a million rows before the server's statistics
// notice, and a plan that was made for the empty table would read all of it. A fresh plan knows the table's size.
func (t *Table) write(ctx context.Context, conn *pgx.Conn, held lease.Lease, what, sql string, values ...[]byte) ([][]byte, error) {
	result := conn.PgConn().ExecParams(ctx, sql, held.Params(values...), nil, nil, nil).Read()
	return t.answer(what, result)
}

// writeOften is write for the one statement that is too frequent for that: planning costs as much as settling 30 rows. Its plan is
// kept, and made where reading whole tables is switched off for the connection, so that it is right for a parked table of any size.
func (t *Table) writeOften(ctx context.Context, conn *pgx.Conn, held lease.Lease, what, sql string, values ...[]byte) ([][]byte, error) {
	const set = "outboxd: enable_seqscan is off"
	if known := conn.PgConn().CustomData(); known[set] == nil {
		if _, err := conn.Exec(ctx, `SET enable_seqscan = off`); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", what, t.config.quoted(), err)
		}
		known[set] = true
	}
	prepared, err := conn.Prepare(ctx, sql, sql) // known on the connection after the first time
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", what, t.config.quoted(), err)
	}
	result := conn.PgConn().ExecPrepared(ctx, prepared.Name, held.Params(values...), nil, nil).Read()
	return t.answer(what, result)
}

func (t *Table) answer(what string, result *pgconn.Result) ([][]byte, error) {
	err := result.Err
	switch {
	case err != nil:
	case len(result.Rows) != 1:
		err = fmt.Errorf("the statement answered %d rows instead of one", len(result.Rows))
	case string(result.Rows[0][0]) != "t":
		err = lease.ErrTermLost
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", what, t.config.quoted(), err)
	}
	return result.Rows[0][1:], nil
}

// texts is the text form of an array parameter.
func texts[T any](of []T, text func(*T) string) []byte {
	elements := make([][]byte, len(of))
	for i := range of {
		elements[i] = []byte(text(&of[i]))
	}
	return appendArray(nil, elements)
}

// number is the text form of a whole number.
func number[T ~int | ~int64 | ~uint32](n T) []byte { return strconv.AppendInt(nil, int64(n), 10) }

// count reads what number wrote.
func count(text []byte) int {
	n, err := strconv.Atoi(string(text))
	if err != nil {
		panic(fmt.Sprintf("PostgreSQL's count is %q", text))
	}
	return n
}

// isOneOf is the condition that o's status is one of those, in a form that no index serves. A table without a status has only
// rows that are not delivered.
func (t *Table) isOneOf(statuses ...string) string {
	if t.config.Columns.Status == "" {
		return "true"
	}
	all := make([]string, len(statuses))
	for i, s := range statuses {
		all[i] = shard.Literal(s)
	}
	return `(o.` + quote(t.config.Columns.Status) + `::text IN (` + strings.Join(all, ", ") + `)) IS TRUE`
}

// hasStatus is the condition that o's status is this one, in a form that an index serves.
func (t *Table) hasStatus(status string) string {
	c, there := t.has[t.config.Columns.Status]
	switch {
	case !there:
		return "true"
	case !c.holds(status):
		return "false" // where it can be none, the comparison is refused
	}
	return `o.` + quote(c.name) + ` = ` + shard.Literal(status)
}

// andOurs adds the condition that o belongs to the shard. Every statement that finds rows by what they hold has it; rows that the log or the parked
// table has named by their ids are the shard's own.
func (t *Table) andOurs() string {
	if t.config.Rows == "" {
		return ""
	}
	return ` AND (` + t.config.Rows + `)`
}

// unsettled is the condition that o is not delivered, whatever became of it.
func (t *Table) unsettled() string {
	s := &t.config.Statuses
	return t.isOneOf(s.New, s.Failed, s.Dead, s.Publishing)
}

// settlement is the UPDATE or DELETE that settles rows by a condition on o; "" where rows are kept.
func (t *Table) settlement(condition string) string {
	c, s := &t.config.Columns, &t.config.Statuses
	switch t.config.OnSent {
	case Keep:
		return ""
	case Delete:
		return `DELETE FROM ` + t.config.quoted() + ` o WHERE ` + condition + ` AND ` + t.unsettled()
	case Mark:
	}
	set := quote(c.Status) + ` = ` + shard.Literal(s.Sent)
	for _, column := range t.mirrored() { // what a mirror left there
		if !column.required && column.name != c.RetryCount {
			set += `, ` + quote(column.name) + ` = CASE WHEN ` + t.isOneOf(s.Failed, s.Dead) + ` THEN NULL ELSE o.` + quote(column.name) + ` END`
		}
	}
	return `UPDATE ` + t.config.quoted() + ` o SET ` + set + ` WHERE ` + condition + ` AND ` + t.unsettled()
}

// lock is the clause that locks rows for settlement or a mirror; "" where the role may not, which then waits for locked rows.
func (t *Table) lock() string {
	switch {
	case !t.mayLock:
		return ""
	case t.config.OnSent == Delete:
		return ` FOR UPDATE OF o SKIP LOCKED`
	}
	return ` FOR NO KEY UPDATE OF o SKIP LOCKED`
}

// idIn is the condition that o's id is one of those that the query selects as text. The array is made once, and the planner takes it for
// short, so that the id's index serves.
func (t *Table) idIn(query string) string {
	return `o.` + quote(t.id.name) + ` = ANY(ARRAY(SELECT ` + t.castID(`named.id`) + ` FROM (` + query + `) named(id)))`
}

// idText is o's id as text.
func (t *Table) idText() string { return t.id.text(`o.` + quote(t.id.name)) }

// unparked is the condition that no event of o is parked for the slot $1. As a subquery it is looked up row by row: the planner can
// make no join of it that reads all that is parked.
func (t *Table) unparked(schema string) string {
	return `(SELECT true FROM ` + parkedTable(schema) + ` p WHERE p.slot = $1 AND p.id = ` + t.idText() + ` LIMIT 1) IS NULL`
}
