package park

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/lease"
)

// InsertBytes is how large the events of one statement that parks are to be together.
const InsertBytes = 4 << 20

// Insert parks rows, durably, by one statement. A row that is there already, in whatever state, stays as it is. It returns how many are
// new. Where a row that may have landed comes to stand before the position that the tail was read to (see [Found]), that is forgotten.
func Insert(ctx context.Context, conn *pgx.Conn, held lease.Lease, rows []Row) (int, error) {
	return insert(ctx, conn, held, rows, insertSQL(held.Schema, "", "", rows))
}

// InsertMissing is Insert, but leaves out rows of events that have a row for the same target, of whatever partition: their place is known. So is that of
// events with any row, replays left out, from before the position behind which the new one may have landed: those had come to all of their destinations.
func InsertMissing(ctx context.Context, conn *pgx.Conn, held lease.Lease, rows []Row) (int, error) {
	// As a subquery it is looked up row by row: the planner can make no join of it that reads all that is parked.
	return insert(ctx, conn, held, rows, insertSQL(held.Schema, "", ` AND (SELECT true FROM `+lease.Table(held.Schema, "parked")+` p
		WHERE p.slot = $1 AND p.id = n.id AND p.replay = n.replay
			AND (p.sink = n.sink AND p.target = n.target OR (p.epoch, p.commit_lsn) < (n.landed_epoch, n.landed_lsn)) LIMIT 1) IS NULL`, rows))
}

// Move parks rows that were loaded at a destination at those that they have now, and says of what stands there that it is done, durably and by one statement.
// A row that is in another state by now, because a person has retried or skipped it, stays where it is.
func Move(ctx context.Context, conn *pgx.Conn, held lease.Lease, from Destination, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	sql := moveSQL(held.Schema, rows)
	if _, err := insertRecords(ctx, conn, held, rows, sql, []byte(from.Sink), []byte(from.Name)); err != nil {
		return fmt.Errorf("move %d events away from %s: %w", len(rows), from, err)
	}
	return nil
}

func moveSQL(schema string, rows []Row) string {
	const named = `(SELECT DISTINCT $1::text AS slot, $4::text AS sink, $5::text AS destination, u.id, u.replay, u.state FROM unnest($3::%s[]) u OFFSET 0) n`
	moved := `moved AS (
			UPDATE ` + lease.Table(schema, "parked") + ` p SET state = 'done', blocks = false FROM ` + fmt.Sprintf(named, lease.Table(schema, "parked_row")) + `
			WHERE p.slot = n.slot AND p.id = n.id AND p.replay = n.replay AND p.sink = n.sink AND p.destination = n.destination
				AND p.state || '' = n.state AND EXISTS (SELECT FROM lease) RETURNING p.id, p.replay
		), `
	return insertSQL(schema, moved, ` AND (n.id, n.replay) IN (SELECT id, replay FROM moved)`, rows)
}

// insertSQL is kept prepared: nothing in its plan depends on how much is parked.
func insertSQL(schema, before, unless string, rows []Row) string {
	values := "n." + strings.Join(strings.Fields(columns), " n.")
	forget := ""
	if slices.ContainsFunc(rows, func(r Row) bool { return !r.LandedAfter.IsZero() }) {
		forget = `, forgotten AS (
			DELETE FROM ` + lease.Table(schema, "tail_read") + ` t USING unnest($3::` + lease.Table(schema, "parked_row") + `[]) AS n
			WHERE t.slot = $1 AND n.landed_epoch IS NOT NULL AND t.sink = n.sink AND t.destination = n.destination
				AND (n.epoch, n.commit_lsn, n.ordinal) <= (t.epoch, t.commit_lsn, t.ordinal) AND EXISTS (SELECT FROM lease)
		)`
	}
	return lease.CTE(schema) + `, ` + before + `parked AS (
			INSERT INTO ` + lease.Table(schema, "parked") + ` (slot, ` + columns + `) SELECT $1, ` + values + `
			FROM unnest($3::` + lease.Table(schema, "parked_row") + `[]) AS n WHERE EXISTS (SELECT FROM lease)` + unless + `
			ON CONFLICT DO NOTHING RETURNING 1
		)` + forget + answer("parked")
}

func insert(ctx context.Context, conn *pgx.Conn, held lease.Lease, rows []Row, sql string) (int, error) {
	if len(rows) == 0 {
		return 0, nil
	}
	n, err := insertRecords(ctx, conn, held, rows, sql)
	if err != nil {
		return 0, fmt.Errorf("park %d events: %w", len(rows), err)
	}
	return n, nil
}

func insertRecords(ctx context.Context, conn *pgx.Conn, held lease.Lease, rows []Row, sql string, values ...[]byte) (int, error) {
	prepared, err := conn.Prepare(ctx, sql, sql) // known on the connection after the first time
	if err != nil {
		return 0, lease.Classify(err)
	}
	oid, err := recordType(ctx, conn, prepared)
	if err != nil {
		return 0, err
	}
	all, formats := withLease(held, append([][]byte{newRecords(oid, rows)}, values...))
	return answered(conn.PgConn().ExecPrepared(ctx, prepared.Name, all, formats, []int16{1}).Read())
}

// recordType returns the OID of parked_row, which each database gives itself, from that of the statement's parameter. It is asked for
// once in the life of a connection.
func recordType(ctx context.Context, conn *pgx.Conn, prepared *pgconn.StatementDescription) (oid uint32, err error) {
	const rows = 2 // $3
	array := prepared.ParamOIDs[rows]
	known, key := conn.PgConn().CustomData(), fmt.Sprintf("outboxd: element of type %d", array)
	if oid, ok := known[key].(uint32); ok {
		return oid, nil
	}
	if err := conn.QueryRow(ctx, `SELECT typelem FROM pg_catalog.pg_type WHERE oid = $1`, array).Scan(&oid); err != nil {
		return 0, fmt.Errorf("look up the type of parked rows: %w", lease.Classify(err))
	}
	known[key] = oid
	return oid, nil
}

// NextReplays returns the first of n consecutive replay numbers that are higher than all that were given before. Commands that
// take theirs at the same moment may share some, which only matters to one event replayed by both: it is then replayed once.
func NextReplays(ctx context.Context, conn *pgx.Conn, schema string, n int) (first int, err error) {
	name := lease.Table(schema, "replay_number")
	err = conn.QueryRow(ctx, `SELECT min(nextval($1::text::regclass)) FROM generate_series(1, $2::int)`, name, n).Scan(&first)
	if err != nil {
		return 0, fmt.Errorf("take replay numbers: %w", lease.Classify(err))
	}
	return first, nil
}
