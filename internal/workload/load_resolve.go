package workload

import (
	"context"
	"errors"
	"fmt"
)

var errInProgress = errors.New("the transaction in doubt has not ended yet")

// resolve asks what became of the transaction in doubt, and rolls it back if it is prepared. An error says that this is not known yet.
func (w *loadWriter) resolve(ctx context.Context) error {
	if err := w.connection.connect(ctx); err != nil {
		return err
	}
	did, err := w.ask(ctx, w.doubt)
	if err != nil {
		w.connection.hangUp()
		return err
	}
	w.settle(w.doubt.events, did)
	w.doubt = nil
	return nil
}

// ask tells whether the transaction has committed. The server's record of a transaction is not to be trusted after a crash, when its
// number may have been given to another; the rows are, where delivered ones stay.
func (w *loadWriter) ask(ctx context.Context, d *doubt) (did bool, err error) {
	var status string
	var prepared bool
	err = w.connection.conn.QueryRow(ctx, `SELECT CASE WHEN $1::bigint >= txid_snapshot_xmax(s) THEN 'aborted' ELSE coalesce(txid_status($1), 'forgotten') END,
		EXISTS (SELECT FROM pg_prepared_xacts WHERE gid = $2 AND database = current_database())
		FROM txid_current_snapshot() s`, d.xid, d.gid).Scan(&status, &prepared)
	if err != nil {
		return false, fmt.Errorf("ask what became of transaction %d: %w", d.xid, err)
	}
	if prepared {
		if _, err := w.connection.conn.Exec(ctx, "ROLLBACK PREPARED '"+d.gid+"'"); err != nil {
			return false, fmt.Errorf("roll back prepared transaction %s: %w", d.gid, errors.Join(errInProgress, errors.New(err.Error())))
		}
		return false, nil
	}
	if status == "in progress" {
		return false, fmt.Errorf("%w: %d", errInProgress, d.xid)
	}
	if w.l.cfg.Outbox.Deletes {
		return status == "committed", nil
	}
	return w.anyOf(ctx, d)
}

// anyOf tells whether a row of the transaction is there.
func (w *loadWriter) anyOf(ctx context.Context, d *doubt) (there bool, err error) {
	var ids []string
	for _, e := range d.events {
		if !e.undo {
			ids = append(ids, e.id.String())
		}
	}
	t := &w.l.cfg.Outbox
	query := `SELECT EXISTS (SELECT FROM ` + t.Name.Sanitize() + ` WHERE ` + quoted(t.ID) + ` = ANY ($1))`
	if err := w.connection.conn.QueryRow(ctx, query, ids).Scan(&there); err != nil {
		return false, fmt.Errorf("look for the rows of transaction %d: %w", d.xid, err)
	}
	return there, nil
}
