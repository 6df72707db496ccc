package bench

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/workload"
)

// Work is what the database did: in all until now, or between two looks.
type Work struct {
	WAL          int64 `json:"wal_bytes"`
	Transactions int64 `json:"transactions"`
	Inserted     int64 `json:"rows_inserted"`
	Updated      int64 `json:"rows_updated"`
	HOT          int64 `json:"rows_updated_hot"` // of Updated: those that touched no index
	Deleted      int64 `json:"rows_deleted"`
}

// LookAtWork reads the server's counters: the log is the whole server's, transactions are the database's, rows those of the schemas.
func LookAtWork(ctx context.Context, conn *pgx.Conn, schemas ...string) (w Work, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
			(SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
			coalesce(sum(n_tup_ins), 0)::bigint, coalesce(sum(n_tup_upd), 0)::bigint, coalesce(sum(n_tup_hot_upd), 0)::bigint, coalesce(sum(n_tup_del), 0)::bigint
		FROM pg_stat_all_tables WHERE schemaname = ANY ($1)`, schemas).Scan(&w.WAL, &w.Transactions, &w.Inserted, &w.Updated, &w.HOT, &w.Deleted)
	if err != nil {
		return w, fmt.Errorf("read the counters of PostgreSQL: %w", err)
	}
	return w, nil
}

// SettledWork is LookAtWork after the counters have come to rest: sessions report theirs within a second, or when they end.
func SettledWork(ctx context.Context, conn *pgx.Conn, schemas ...string) (Work, error) {
	const looks, pause = 20, 250 * time.Millisecond
	w, err := LookAtWork(ctx, conn, schemas...)
	for same, i := 0, 0; err == nil && same < 5 && i < looks; i++ {
		if !workload.Sleep(ctx, pause) {
			return w, ctx.Err()
		}
		last := w
		if w, err = LookAtWork(ctx, conn, schemas...); w.rows() == last.rows() {
			same++
		} else {
			same = 0
		}
	}
	return w, err
}

func (w Work) rows() [3]int64 { return [3]int64{w.Inserted, w.Updated, w.Deleted} }

// Since is what was done since an earlier look.
func (w Work) Since(before Work) Work {
	return Work{
		w.WAL - before.WAL, w.Transactions - before.Transactions, w.Inserted - before.Inserted, w.Updated - before.Updated,
		w.HOT - before.HOT, w.Deleted - before.Deleted,
	}
}

// Backends are the CPU times of the server's processes that work for one client, nil where they cannot be seen from here.
type Backends struct {
	Walsender *time.Duration
	Others    *time.Duration // settling, parking
}

// LookAtBackends finds the server's processes by the application's name.
func LookAtBackends(ctx context.Context, conn *pgx.Conn, application string) (b Backends, err error) {
	if !local(conn) {
		return b, nil
	}
	rows, err := conn.Query(ctx, `SELECT pid, backend_type = 'walsender' FROM pg_stat_activity
		WHERE application_name = $1 AND pid <> pg_backend_pid()`, application)
	if err != nil {
		return b, fmt.Errorf("look for the server's processes: %w", err)
	}
	var pid int
	var sends bool
	_, err = pgx.ForEachRow(rows, []any{&pid, &sends}, func() error {
		used, ok := CPU(pid)
		if !ok || !isPostgres(pid) {
			return nil
		}
		sum := &b.Others
		if sends {
			sum = &b.Walsender
		}
		if *sum == nil {
			*sum = new(time.Duration)
		}
		**sum += used
		return nil
	})
	if err != nil {
		return b, fmt.Errorf("look for the server's processes: %w", err)
	}
	return b, nil
}

// local tells whether the server runs on this machine.
func local(conn *pgx.Conn) bool {
	switch a := conn.PgConn().Conn().RemoteAddr().(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
