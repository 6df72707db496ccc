package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbyName is the standby's name with its primary: of its slot, and of what the primary's commits wait for.
const standbyName = "standby"

// Standby makes a streaming standby, and returns when every commit of p waits for it: what is acknowledged from then on is on its disk. It has the
// settings and certificates of p, a disk and a clock of its own where p has, and a physical slot there, but none of p's slots. It is the caller's to
// close. A server has one at a time. Other goroutines may kill and start p meanwhile, which makes it an error at worst.
func (p *PostgresServer) Standby(ctx context.Context) (*PostgresServer, error) {
	if p.folder == nil {
		return nil, errors.New("make a standby: the server was given by URL, and its files are not ours to copy")
	}
	s, err := attempts(ctx, func(ctx context.Context) (*PostgresServer, error) {
		return newPostgres(ctx, postgresBinaries{bin: p.Bin, major: p.Major}, func(ctx context.Context, s *PostgresServer, owner *account, port int) error {
			return s.follow(ctx, p, owner, port)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("make a standby: %w", err)
	}
	s.owner = p.owner
	return s, nil
}

// follow makes p a standby of leader.
func (p *PostgresServer) follow(ctx context.Context, leader *PostgresServer, owner *account, port int) error {
	primary, err := url.Parse(leader.URL)
	if err != nil {
		return err
	}
	if err := p.adoptPrograms(owner); err != nil {
		return err
	}
	if err := p.mount(leader.disk, owner); err != nil {
		return err
	}
	if len(leader.environ) > 0 {
		if p.environ, err = p.clock(owner); err != nil {
			return err
		}
	}
	label, err := leader.backUp(ctx, p.folder.file(dataName), owner)
	if err != nil {
		return fmt.Errorf("copy the primary's files: %w", err)
	}
	err = cmp.Or(
		p.folder.write(logName, "", owner),
		p.folder.write(filepath.Join(dataName, "backup_label"), label, owner),
		p.folder.write(filepath.Join(dataName, "standby.signal"), "", owner),
		p.set(
			fmt.Sprintf("port = %d", port),
			"unix_socket_directories = '"+p.folder.path+"'",
			fmt.Sprintf("primary_conninfo = 'host=%s port=%s user=postgres application_name=%s'", primary.Hostname(), primary.Port(), standbyName),
			"primary_slot_name = '"+standbyName+"'",
			"wal_retrieve_retry_interval = 100ms", // the primary may be killed and started again
			"synchronous_standby_names = ''",      // once promoted, until it has a standby of its own
		),
	)
	if err != nil {
		return err
	}
	if err := p.serve(ctx, owner); err != nil {
		return err
	}
	return leader.waitForStandby(ctx)
}

// backUp copies the server's files while it runs, in the way of PostgreSQL's low-level API for base backups, because pg_basebackup is not among
// the programs of every version. It returns the content of backup_label.
// Source: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
func (p *PostgresServer) backUp(ctx context.Context, to string, owner *account) (label string, err error) {
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	// The slot keeps the log from before the copy on, also while the standby is away. An attempt before may have made it.
	const slot = `SELECT pg_create_physical_replication_slot($1, true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`
	if _, err := conn.Exec(ctx, slot, standbyName); err != nil {
		return "", err
	}
	begin, end := "SELECT pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if p.Major < 15 {
		begin, end = "SELECT pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	if _, err := conn.Exec(ctx, begin); err != nil {
		return "", err
	}
	if err := copyData(p.folder.file(dataName), to, owner); err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, end).Scan(&label)
	return label, err
}

// notCopied are files and contents of folders of the primary alone, as pg_basebackup leaves them out.
var notCopied = []string{
	"pg_wal/*", "pg_replslot/*", "pg_dynshmem/*", "pg_notify/*", "pg_serial/*", "pg_snapshots/*", "pg_stat_tmp/*", "pg_subtrans/*",
	"postmaster.pid", "postmaster.opts", "backup_label*", "base/pgsql_tmp", "base/*/pg_internal.init*", "global/pg_internal.init*",
}

// copyData copies a data folder whose server runs: files may go meanwhile.
func copyData(from, to string, owner *account) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(notCopied, func(pattern string) bool { left, _ := filepath.Match(pattern, name); return left }) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		target := filepath.Join(to, name)
		if entry.IsDir() {
			err = os.MkdirAll(target, 0o700) // a disk of its own is there already
		} else if err = copyFile(path, target); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || owner == nil {
			return err
		}
		return os.Chown(target, owner.uid, owner.gid)
	})
}

// waitForStandby makes the primary's commits wait for its standby, and returns when they do and it has everything from before.
func (p *PostgresServer) waitForStandby(ctx context.Context) error {
	if err := p.set("synchronous_standby_names = '" + standbyName + "'"); err != nil {
		return err
	}
	if err := p.query(ctx, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	var setting string
	err := p.await(ctx, "SHOW synchronous_standby_names", &setting, func() bool { return setting == standbyName })
	if err != nil {
		return err
	}
	// A new session knows the setting, so the checkpointer was told, too. It is that process that makes commits wait, before its next checkpoint.
	if err := p.query(ctx, "CHECKPOINT"); err != nil {
		return err
	}
	return p.CaughtUp(ctx)
}

// CaughtUp waits until the standby has on its disk what p has at the call.
func (p *PostgresServer) CaughtUp(ctx context.Context) error {
	var end string
	if err := p.await(ctx, "SELECT pg_current_wal_flush_lsn()::text", &end, func() bool { return true }); err != nil {
		return err
	}
	var caught bool
	const sql = `SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = $1 AND sync_state = 'sync' AND flush_lsn >= $2::text::pg_lsn)`
	if err := p.await(ctx, sql, &caught, func() bool { return caught }, standbyName, end); err != nil {
		return fmt.Errorf("wait for the standby to have %s: %w", end, err)
	}
	return nil
}

// await asks in new sessions until the answer is good.
func (p *PostgresServer) await(ctx context.Context, sql string, answer any, good func() bool, args ...any) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.ask(ctx, sql, answer, args...)
		if err == nil && good() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", strings.TrimSpace(sql), errors.Join(context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}

func (p *PostgresServer) ask(ctx context.Context, sql string, answer any, args ...any) error {
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return err
	}
	err = conn.QueryRow(ctx, sql, args...).Scan(answer)
	return cmp.Or(err, conn.Close(ctx))
}

// Promote makes a standby a primary, on a timeline of its own, and waits until it takes writes. On a server that is none it does nothing.
func (p *PostgresServer) Promote(ctx context.Context) error {
	if err := p.query(ctx, "SELECT pg_promote(false) WHERE pg_is_in_recovery()"); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	recovering := true
	return p.await(ctx, "SELECT pg_is_in_recovery()", &recovering, func() bool { return !recovering })
}
