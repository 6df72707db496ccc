package outbox

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Adoptable returns ids of rows that are not delivered (NEW, FAILED, or taken by a polling projector; all where there is no status): those behind after in
// the order of ids, limit at most. Rows that were written by a transaction before since, a 64-bit id, are left out; 0 leaves none out. The last id is where
// the next call goes on, also of another process; "" is before the first. end says that there are no more. A table without one of the columns, or without a
// sorted index on the id, is an error that names the mend.
//
// From the first row on the planner chooses how they are found: where few are due by a sequential scan, which may be parallel. With since, of which it
// knows nothing, it always is one, or an index on the status. Behind another row, as many were due before it, they are found along the index on the id.
func (t *Table) Adoptable(ctx context.Context, conn *pgx.Conn, since uint64, after string, limit int) (ids []string, end bool, err error) {
	err = cmp.Or(t.unreadable, t.unwalkable)
	if err == nil {
		err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			ids, err = t.adoptableIDs(ctx, tx, since, after, limit)
			return err
		})
	}
	if err != nil {
		return nil, false, fmt.Errorf("look for rows to adopt of %s: %w", t.config.quoted(), err)
	}
	return ids, len(ids) < limit, nil
}

func (t *Table) adoptableIDs(ctx context.Context, tx pgx.Tx, since uint64, after string, limit int) (ids []string, err error) {
	if !t.isID()([]byte(after)) {
		after = "" // the ids were others when it was noted
	}
	if after == "" {
		// Sessions have it off, and that would force the index: one read of a page, wherever it is, for each row.
		if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = on`); err != nil {
			return nil, err
		}
	}
	behind, args := t.behind(after, []any{limit})
	young, args := young(since, args)
	due := t.config.quoted() + ` o WHERE ` + t.adoptable() + ` AND ` + behind + young
	if since > 0 && after == "" {
		due = `(SELECT o.` + quote(t.id.name) + ` FROM ` + due + ` OFFSET 0) o` // the order of ids is none of what finds them
	}
	sql := `SELECT ` + t.idText() + ` FROM ` + due + ` ORDER BY o.` + quote(t.id.name) + ` LIMIT $1`
	err = query(ctx, tx, sql, args, func(values [][]byte) error {
		if values[0] == nil {
			return fmt.Errorf("a row that is due has no %s: give it one", t.id.name)
		}
		ids = append(ids, string(values[0]))
		return nil
	})
	return ids, err
}

// young is the condition, behind others, that o was not written by a transaction before since, and args with the parameter that it adds; nothing where since is 0.
func young(since uint64, args []any) (string, []any) {
	if since == 0 {
		return ``, args
	}
	args = append(args, since)
	return ` AND ` + writtenSince(`o.xmin`, `(SELECT txid_snapshot_xmax(txid_current_snapshot()))`, fmt.Sprintf(`$%d::bigint`, len(args))), args
}

// writtenSince is the condition that a row of the xmin was not written before a transaction, by the arithmetic of widened; xmax is as there.
func writtenSince(xmin, xmax, since string) string {
	return fmt.Sprintf(`%s::text::bigint >= %d AND (%s - %[1]s::text::bigint) & x'ffffffff'::bigint <= least(%[3]s - %[4]s, x'80000000'::bigint)`,
		xmin, firstNormalXid, xmax, since)
}

// StillAdoptable returns those of the rows with the ids that are still not delivered, in any order.
func (t *Table) StillAdoptable(ctx context.Context, conn *pgx.Conn, ids []string) ([]Row, error) {
	return t.read(ctx, conn, "adopt rows", t.source(t.idIn(`SELECT unnest($1::text[])`)+` AND `+t.adoptable()), ids)
}

// adoptable is the condition that o is adopted.
func (t *Table) adoptable() string {
	s := &t.config.Statuses
	return t.isOneOf(s.New, s.Failed, s.Publishing) + t.andOurs()
}
