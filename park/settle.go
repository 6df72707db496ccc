package park

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// Failure is a failed attempt at a row.
type Failure struct {
	Ref      event.Ref
	Attempts int       // how many there were, this one included
	Due      time.Time // when it is tried again; zero: now
	Reason   string    // cut at 500 characters
	State    State     // Waiting or Dead; empty stands for Waiting
	Blocks   bool      // dead: it holds back the later events of its key
}

// Fail writes failed attempts at rows of the destination that wait, durably. Rows in another state stay as they are, and so do those that had another number of
// attempts before: a person has retried them meanwhile.
func Fail(ctx context.Context, conn *pgx.Conn, held lease.Lease, d Destination, failures []Failure) error {
	if len(failures) == 0 {
		return nil
	}
	n := len(failures)
	id, replay, attempts, due, reason, state, blocks := texts(n, 36), ints(n), ints(n), times(n), texts(n, 100), texts(n, 8), bools(n)
	for _, f := range failures {
		id.text(f.Ref.ID)
		replay.int32(int32(f.Ref.Replay))
		attempts.int32(int32(f.Attempts))
		due.time(dueOf(f.Due))
		reason.bytes(reasonOf(f.Reason))
		state.text(string(f.State.orWaiting()))
		blocks.bool(f.Blocks)
	}
	values := [][]byte{[]byte(d.Sink), []byte(d.Name)}
	for _, a := range []*array{id, replay, attempts, due, reason, state, blocks} {
		values = append(values, a.done())
	}
	if _, err := write(ctx, conn, held, failSQL(held.Schema), values...); err != nil {
		return fmt.Errorf("write %d failed attempts at %s: %w", n, d, err)
	}
	return nil
}

func failSQL(schema string) string {
	return lease.CTE(schema) + `, failed AS (` + changeSQL(schema,
		`attempts = n.attempts, due_at = n.due_at, reason = n.reason, state = n.state, blocks = n.blocks`,
		`unnest($5::text[], $6::int4[], $7::int4[], $8::timestamptz[], $9::text[], $10::text[], $11::bool[])
			AS u(id, replay, attempts, due_at, reason, state, blocks)`, ` AND p.attempts = n.attempts - 1`) + `)` + answer("failed")
}

// changeSQL is the UPDATE of the waiting rows of the destination $3, $4 that from names. The planner is to look each of them up by the primary
// key. Where its statistics know nothing of a new backlog it takes every condition for one that few rows meet, and would rather read the whole
// backlog: so the constants come to it as values of the named rows (OFFSET 0 keeps them apart), and the state in a form that the partial
// indexes do not serve.
func changeSQL(schema, set, from, condition string) string {
	return `UPDATE ` + lease.Table(schema, "parked") + ` p SET ` + set + `
		FROM (SELECT $1::text AS slot, $3::text AS sink, $4::text AS destination, u.* FROM ` + from + ` OFFSET 0) n
		WHERE p.slot = n.slot AND p.id = n.id AND p.replay = n.replay AND p.sink = n.sink AND p.destination = n.destination
			AND ` + isWaiting + condition + ` AND EXISTS (SELECT FROM lease) RETURNING p.id`
}

// isWaiting is the condition that p waits, in a form that no index serves.
const isWaiting = `p.state || '' = 'waiting'`

// Settle says that rows of the destination that wait have landed, durably. Rows in another state stay as they are, and so does the outbox
// table.
func Settle(ctx context.Context, conn *pgx.Conn, held lease.Lease, d Destination, refs []event.Ref) error {
	if len(refs) == 0 {
		return nil
	}
	_, err := settle(ctx, conn, held, d, refs)
	return err
}

// settle is Settle, and returns how many of the rows waited.
func settle(ctx context.Context, conn *pgx.Conn, held lease.Lease, d Destination, refs []event.Ref) (int, error) {
	ids, replays := refArrays(refs)
	done := changeSQL(held.Schema, `state = 'done'`, `unnest($5::text[], $6::int4[]) AS u(id, replay)`, "")
	n, err := write(ctx, conn, held, lease.CTE(held.Schema)+`, done AS (`+done+`)`+answer("done"), []byte(d.Sink), []byte(d.Name), ids, replays)
	if err != nil {
		return 0, fmt.Errorf("settle %d events at %s: %w", len(refs), d, err)
	}
	return n, nil
}

// foundMost is how many rows one statement of Found changes.
const foundMost = 5000

// Found settles what the tail of the destination holds, durably: rows that wait and are among refs are done. With all, the tail was read back to where
// those may have landed that have LandedAfter: the others have not. It returns how many are done. One statement per 5,000 refs, then one that records that
// the rest has not landed; if it is cut off before that, every row keeps its mark.
func Found(ctx context.Context, conn *pgx.Conn, held lease.Lease, d Destination, refs []event.Ref, all bool) (int, error) {
	done := 0
	for some := range slices.Chunk(refs, foundMost) {
		n, err := settle(ctx, conn, held, d, some)
		if err != nil {
			return 0, fmt.Errorf("settle what the tail holds: %w", err)
		}
		done += n
	}
	if !all {
		return done, nil
	}
	if _, err := write(ctx, conn, held, tailReadSQL(held.Schema), []byte(d.Sink), []byte(d.Name)); err != nil {
		return 0, fmt.Errorf("settle that the rest has not landed at %s: %w", d, err)
	}
	return done, nil
}

// tailReadSQL says of the rows that wait, up to the last of them, that they have not landed. The position never falls: rows that are dead at the moment may
// stand up to it, and may wait again. A row in doubt that comes to stand before it removes it (insertSQL).
func tailReadSQL(schema string) string {
	return lease.CTE(schema) + `, noted AS (
			INSERT INTO ` + lease.Table(schema, "tail_read") + ` AS t (slot, sink, destination, epoch, commit_lsn, ordinal)
			SELECT p.slot, p.sink, p.destination, p.epoch, p.commit_lsn, p.ordinal FROM (
				SELECT * FROM ` + lease.Table(schema, "parked") + ` p WHERE p.slot = $1 AND p.sink = $3 AND p.destination = $4 AND p.state = 'waiting'
				ORDER BY p.epoch DESC, p.commit_lsn DESC, p.ordinal DESC, p.id DESC, p.replay DESC LIMIT 1
			) p WHERE EXISTS (SELECT FROM lease)
			ON CONFLICT (slot, sink, destination) DO UPDATE SET epoch = excluded.epoch, commit_lsn = excluded.commit_lsn, ordinal = excluded.ordinal
			WHERE (t.epoch, t.commit_lsn, t.ordinal) < (excluded.epoch, excluded.commit_lsn, excluded.ordinal)
			RETURNING 1
		)` + answer("noted")
}
