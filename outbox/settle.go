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
// It returns [lease.ErrTermLost], with nothing changed, when a later session holds the term. With Keep it does nothing
// and returns a snapshot in which everything is visible.
func (t *Table) Settle(ctx context.Context, conn *pgx.Conn, held lease.Lease, ids [][]byte) (Snapshot, error) {
	if t.config.OnSent == Keep {
		return Snapshot{everything: true}, nil
	}
	var first Snapshot
	for chunk := range slices.Chunk(ids, maxSettle) {
		s, err := t.settle(ctx, conn, held, chunk)
		if err != nil {
			return Snapshot{}, err
		}
		if first.xmax == 0 {
			first = s
		}
	}
	return first, nil
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
