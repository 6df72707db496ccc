package outbox

import (
	"context"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
)

const (
	maxSettle     = 5000    // rows in one statement
	maxKeptBuffer = 1 << 20 // bytes of a buffer that is used again
)

// buffers holds the array parameters between calls, so that a settle allocates nothing for each id.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Settle marks or deletes the rows of the named events that are still NEW, as the table's OnSent says, and returns what the statement
// could see: the events whose transaction is visible in it are settled, the others have to be named again. ids are in text form, as
// the log carries them; no row has one that is no value of the id's type. More than 5,000 are settled by several statements, and the snapshot is that of the first.
//
// Rows that the table refuses to settle ([Refused]) stay as they are, and are returned: their events are delivered all the same, and the others are settled by statements without them.
//
// It returns [lease.ErrTermLost] when a later session holds the term, with nothing changed since. With Keep it does nothing
// and returns a snapshot in which everything is visible.
func (t *Table) Settle(ctx context.Context, conn *pgx.Conn, held lease.Lease, ids [][]byte) (first Snapshot, refused []Refusal, err error) {
	if t.config.OnSent == Keep {
		return Snapshot{everything: true}, nil, nil
	}
	for chunk := range slices.Chunk(ids, maxSettle) {
		s, refusals, err := t.settleApart(ctx, conn, held, chunk)
		if err != nil {
			return Snapshot{}, nil, err
		}
		if refused = append(refused, refusals...); first.xmax == 0 {
			first = s
		}
	}
	return first, refused, nil
}

// Refusal is a row that the table refuses to settle, as a trigger or a constraint of the application can.
type Refusal struct {
	ID  []byte
	Err error
}

// settleApart settles the rows by one statement, or, where the table refuses some, by halves. The snapshot is that of the first statement that was not refused.
func (t *Table) settleApart(ctx context.Context, conn *pgx.Conn, held lease.Lease, ids [][]byte) (Snapshot, []Refusal, error) {
	s, err := t.settle(ctx, conn, held, ids)
	if !Refused(err) {
		return s, nil, err
	}
	if len(ids) == 1 {
		s, seenErr := t.settle(ctx, conn, held, nil) // who is refused is visible from then on
		return s, []Refusal{{ids[0], err}}, seenErr
	}
	half := len(ids) / 2
	s, refused, err := t.settleApart(ctx, conn, held, ids[:half])
	if err != nil {
		return Snapshot{}, nil, err
	}
	_, more, err := t.settleApart(ctx, conn, held, ids[half:])
	return s, append(refused, more...), err
}

func (t *Table) settle(ctx context.Context, conn *pgx.Conn, held lease.Lease, ids [][]byte) (Snapshot, error) {
	isID := t.isID()
	isNone := func(id []byte) bool { return !isID(id) }
	if slices.ContainsFunc(ids, isNone) {
		ids = slices.DeleteFunc(slices.Clone(ids), isNone)
	}
	buffer := buffers.Get().(*[]byte)
	*buffer = appendArray((*buffer)[:0], ids)
	values := append([][]byte{*buffer}, t.statuses...)
	row, err := t.writeOften(ctx, conn, held, "settle rows", t.settleSQL(held.Schema), values...)
	if cap(*buffer) <= maxKeptBuffer {
		buffers.Put(buffer)
	}
	if err != nil {
		return Snapshot{}, err
	}
	return ParseSnapshot(string(row[0]))
}

// settleSQL is the statement for a lease in the given schema. An event that is parked is not delivered everywhere, whatever the log lane
// knows of it (what it drops on a replay may be what is parked), so its row is left to Deliver and Finish. The lease is evaluated first, for the
// outer SELECT, so that no row is touched without it; all parts of one statement share its snapshot.
func (t *Table) settleSQL(schema string) string {
	return lease.CTE(schema) + `, settled AS (` + t.change + ` AND ` + t.unparked(schema) + ` AND EXISTS (SELECT FROM lease)) ` +
		`SELECT EXISTS (SELECT FROM lease), txid_current_snapshot()::text`
}

// Retryable tells whether the same call may be made again on the same connection: a deadlock, a serialization failure, a lock that
// was not to be had, a statement that was cancelled.
func Retryable(err error) bool {
	return lease.HasCode(err, lease.DeadlockDetected, lease.SerializationFailure, lease.LockNotAvailable, lease.QueryCanceled)
}
