package outbox

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ToAdopt returns the ids of rows behind after that are not delivered, in the order of ids, most at most: NEW, FAILED, or taken by a polling projector; all
// where there is no status. The last is where the next call goes on, also of another process; end says that there are no more.
//
// The planner chooses how they are found: where few are due, by one pass through the table as it lies, which several processes of the server may share
// out; where most are, along the index on the id.
func (t *Table) ToAdopt(ctx context.Context, conn *pgx.Conn, after string, most int) (ids []string, end bool, err error) {
	if err := cmp.Or(t.unreadable, t.unwalkable); err != nil {
		return nil, false, fmt.Errorf("adopt rows of %s: %w", t.config.quoted(), err)
	}
	id := quote(t.id.name)
	behind, args := t.behind(after, []any{most})
	sql := `SELECT ` + t.idText() + ` FROM (
			SELECT o.` + id + ` FROM ` + t.config.quoted() + ` o WHERE ` + t.adoptable() + ` AND ` + behind + ` ORDER BY o.` + id + ` LIMIT $1
		) o ORDER BY o.` + id
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = on`); err != nil { // which is off where all other statements know what they look for
			return err
		}
		return query(ctx, tx, sql, args, func(values [][]byte) error {
			ids = append(ids, string(values[0]))
			return nil
		})
	})
	if err != nil {
		return nil, false, fmt.Errorf("look for rows to adopt of %s: %w", t.config.quoted(), err)
	}
	return ids, len(ids) < most, nil
}

// Adopt returns those of the rows with the ids that are still not delivered, in any order.
func (t *Table) Adopt(ctx context.Context, conn *pgx.Conn, ids []string) ([]Row, error) {
	return t.read(ctx, conn, "adopt rows", t.source(t.idIn(`SELECT unnest($1::text[])`)+` AND `+t.adoptable()), ids)
}

// adoptable is the condition that o is adopted.
func (t *Table) adoptable() string {
	s := &t.config.Statuses
	return t.isOneOf(s.New, s.Failed, s.Publishing) + t.andOurs()
}
