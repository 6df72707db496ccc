package park

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
)

// Failure is a failed attempt at a row.
type Failure struct {
	Ref      event.Ref
	Attempts int       // how many there were, this one included
	Due      time.Time // when it is tried again
	Reason   string
	State    State // Waiting or Dead
	Blocks   bool  // dead: it holds back the later events of its key
}

// Fail writes failed attempts at rows of the destination that wait, durably.
func Fail(ctx context.Context, conn *pgx.Conn, lease event.Lease, d Destination, failures []Failure) error {
	if len(failures) == 0 {
		return nil
	}
	n := len(failures)
	id, replay, attempts, due, reason, state, blocks := texts(n, 36), ints(n), ints(n), times(n), texts(n, 100), texts(n, 8), bools(n)
	for _, f := range failures {
		id.text(f.Ref.ID)
		replay.int32(int32(f.Ref.Replay))
		attempts.int32(int32(f.Attempts))
		due.time(f.Due)
		reason.bytes(reasonOf(f.Reason))
		state.text(string(f.State))
		blocks.bool(f.Blocks)
	}
	sql := leaseCTE(lease.Schema) + `, failed AS (
		UPDATE ` + table(lease.Schema, "parked") + ` p SET attempts = n.attempts, due_at = coalesce(n.due_at, now()), reason = n.reason,
			state = n.state, blocks = n.blocks
		FROM unnest($5::text[], $6::int4[], $7::int4[], $8::timestamptz[], $9::text[], $10::text[], $11::bool[])
			AS n(id, replay, attempts, due_at, reason, state, blocks)
		WHERE p.slot = $1 AND p.id = n.id AND p.replay = n.replay AND p.sink = $3 AND p.destination = $4 AND p.state = 'waiting'
			AND EXISTS (SELECT FROM lease) RETURNING 1)` + answer("failed")
	values := [][]byte{[]byte(d.Sink), []byte(d.Name)}
	for _, a := range []*array{id, replay, attempts, due, reason, state, blocks} {
		values = append(values, a.done())
	}
	_, err := write(ctx, conn, lease, sql, values, 2)
	if err != nil {
		return fmt.Errorf("write %d failed attempts at %s: %w", n, d, err)
	}
	return nil
}

// Settle says that rows of the destination that wait have landed, durably.
func Settle(ctx context.Context, conn *pgx.Conn, lease event.Lease, d Destination, refs []event.Ref) error {
	if len(refs) == 0 {
		return nil
	}
	ids, replays := refArrays(refs)
	sql := leaseCTE(lease.Schema) + `, done AS (` + doneSQL(lease.Schema) + `)` + answer("done")
	if _, err := write(ctx, conn, lease, sql, [][]byte{[]byte(d.Sink), []byte(d.Name), ids, replays}, 2); err != nil {
		return fmt.Errorf("settle %d events at %s: %w", len(refs), d, err)
	}
	return nil
}

func doneSQL(schema string) string {
	return `UPDATE ` + table(schema, "parked") + ` p SET state = 'done'
		FROM unnest($5::text[], $6::int4[]) AS n(id, replay)
		WHERE p.slot = $1 AND p.id = n.id AND p.replay = n.replay AND p.sink = $3 AND p.destination = $4 AND p.state = 'waiting'
			AND EXISTS (SELECT FROM lease) RETURNING p.id`
}

// Found settles what the tail of the destination holds, durably: rows that wait and are among refs are done; all others have not landed.
// It returns how many are done.
func Found(ctx context.Context, conn *pgx.Conn, lease event.Lease, d Destination, refs []event.Ref) (int, error) {
	ids, replays := refArrays(refs)
	sql := leaseCTE(lease.Schema) + `, done AS (` + doneSQL(lease.Schema) + `), cleared AS (
		UPDATE ` + table(lease.Schema, "parked") + ` p SET landed_epoch = NULL, landed_lsn = NULL, landed_ordinal = NULL
		WHERE p.slot = $1 AND p.sink = $3 AND p.destination = $4 AND p.state = 'waiting' AND p.landed_epoch IS NOT NULL
			AND NOT EXISTS (SELECT FROM unnest($5::text[], $6::int4[]) AS n(id, replay) WHERE n.id = p.id AND n.replay = p.replay)
			AND EXISTS (SELECT FROM lease))` + answer("done")
	n, err := write(ctx, conn, lease, sql, [][]byte{[]byte(d.Sink), []byte(d.Name), ids, replays}, 2)
	if err != nil {
		return 0, fmt.Errorf("settle what the tail of %s holds: %w", d, err)
	}
	return n, nil
}

// String returns "SINK NAME"; "no destination" for events that have none.
func (d Destination) String() string {
	if d == (Destination{}) {
		return "no destination"
	}
	return d.Sink + " " + d.Name
}
