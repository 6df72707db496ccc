package outbox

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// Deliver settles events of the table lane that have landed at a destination, by one durable statement. Those that the checkpoint has
// passed and that nowhere else wait or are dead are removed from the table lane with all their rows, and their outbox rows are
// settled as OnSent says. The others are noted as done, for a later Deliver or Finish. passed is the checkpoint's position.
//
// It waits for a row that the application holds locked; a [Retryable] error then says that nothing was changed. So does one that is [Refused].
func (t *Table) Deliver(ctx context.Context, conn *pgx.Conn, held lease.Lease, sink, destination string, passed event.Position, refs []event.Ref) error {
	_, err := t.write(ctx, conn, held, "settle delivered rows", t.deliverSQL(held.Schema),
		texts(refs, func(r *event.Ref) string { return r.ID }), texts(refs, func(r *event.Ref) string { return string(number(r.Replay)) }),
		[]byte(sink), []byte(destination), number(passed.Epoch), []byte(passed.Commit.String()))
	return err
}

// deliverSQL has the parameters ids, replays, sink, destination, epoch and LSN from $3 on. The conditions of done are in a form that no
// index but the primary key serves: those of what waits would look best, and would read the whole backlog. Nor is any of them made a join, which
// would compare each row of the batch with each.
func (t *Table) deliverSQL(schema string) string {
	parked := parkedTable(schema)
	sql := lease.CTE(schema) + `, landed AS MATERIALIZED (
			SELECT id, replay FROM unnest($3::text[], $4::int[]) AS l(id, replay) WHERE EXISTS (SELECT FROM lease)
		), events AS MATERIALIZED (` + eventsSQL(parked, `SELECT DISTINCT id FROM landed`, `($7::bigint, $8::pg_lsn)`,
		`p.state = 'waiting' AND p.sink = $5 AND p.destination = $6 AND (p.id, p.replay) IN (SELECT id, replay FROM landed)`) + `
		), removed AS (
			DELETE FROM ` + parked + ` p WHERE p.slot = $1 AND p.id = ANY(ARRAY(SELECT id FROM events WHERE leaves))
		), done AS (
			UPDATE ` + parked + ` p SET state = 'done'
			WHERE p.slot = $1 AND p.id = ANY(ARRAY(SELECT id FROM events WHERE NOT leaves)) AND ((p.id, p.replay) IN (SELECT id, replay FROM landed)) IS TRUE
				AND (p.sink = $5) IS TRUE AND (p.destination = $6) IS TRUE AND (p.state = 'waiting') IS TRUE
		)`
	if settlement := t.settlement(t.idIn(`SELECT id FROM events WHERE leaves`)); settlement != "" {
		sql += `, settled AS (` + settlement + `)`
	}
	return sql + ` SELECT EXISTS (SELECT FROM lease) AND ` + lease.Durable
}

// eventsSQL selects, of the ids that the query names, those that have parked rows, and whether the event may leave: the checkpoint has
// passed all of its rows, and each of them is finished, or fulfils the condition. Each event is looked up by itself: the planner can make no
// join of it that reads all that is parked, and stops at a LIMIT.
func eventsSQL(parked, ids, passed, orElse string) string {
	return `SELECT i.id, r.leaves FROM (` + ids + `) i CROSS JOIN LATERAL (
			SELECT bool_and((p.epoch, p.commit_lsn) < ` + passed + ` AND (p.state IN ('done', 'skipped') OR ` + orElse + `)) AS leaves
			FROM ` + parked + ` p WHERE p.slot = $1 AND p.id = i.id
		) r WHERE r.leaves IS NOT NULL`
}
