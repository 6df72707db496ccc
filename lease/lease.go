package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// Lease is what a session shows with each statement that writes: the name of its slot and the term that it raised. The
// statement locks the lease's row FOR SHARE and changes nothing when the term is no longer the recorded one.
type Lease struct {
	Schema string // schema of outboxd's own tables
	Slot   string
	Term   int64
}

// ErrTermLost says that a later session raised the term: this one may write nothing any more and ends.
var ErrTermLost = errors.New("the term was raised by a later session")

// ErrNotMigrated says that a table of outboxd's own is missing or older than this program.
var ErrNotMigrated = errors.New("outboxd's own tables are missing or out of date: run outboxd migrate up")

// ErrNoRights says that the role may not use outboxd's own tables.
var ErrNoRights = errors.New("the role lacks rights on outboxd's own tables: have their owner run what outboxd migrate sql --role NAME prints")

// A Querier runs statements: a *pgx.Conn, a pgx.Tx or a *pgxpool.Pool.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Table is the name of one of outboxd's own tables, as SQL.
func Table(schema, name string) string { return pgx.Identifier{schema, name}.Sanitize() }

// CTE locks the lease's row where slot and term are still ours. Every statement of a session that writes begins with it; the parameters $1 and $2 are
// those of [Lease.Params].
func CTE(schema string) string {
	return `WITH lease AS MATERIALIZED (SELECT 1 FROM ` + Table(schema, "lease") + ` WHERE slot = $1 AND term = $2 FOR SHARE)`
}

// Params are the parameters of a statement that begins with [CTE]: slot and term, in text form, and those from $3 on.
func (l Lease) Params(others ...[]byte) [][]byte {
	return slices.Concat([][]byte{[]byte(l.Slot), strconv.AppendInt(nil, l.Term, 10)}, others)
}

// Durable makes the statement's commit wait for the disk on a database with synchronous_commit off, and is true: what is saved or parked lets the slot
// be confirmed, and what is done is not published again, so that a crash of the server must not undo it.
const Durable = `CASE current_setting('synchronous_commit')
	WHEN 'off' THEN set_config('synchronous_commit', 'on', true) = 'on' ELSE true END`

// Classify adds the mend to the errors of a missing schema, table, type, column or right.
func Classify(err error) error {
	switch {
	case HasCode(err, InvalidSchemaName, UndefinedTable, UndefinedObject, UndefinedColumn):
		return fmt.Errorf("%w: %w", ErrNotMigrated, err)
	case HasCode(err, InsufficientPrivilege):
		return fmt.Errorf("%w: %w", ErrNoRights, err)
	default:
		return err
	}
}
