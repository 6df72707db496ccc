package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
)

// sweepLook is how many rows with a status a sweep looks at for each one without a parked event that it may return: in an outage
// a million rows can be NEW and parked.
const sweepLook = 20

// Read returns the rows with the ids, in any order. Ids without a row are left out.
func (t *Table) Read(ctx context.Context, db lease.Querier, ids []string) ([]Row, error) {
	return t.read(ctx, db, "read rows", t.source(t.idIn(`SELECT unnest($1::text[])`)), ids)
}

// New returns ids of rows that are NEW and have no parked event, limit at most. It looks at a bounded number of NEW rows; those behind them
// are seen when the first ones are delivered. Rows of other shards do not count, so that it reads all that are NEW of these; nor do rows that were written by a
// transaction before since, as of Adoptable. Without an index on the status it may read the whole table.
func (t *Table) New(ctx context.Context, conn *pgx.Conn, held lease.Lease, since uint64, limit int) (ids []string, err error) {
	id := quote(t.id.name)
	young, args := young(since, []any{held.Slot, limit * sweepLook, limit})
	sql := `SELECT ` + t.idText() + ` FROM (
			SELECT o.` + id + ` FROM ` + t.config.quoted() + ` o WHERE ` + t.hasStatus(t.config.Statuses.New) + t.andOurs() + young + ` LIMIT $2
		) o WHERE ` + t.unparked(held.Schema) + ` LIMIT $3`
	err = query(ctx, conn, sql, args, func(values [][]byte) error {
		ids = append(ids, string(values[0]))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for new rows of %s: %w", t.config.quoted(), err)
	}
	return ids, nil
}

// StillNew returns those of the rows that are NEW and have no parked event.
func (t *Table) StillNew(ctx context.Context, conn *pgx.Conn, held lease.Lease, ids []string) ([]Row, error) {
	from := t.source(t.idIn(`SELECT unnest($2::text[])`)+` AND `+t.isOneOf(t.config.Statuses.New)+t.andOurs()) + ` WHERE ` + t.unparked(held.Schema)
	return t.read(ctx, conn, "read new rows", from, held.Slot, ids)
}

// Undone returns those of the rows that stay undelivered where they are settled, as a trigger or a constraint of the application can undo or refuse that: it
// settles them, looks, and rolls back. Rows that are delivered, gone, or held by somebody else are none of them.
func (t *Table) Undone(ctx context.Context, conn *pgx.Conn, ids []string) (undone []string, err error) {
	undone, err = t.tried(ctx, conn, ids)
	if Refused(err) { // of one row at least
		err = nil
		for i := 0; i < len(ids) && err == nil; i++ {
			one := ids[i : i+1]
			still, refused := t.tried(ctx, conn, one)
			if Refused(refused) {
				still, refused = one, nil
			}
			undone, err = append(undone, still...), refused
		}
	}
	if err != nil {
		return nil, fmt.Errorf("try to settle rows of %s: %w", t.config.quoted(), err)
	}
	return undone, nil
}

// tried is Undone, but that an error is that of the first row that the table refuses to settle.
func (t *Table) tried(ctx context.Context, conn *pgx.Conn, ids []string) (undone []string, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	// A process that stands still between two statements must not keep rows of the application locked; nor is it worth a wait for somebody else's locks.
	_, err = tx.Exec(ctx, `SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL lock_timeout = '100ms'`)
	if err == nil {
		undone, err = t.undone(ctx, tx, ids)
	}
	if lease.HasCode(err, lease.LockNotAvailable) {
		undone, err = nil, nil
	}
	return undone, errors.Join(err, tx.Rollback(ctx))
}

func (t *Table) undone(ctx context.Context, tx pgx.Tx, ids []string) ([]string, error) {
	these := t.idIn(`SELECT unnest($1::text[])`)
	open := func(ids []string) (still []string, err error) {
		sql := `SELECT ` + t.idText() + ` FROM ` + t.config.quoted() + ` o WHERE ` + these + ` AND ` + t.unsettled() + t.lock()
		err = query(ctx, tx, sql, []any{ids}, func(values [][]byte) error {
			still = append(still, string(values[0]))
			return nil
		})
		return still, err
	}
	held, err := open(ids)
	if err != nil || len(held) == 0 {
		return nil, err
	}
	if _, err := tx.Exec(ctx, t.settlement(these), pgx.QueryExecModeExec, held); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `SET CONSTRAINTS ALL IMMEDIATE`); err != nil { // those that are checked at a commit, which never comes
		return nil, err
	}
	return open(held)
}

// DueFailed returns rows that are FAILED and due and have no parked event, limit at most: others made them so. Rows that were written by a transaction before
// since are left out, as by Adoptable. With an index on the status they are
// due without a time in retry_after, too. Without an index on either, or where that on retry_after is of no use, it finds nothing, for it would read the whole
// table each time; and nothing where rows are kept.
func (t *Table) DueFailed(ctx context.Context, conn *pgx.Conn, held lease.Lease, since uint64, limit int) ([]Row, error) {
	c := &t.config.Columns
	if t.config.OnSent == Keep || c.Status == "" || !t.statusIndex && !t.retryIndex {
		return nil, nil
	}
	due := `true`
	if c.RetryAfter != "" {
		due = `o.` + quote(c.RetryAfter) + ` <= now()`
		if t.statusIndex {
			due = `(` + due + ` OR o.` + quote(c.RetryAfter) + ` IS NULL)`
		}
	}
	young, args := young(since, []any{held.Slot, limit * sweepLook, limit})
	from := t.source(t.hasStatus(t.config.Statuses.Failed)+` AND `+due+t.andOurs()+young+` LIMIT $2`) + ` WHERE ` + t.unparked(held.Schema) + ` LIMIT $3`
	return t.read(ctx, conn, "look for failed rows", from, args...)
}
