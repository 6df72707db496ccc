package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
)

// Retention says which rows Cleanup deletes. An age counts from created_at; zero means never.
type Retention struct {
	Sent time.Duration // of delivered rows; where rows are kept, of all
	Dead time.Duration // of dead rows
	// Settled says, where rows are kept, which of them are below the confirmed position: those that it sees. Without it none is deleted.
	Settled *Snapshot
	Schema  string // of outboxd's own tables
	DryRun  bool   // count only
}

// Cleanup looks at the next rows in the order of their ids behind after, look at most, and deletes those that are old enough and of which no event
// is parked, for any slot. Rows that somebody holds locked stay, where the role may lock rows; else it waits for them. last is where the next call
// goes on; end says that there are no more rows. Each call is a transaction of its own, and needs no lease.
func (t *Table) Cleanup(ctx context.Context, conn *pgx.Conn, r Retention, after string, look int) (deleted int, last string, end bool, err error) {
	deleted, last, end, err = t.cleanup(ctx, conn, r, after, look)
	if err != nil {
		return 0, "", false, fmt.Errorf("clean up %s: %w", t.config.quoted(), err)
	}
	return deleted, last, end, nil
}

func (t *Table) cleanup(ctx context.Context, conn *pgx.Conn, r Retention, after string, look int) (deleted int, last string, end bool, err error) {
	switch {
	case t.config.Columns.CreatedAt == "":
		return 0, "", false, errNoAge
	case !t.mayDelete && !r.DryRun:
		return 0, "", false, fmt.Errorf("the role may not delete its rows: GRANT DELETE ON %s TO it", t.config.quoted())
	}
	old := t.old(r)
	if old == "" {
		return 0, "", true, nil
	}
	var ids, xmins []string
	list := t.idText() + `, o.` + xminName + `::text, (SELECT txid_snapshot_xmax(txid_current_snapshot()))::text`
	last, end, err = t.walk(ctx, conn, list, old+t.andOurs()+` AND `+t.unused(r.Schema), after, look, nil, func(values [][]byte) error {
		seen, err := t.settledBy(r.Settled, values[1], values[2])
		if seen {
			ids, xmins = append(ids, string(values[0])), append(xmins, string(values[1]))
		}
		return err
	})
	if err != nil || len(ids) == 0 || r.DryRun {
		return len(ids), last, end, err
	}
	deleted, err = t.remove(ctx, conn, r, old, ids, xmins)
	return deleted, last, end, err
}

// old is the condition that o is old enough; "" when none is.
func (t *Table) old(r Retention) string {
	s := &t.config.Statuses
	older := func(age time.Duration) string {
		return `o.` + quote(t.config.Columns.CreatedAt) + ` < now() - make_interval(secs => ` + strconv.FormatFloat(age.Seconds(), 'f', 6, 64) + `)`
	}
	if t.config.OnSent == Keep {
		if r.Settled == nil || r.Sent <= 0 {
			return ""
		}
		return older(r.Sent)
	}
	if t.config.Columns.Status == "" {
		return "" // delivered rows are gone, and no others are to go
	}
	old := ""
	if r.Sent > 0 {
		old = t.isOneOf(s.Sent, s.Published) + ` AND ` + older(r.Sent)
	}
	if r.Dead > 0 {
		dead := t.isOneOf(s.Dead) + ` AND ` + older(r.Dead)
		if old == "" {
			return dead
		}
		old = `(` + old + ` OR ` + dead + `)`
	}
	return old
}

// unused is the condition that no event of o is parked, for any slot that ever had a lease.
func (t *Table) unused(schema string) string {
	return `(SELECT true FROM ` + lease.Table(schema, "lease") + ` l CROSS JOIN LATERAL (
			SELECT FROM ` + parkedTable(schema) + ` p WHERE p.slot = l.slot AND p.id = ` + t.idText() + ` LIMIT 1) p LIMIT 1) IS NULL`
}

// settledBy tells, where rows are kept, whether the snapshot sees what xmin wrote.
func (t *Table) settledBy(s *Snapshot, xmin, xmax []byte) (bool, error) {
	if t.config.OnSent != Keep {
		return true, nil
	}
	x, err := strconv.ParseUint(string(xmin), 10, 32)
	end, err2 := strconv.ParseUint(string(xmax), 10, 64)
	return SeenBy(s, widened(uint32(x), end)), errors.Join(err, err2)
}

// remove deletes the rows, but for those that were changed meanwhile.
func (t *Table) remove(ctx context.Context, conn *pgx.Conn, r Retention, old string, ids, xmins []string) (int, error) {
	id, lock := `o.`+quote(t.id.name), t.lock()
	if lock == "" {
		lock = ` OFFSET 0` // like a lock, it keeps the planner from making a join of it
	}
	tag, err := conn.Exec(ctx, `WITH doomed AS MATERIALIZED (
			SELECT l.id FROM unnest($1::text[], $2::text[]) d(id, xmin) CROSS JOIN LATERAL (
				SELECT `+id+`::text AS id FROM `+t.config.quoted()+` o
				WHERE `+id+` = d.id::`+t.id.elements+` AND o.xmin::text = d.xmin AND `+old+` AND `+t.unused(r.Schema)+lock+`
			) l
		)
		DELETE FROM `+t.config.quoted()+` o WHERE `+t.idIn(`SELECT id FROM doomed`)+` AND `+old,
		pgx.QueryExecModeExec, ids, xmins)
	return int(tag.RowsAffected()), err
}
