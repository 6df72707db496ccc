package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Update is the name of the rival that publishes nothing: it marks the rows and does nothing else, which bounds whatever marks them.
const Update = "update"

// updateBatch is how many rows one of its statements marks, as many as outboxd's at most.
const updateBatch = 5000

// update writes the same rows into a table of the same shape and marks them by statements that name them, one after the other on one connection.
func update(ctx context.Context, f *Field) (run Run, err error) {
	rows := *f.Backlog
	rows.Table = pgx.Identifier{f.Backlog.Table[0], "bench_update"}
	table := rows.Table.Sanitize()
	if _, err := f.Conn.Exec(ctx, `CREATE TABLE `+table+` (LIKE `+f.Backlog.Table.Sanitize()+` INCLUDING ALL)`); err != nil {
		return run, fmt.Errorf("make the table to be updated: %w", err)
	}
	defer func() {
		_, dropped := f.Conn.Exec(context.WithoutCancel(ctx), `DROP TABLE `+table)
		err = errors.Join(err, dropped)
	}()
	if err := rows.Write(ctx, f.Conn, func(int) {}); err != nil {
		return run, err
	}
	for _, sql := range []string{`VACUUM (ANALYZE) ` + table, `CHECKPOINT`, `SET synchronous_commit = on`} {
		if _, err := f.Conn.Exec(ctx, sql); err != nil {
			return run, fmt.Errorf("prepare the table to be updated: %w", err)
		}
	}
	pid := int(f.Conn.PgConn().PID())
	before, began := Known(CPU(pid)), time.Now()
	var watched Watched
	for first := 0; first < rows.Rows; first += updateBatch {
		ids := make([]string, 0, updateBatch)
		for n := first; n < min(first+updateBatch, rows.Rows); n++ {
			ids = append(ids, rows.id(int64(n)))
		}
		tag, err := f.Conn.Exec(ctx, `UPDATE `+table+` SET status = 'SENT' WHERE id = ANY ($1::text[]::uuid[]) AND status = `+quote(rows.Status), ids)
		if err != nil {
			return run, fmt.Errorf("update rows: %w", err)
		}
		if tag.RowsAffected() != int64(len(ids)) {
			return run, fmt.Errorf("an UPDATE of %d rows changed %d", len(ids), tag.RowsAffected())
		}
		watched.Entries, watched.Last = watched.Entries+tag.RowsAffected(), time.Since(began)
		f.Seen(watched.Entries)
	}
	run = NewRun(Update, watched, f.Backlog.Payload)
	run.Settled = watched.Last.Seconds()
	run.CPU.Backends = PerMillion(Used(before, Known(CPU(pid))), run.Entries)
	return run, nil
}
