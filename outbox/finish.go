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
func (t *Table) Finish(ctx context.Context, conn *pgx.Conn, held lease.Lease, passed event.Position, limit int) (finished int, more bool, err error) {
	after, look := t.finishing.get(), limit*finishLook
	row, err := t.write(ctx, conn, held, "finish delivered rows", t.finishSQL(held.Schema, after),
		[]byte(after), number(look), number(limit), number(passed.Epoch), []byte(passed.Commit.String()))
	if err != nil {
		return 0, false, err
	}
	finished = count(row[0])
	looked, leaving := count(row[1]), count(row[3])
	switch {
	case leaving == limit: // the rest of what was looked at is for the next call
		t.finishing.set(string(row[4]))
	case looked == look:
		t.finishing.set(string(row[2]))
	default:
		t.finishing.set("")
		return finished, false, nil
	}
	return finished, finished > 0, nil
}

// finishSQL has the parameters after, look, limit, epoch and LSN from $3 on, and answers how many events were removed, how many rows
// it looked at and the last id of those, and how many events might leave and the last id of those.
func (t *Table) finishSQL(schema, after string) string {
	parked, behind := parkedTable(schema), `>`
	if after == "" {
		behind = `>=` // an id may be empty
	}
	sql := lease.CTE(schema) + `, looked AS MATERIALIZED (
			SELECT p.id FROM ` + parked + ` p
			WHERE p.slot = $1 AND p.state IN ('done', 'skipped') AND p.id ` + behind + ` $3 AND EXISTS (SELECT FROM lease)
			ORDER BY p.slot, p.id LIMIT $4
		), leaving AS MATERIALIZED (
			SELECT id FROM (` + eventsSQL(parked, `SELECT DISTINCT id FROM looked ORDER BY id`, `($6::bigint, $7::pg_lsn)`, `false`) + `) e
			WHERE leaves ORDER BY id LIMIT $5
		), `
	free := `SELECT id FROM leaving`
	if t.config.OnSent != Keep {
		sql += t.lockedSQL()
		free += ` EXCEPT (SELECT id FROM open EXCEPT SELECT id FROM held)`
		sql += `settled AS (` + t.settlement(t.idIn(`SELECT id FROM held`)) + `), `
	}
	return sql + `removed AS (
			DELETE FROM ` + parked + ` p WHERE p.slot = $1 AND p.id = ANY(ARRAY(` + free + `)) RETURNING p.id
		)
		SELECT EXISTS (SELECT FROM lease) AND ` + lease.Durable + `, (SELECT count(DISTINCT id) FROM removed),
			(SELECT count(*) FROM looked), (SELECT max(id) FROM looked), (SELECT count(*) FROM leaving), (SELECT max(id) FROM leaving)`
}

// lockedSQL selects the rows to settle of the events that are leaving, as open, and locks those that nobody else has, as held.
func (t *Table) lockedSQL() string {
	rows := `SELECT ` + t.idText() + ` AS id FROM ` + t.config.quoted() + ` o WHERE ` + t.idIn(`SELECT id FROM leaving`) + ` AND ` + t.unsettled()
	return `open AS MATERIALIZED (` + rows + `), held AS MATERIALIZED (` + rows + t.lock() + `), `
}
