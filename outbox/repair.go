package outbox

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/shard"
)

// RepairMirrors brings the outbox rows of refused events in order with the table lane, for the parked rows with the next ids behind after:
// it looks at limit of them at most, and returns the last id, or "" at the end. An event shows the worst of its parked rows: one that is
// dead, else the one that was refused most often. A row that is shown as dead and waits again, because a person said so, becomes FAILED.
// Behind an error that is [Refused] it does nothing any more.
func (t *Table) RepairMirrors(ctx context.Context, conn *pgx.Conn, held lease.Lease, after string, limit int) (last string, repaired int, err error) {
	if !t.mirrors() || t.unmirrored.Load() {
		return "", 0, nil
	}
	s := &t.config.Statuses
	parked := parkedTable(held.Schema)
	sql := lease.CTE(held.Schema) + `, looked AS MATERIALIZED (` + lookedSQL(parked, after) + `), states AS MATERIALIZED (
			SELECT i.id, r.status, r.attempts, r.due_at, r.reason
			FROM (SELECT DISTINCT id FROM looked) i CROSS JOIN LATERAL (
				SELECT CASE p.state WHEN 'dead' THEN ` + shard.Literal(s.Dead) + ` ELSE ` + shard.Literal(s.Failed) + ` END AS status, p.attempts,
					CASE p.state WHEN 'waiting' THEN p.due_at END AS due_at, coalesce(p.reason, '') AS reason
				FROM ` + parked + ` p WHERE p.slot = $1 AND p.id = i.id AND p.state IN ('waiting', 'dead')
				ORDER BY p.state = 'dead' DESC, p.attempts DESC, p.due_at, p.replay, p.sink, p.destination LIMIT 1
			) r
		)` + t.mirrorSQL(`(s.attempts > 0 OR s.status = `+shard.Literal(s.Dead)+` OR `+t.isOneOf(s.Dead)+`)`) + lookedAnswer("mirrored")
	row, err := t.write(ctx, conn, held, "repair the mirrored states", sql, []byte(after), number(limit))
	if err != nil {
		return "", 0, t.refusing(err)
	}
	return string(row[0]), count(row[1]), nil
}

// SkipSent takes events for skipped whose outbox row a person has set to SENT while they wait or are dead, for the parked rows with the
// next ids behind after: it looks at limit of them at most, and returns the last id, or "" at the end, and how many parked rows it
// skipped. Replays are left alone: the row of an event that is delivered once more is SENT. So is everything where rows are
// kept, or have no status.
func (t *Table) SkipSent(ctx context.Context, conn *pgx.Conn, held lease.Lease, after string, limit int) (last string, skipped int, err error) {
	if t.config.OnSent == Keep || t.config.Columns.Status == "" {
		return "", 0, nil
	}
	s := &t.config.Statuses
	parked := parkedTable(held.Schema)
	sql := lease.CTE(held.Schema) + `, looked AS MATERIALIZED (` + lookedSQL(parked, after) + `), sent AS MATERIALIZED (
			SELECT ` + t.idText() + ` AS id FROM ` + t.config.quoted() + ` o
			WHERE ` + t.idIn(`SELECT id FROM looked`) + ` AND ` + t.isOneOf(s.Sent, s.Published) + `
		), skipped AS (
			UPDATE ` + parked + ` p SET state = 'skipped'
			WHERE p.slot = $1 AND p.id = ANY(ARRAY(SELECT id FROM sent)) AND p.replay = 0 AND p.state IN ('waiting', 'dead')
			RETURNING p.id, p.sink, p.destination
		), noted AS (
			INSERT INTO ` + lease.Table(held.Schema, "audit") + ` (slot, id, sink, destination, action, note)
			SELECT $1, id, sink, destination, 'skip', 'row set to SENT' FROM skipped
		)` + lookedAnswer("skipped")
	row, err := t.write(ctx, conn, held, "skip what was set to SENT", sql, []byte(after), number(limit))
	if err != nil {
		return "", 0, err
	}
	return string(row[0]), count(row[1]), nil
}

// lookedSQL selects the ids of the next parked rows behind $3, $4 at most, by the primary key. The last event may have rows behind the end, which
// the next walk leaves out: whatever the state of the one that was looked at, all of its event's are taken.
func lookedSQL(parked, after string) string {
	behind := `>`
	if after == "" {
		behind = `>=` // an id may be empty
	}
	return `SELECT id FROM ` + parked + ` WHERE slot = $1 AND id ` + behind + ` $3 AND EXISTS (SELECT FROM lease)
		ORDER BY slot, id LIMIT $4`
}

// lookedAnswer ends a statement that has the CTE looked: where the walk goes on, and how many rows the other CTE has.
func lookedAnswer(changed string) string {
	return ` SELECT EXISTS (SELECT FROM lease), (SELECT CASE WHEN count(*) = $4 THEN max(id) ELSE '' END FROM looked), (SELECT count(*) FROM ` + changed + `)`
}
