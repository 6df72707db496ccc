package outbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/shard"
)

// Mirror is what the outbox row of a refused event shows to people.
type Mirror struct {
	ID         string
	Status     string // Statuses.Failed or Statuses.Dead
	RetryCount int
	RetryAfter time.Time // zero: none
	Message    string
}

// Mirror shows the states on the outbox rows, as far as the table has the columns, by one statement for each 5,000. It changes a row only where
// the row says something else. Rows that are delivered, or that somebody holds locked, stay as they are, and so does a dead row of which
// another destination is still dead. Of several states of an event the worst is shown. It does nothing where rows are kept, or
// where the status column cannot hold the two statuses. It returns how many rows it changed. Behind an error that is [Refused] it does nothing any more.
func (t *Table) Mirror(ctx context.Context, conn *pgx.Conn, held lease.Lease, mirrors []Mirror) (changed int, err error) {
	if !t.mirrors() || t.unmirrored.Load() {
		return 0, nil
	}
	for chunk := range slices.Chunk(mirrors, maxSettle) {
		n, err := t.mirror(ctx, conn, held, chunk)
		if err != nil {
			return changed, t.refusing(err)
		}
		changed += n
	}
	return changed, nil
}

func (t *Table) mirror(ctx context.Context, conn *pgx.Conn, held lease.Lease, mirrors []Mirror) (int, error) {
	s := &t.config.Statuses
	sql := lease.CTE(held.Schema) + `, states AS MATERIALIZED (
			SELECT DISTINCT ON (id) id, status, attempts, nullif(due_at, '')::timestamptz AS due_at, reason
			FROM unnest($3::text[], $4::text[], $5::int[], $6::text[], $7::text[]) AS s(id, status, attempts, due_at, reason)
			WHERE EXISTS (SELECT FROM lease) ORDER BY id, status = ` + shard.Literal(s.Dead) + ` DESC, attempts DESC
		)` + t.mirrorSQL(`NOT (s.status = `+shard.Literal(s.Failed)+` AND `+t.isOneOf(s.Dead)+` AND EXISTS (
			SELECT FROM `+parkedTable(held.Schema)+` p WHERE p.slot = $1 AND p.id = s.id AND p.state = 'dead' OFFSET 0))`) + `
		SELECT EXISTS (SELECT FROM lease), (SELECT count(*) FROM mirrored)`
	row, err := t.write(ctx, conn, held, "mirror states on rows", sql,
		texts(mirrors, func(m *Mirror) string { return m.ID }), texts(mirrors, func(m *Mirror) string { return m.Status }),
		texts(mirrors, func(m *Mirror) string { return string(number(m.RetryCount)) }), texts(mirrors, dueText), texts(mirrors, messageText))
	if err != nil {
		return 0, err
	}
	return count(row[0]), nil
}

// Refused tells whether the table refuses what is written on its rows: a constraint, the type of a column, or a trigger of the application does, which
// may raise any SQLSTATE, or change the row itself. Another mirror would fare no better, and no event depends on one; a row that is refused to be settled
// was delivered all the same.
// Source: https://www.postgresql.org/docs/current/errcodes-appendix.html (classes 22, 23, 27 and P0, and generated_always)
func Refused(err error) bool {
	return lease.HasCode(err, lease.GeneratedAlways) || lease.InClass(err, "22", "23", "27", "P0") || lease.Raised(err) && !passes(err)
}

// passes tells whether the error may have nothing to do with the row, though a trigger handed it on: connections, read-only transactions, foreign servers,
// rollbacks, resources, operators, the system.
func passes(err error) bool {
	return Retryable(err) || lease.InClass(err, "08", "25", "40", "53", "57", "58", "HV", "XX")
}

// refusing is err, with which mirrors end where it is Refused.
func (t *Table) refusing(err error) error {
	if Refused(err) {
		t.unmirrored.Store(true)
	}
	return err
}

func dueText(m *Mirror) string {
	if m.RetryAfter.IsZero() {
		return ""
	}
	return m.RetryAfter.UTC().Format("2006-01-02 15:04:05.999999Z07")
}

// messageText makes of any message of a broker one that a text column takes.
func messageText(m *Mirror) string {
	return strings.ReplaceAll(strings.ToValidUTF8(m.Message, "\uFFFD"), "\x00", "\uFFFD")
}

// mirrors tells whether states are shown on rows.
func (t *Table) mirrors() bool {
	c, there := t.has[t.config.Columns.Status]
	s := &t.config.Statuses
	return there && !c.generated && t.config.OnSent != Keep && checkStatus(c, s.Failed) == nil && checkStatus(c, s.Dead) == nil
}

// mirrored are the columns beside the status that a mirror writes.
func (t *Table) mirrored() (list []column) {
	if !t.mirrors() {
		return nil
	}
	for _, name := range []string{t.config.Columns.RetryCount, t.config.Columns.RetryAfter, t.config.Columns.ErrorMessage} {
		if c, there := t.has[name]; there && !c.generated {
			list = append(list, c)
		}
	}
	return list
}

// mirrorSQL is the rest of a statement that has the CTE states, for rows of it (s) and of the outbox (o) that fulfil the condition.
// A row is locked only when it is to be changed, and found by its id whatever the planner thinks.
func (t *Table) mirrorSQL(condition string) string {
	c := &t.config.Columns
	set := quote(c.Status) + ` = s.status::` + t.has[c.Status].elements
	differs := `o.` + quote(c.Status) + `::text IS DISTINCT FROM s.status`
	values := map[string]string{c.RetryCount: `s.attempts`, c.RetryAfter: `s.due_at`, c.ErrorMessage: `s.reason`}
	for _, column := range t.mirrored() {
		value := values[column.name]
		if column.maxLength > 0 {
			value = fmt.Sprintf(`left(%s, %d)`, value, column.maxLength)
		}
		value += `::` + column.exact
		if column.required { // a dead event has no next time
			value = `coalesce(` + value + `, o.` + quote(column.name) + `)`
		}
		set += `, ` + quote(column.name) + ` = ` + value
		differs += ` OR o.` + quote(column.name) + ` IS DISTINCT FROM ` + value
	}
	id := `o.` + quote(t.id.name)
	return `, free AS MATERIALIZED (
			SELECT s.*, f.id AS row_id FROM states s CROSS JOIN LATERAL (
				SELECT ` + id + ` AS id FROM ` + t.config.quoted() + ` o WHERE ` + id + ` = ` + t.castID(`s.id`) + ` AND ` + t.unsettled() + `
					AND (` + differs + `) AND ` + condition + t.lock() + `
			) f
		), mirrored AS (
			UPDATE ` + t.config.quoted() + ` o SET ` + set + ` FROM free s WHERE ` + id + ` = s.row_id AND ` + t.unsettled() + ` RETURNING 1
		)`
}
