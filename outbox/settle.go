package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/event"
)

const (
	maxSettle     = 5000    // rows in one statement
	maxKeptBuffer = 1 << 20 // bytes of a buffer that is used again
)

// buffers holds the array parameters between calls, so that a settle allocates nothing for each id.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Settle marks or deletes the rows of the named events that are still NEW, as the table's OnSent says, and returns what the statement
// could see: the events whose transaction is visible in it are settled, the others have to be named again. ids are in text form, as
// the log carries them. More than 5,000 are settled by several statements, and the snapshot is that of the first.
//
// It returns [event.ErrTermLost], with nothing changed, when a later session holds the term. With Keep it does nothing
// and returns a snapshot in which everything is visible.
func (t *Table) Settle(ctx context.Context, conn *pgx.Conn, lease event.Lease, ids [][]byte) (Snapshot, error) {
	if t.config.OnSent == Keep {
		return Snapshot{everything: true}, nil
	}
	var first Snapshot
	for chunk := range slices.Chunk(ids, maxSettle) {
		s, err := t.settle(ctx, conn, lease, chunk)
		if err != nil {
			return Snapshot{}, fmt.Errorf("settle %d rows of %s: %w", len(chunk), t.config.quoted(), err)
		}
		if first.xmax == 0 {
			first = s
		}
	}
	return first, nil
}

func (t *Table) settle(ctx context.Context, conn *pgx.Conn, lease event.Lease, ids [][]byte) (Snapshot, error) {
	sql := t.settleSQL(lease.Schema)
	statement, err := conn.Prepare(ctx, sql, sql) // known on the connection after the first time
	if err != nil {
		return Snapshot{}, err
	}
	buffer := buffers.Get().(*[]byte)
	*buffer = appendArray((*buffer)[:0], ids)
	values := append([][]byte{[]byte(lease.Slot), strconv.AppendInt(nil, lease.Term, 10), *buffer}, t.statuses...)
	result := conn.PgConn().ExecPrepared(ctx, statement.Name, values, nil, nil).Read()
	if cap(*buffer) <= maxKeptBuffer {
		buffers.Put(buffer)
	}
	if result.Err != nil {
		return Snapshot{}, result.Err
	}
	if len(result.Rows) != 1 {
		return Snapshot{}, fmt.Errorf("the statement answered %d rows instead of one", len(result.Rows))
	}
	if ours := string(result.Rows[0][1]); ours != "t" {
		return Snapshot{}, event.ErrTermLost
	}
	return ParseSnapshot(string(result.Rows[0][0]))
}

// settleSQL is the statement for a lease in the given schema. The lease is evaluated first, for the outer SELECT, so that no row is
// touched without it; all parts of one statement share its snapshot.
func (t *Table) settleSQL(schema string) string {
	return `WITH lease AS MATERIALIZED (SELECT 1 FROM ` + pgx.Identifier{schema, "lease"}.Sanitize() +
		` WHERE slot = $1 AND term = $2 FOR SHARE), settled AS (` + t.change + ` AND EXISTS (SELECT FROM lease)) ` +
		`SELECT txid_current_snapshot()::text, EXISTS (SELECT FROM lease)`
}

// Retryable tells whether the same call may be made again on the same connection: a deadlock, a serialization failure, a lock that
// was not to be had, a statement that was cancelled.
func Retryable(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains([]string{"40P01", "40001", "55P03", "57014"}, e.Code)
}
