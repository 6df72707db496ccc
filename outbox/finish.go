package outbox

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// finishLook is how many finished rows a Finish looks at for each event that it may remove.
const finishLook = 5

// cursor is where the next Finish goes on; "" at the beginning.
type cursor struct {
	mu sync.Mutex
	id string
}

func (c *cursor) get() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

func (c *cursor) set(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id = id
}

// Finish removes events from the table lane that are done or skipped everywhere and that the checkpoint has passed, and settles their
// outbox rows as OnSent says: at most limit events, by one durable statement. An event whose outbox row somebody holds locked is left for
// another time.
//
// Each call looks at a bounded number of finished rows, in the order of ids, and goes on where the last one ended, so that many events
// that must stay cost no more than a few. more says that it removed something and has not come to the end: call again. Where nothing
// was removed, the next call that is due goes on, and a call that has come to the end begins anew.
//
// An event whose outbox row the table refuses to settle ([Refused]) is removed, and its row stays as it is: refused is one that was found by this call.
func (t *Table) Finish(
	ctx context.Context, conn *pgx.Conn, held lease.Lease, passed event.Position, limit int,
) (finished int, more bool, refused *Refusal, err error) {
	after, look := t.finishing.get(), limit*finishLook
	behind := `> $3`
	if after == "" {
		behind = `>= $3` // an id may be empty
	}
	found, err := t.finish(ctx, conn, held, passed, t.finishSQL(held.Schema, behind, t.config.OnSent != Keep), after, look, limit)
	switch {
	case Refused(err) && limit > 1:
		return t.Finish(ctx, conn, held, passed, limit/2)
	case Refused(err):
		return t.finishRefused(ctx, conn, held, passed, behind, after)
	case err != nil:
		return 0, false, nil, err
	case found.leaving == limit: // the rest of what was looked at is for the next call
		t.finishing.set(found.lastLeaving)
	case found.looked == look:
		t.finishing.set(found.lastLooked)
	default:
		t.finishing.set("")
		return found.removed, false, nil, nil
	}
	return found.removed, found.removed > 0, nil, nil
}

// finishRefused removes the first event that may leave. Its outbox row is settled with it, unless the table refuses that: who comes first may have changed since it did.
func (t *Table) finishRefused(
	ctx context.Context, conn *pgx.Conn, held lease.Lease, passed event.Position, behind, after string,
) (finished int, more bool, refused *Refusal, err error) {
	first, err := t.finish(ctx, conn, held, passed, t.leavingSQL(held.Schema, behind)+t.foundSQL(`0`), after, finishLook, 1)
	if err != nil || first.leaving == 0 {
		return 0, false, nil, err
	}
	id := first.lastLeaving
	found, err := t.finish(ctx, conn, held, passed, t.finishSQL(held.Schema, `= $3`, true), id, finishLook, 1)
	if Refused(err) {
		refused = &Refusal{[]byte(id), err}
		found, err = t.finish(ctx, conn, held, passed, t.finishSQL(held.Schema, `= $3`, false), id, finishLook, 1)
	}
	if err != nil {
		return 0, false, nil, err
	}
	t.finishing.set(id)
	return found.removed, true, refused, nil
}

// finishable is what a statement of finishSQL answers.
type finishable struct {
	removed, looked, leaving int
	lastLooked, lastLeaving  string
}

func (t *Table) finish(
	ctx context.Context, conn *pgx.Conn, held lease.Lease, passed event.Position, sql, after string, look, limit int,
) (finishable, error) {
	row, err := t.write(ctx, conn, held, "finish delivered rows", sql,
		[]byte(after), number(look), number(limit), number(passed.Epoch), []byte(passed.Commit.String()))
	if err != nil {
		return finishable{}, err
	}
	return finishable{count(row[0]), count(row[1]), count(row[3]), string(row[2]), string(row[4])}, nil
}

// finishSQL removes events whose ids fulfil the condition, and settles their outbox rows. It has the parameters of leavingSQL.
func (t *Table) finishSQL(schema, behind string, settles bool) string {
	sql, free := t.leavingSQL(schema, behind), `SELECT id FROM leaving`
	if settles {
		sql += t.lockedSQL()
		free += ` EXCEPT (SELECT id FROM open EXCEPT SELECT id FROM held)`
		sql += `settled AS (` + t.settlement(t.idIn(`SELECT id FROM held`)) + `), `
	}
	return sql + `removed AS (
			DELETE FROM ` + parkedTable(schema) + ` p WHERE p.slot = $1 AND p.id = ANY(ARRAY(` + free + `)) RETURNING p.id
		), ` + t.foundSQL(`(SELECT count(DISTINCT id) FROM removed)`)
}

// leavingSQL selects which events may leave, as leaving, of the rows whose ids fulfil the condition. It has the parameters of that, look, limit, epoch and LSN from $3 on.
func (t *Table) leavingSQL(schema, behind string) string {
	parked := parkedTable(schema)
	return lease.CTE(schema) + `, looked AS MATERIALIZED (
			SELECT p.id FROM ` + parked + ` p
			WHERE p.slot = $1 AND p.state IN ('done', 'skipped') AND p.id ` + behind + ` AND EXISTS (SELECT FROM lease)
			ORDER BY p.slot, p.id LIMIT $4
		), leaving AS MATERIALIZED (
			SELECT id FROM (` + eventsSQL(parked, `SELECT DISTINCT id FROM looked ORDER BY id`, `($6::bigint, $7::pg_lsn)`, `false`) + `) e
			WHERE leaves ORDER BY id LIMIT $5
		), `
}

// foundSQL answers how many events were removed, how many rows it looked at and the last id of those, and how many events might leave and the last id of those.
func (t *Table) foundSQL(removed string) string {
	return `found AS (SELECT ` + removed + ` AS removed)
		SELECT EXISTS (SELECT FROM lease) AND ` + lease.Durable + `, removed,
			(SELECT count(*) FROM looked), (SELECT max(id) FROM looked), (SELECT count(*) FROM leaving), (SELECT max(id) FROM leaving) FROM found`
}

// lockedSQL selects the rows to settle of the events that are leaving, as open, and locks those that nobody else has, as held.
func (t *Table) lockedSQL() string {
	rows := `SELECT ` + t.idText() + ` AS id FROM ` + t.config.quoted() + ` o WHERE ` + t.idIn(`SELECT id FROM leaving`) + ` AND ` + t.unsettled()
	return `open AS MATERIALIZED (` + rows + `), held AS MATERIALIZED (` + rows + t.lock() + `), `
}
