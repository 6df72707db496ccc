package park

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
)

// Instances counts the sessions that hold the lock of the slot, which is one at most, and those that wait for it. It needs no right.
func Instances(ctx context.Context, conn *pgx.Conn, schema, slot string) (active, standby int, err error) {
	err = conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE granted), count(*) FILTER (WHERE NOT granted) FROM pg_locks
		WHERE `+ofLock, schema, slot).Scan(&active, &standby)
	if err != nil {
		return 0, 0, fmt.Errorf("read the lock of slot %q: %w", slot, err)
	}
	return active, standby, nil
}

// Reason is why events are parked.
type Reason struct {
	Text  string
	State State
	Count int // among the rows that were looked at
}

// Reasons returns the limit most frequent reasons among the first look rows that are dead and the first look that wait.
func Reasons(ctx context.Context, conn *pgx.Conn, schema, slot string, look, limit int) ([]Reason, error) {
	some := func(state string) string {
		return `(SELECT reason, state FROM ` + lease.Table(schema, "parked") + ` WHERE slot = $1 AND state = '` + state + `' LIMIT $2)`
	}
	rows, err := conn.Query(ctx, `SELECT reason, state, count(*) FROM (`+some("dead")+` UNION ALL `+some("waiting")+`) r
		WHERE reason IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1 LIMIT $3`, slot, look, limit)
	var all []Reason
	if err == nil {
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Reason])
	}
	if err != nil {
		return nil, fmt.Errorf("read why events are parked: %w", lease.Classify(err))
	}
	return all, nil
}

// Destinations returns up to limit destinations at which something waits or is dead and blocks, one row read for each.
func Destinations(ctx context.Context, conn *pgx.Conn, schema, slot string, limit int) ([]Destination, error) {
	first := `SELECT p.sink, p.destination FROM ` + lease.Table(schema, "parked") + ` p WHERE p.slot = $1 AND ` + waits
	const order = ` ORDER BY p.sink, p.destination LIMIT 1`
	rows, err := conn.Query(ctx, `WITH RECURSIVE d AS (
			(`+first+order+`)
			UNION ALL
			SELECT n.* FROM d, LATERAL (`+first+` AND (p.sink, p.destination) > (d.sink, d.destination)`+order+`) n
		)
		SELECT sink, destination FROM d LIMIT $2`, slot, limit)
	var all []Destination
	if err == nil {
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Destination])
	}
	if err != nil {
		return nil, fmt.Errorf("read the destinations of what waits: %w", lease.Classify(err))
	}
	return all, nil
}
