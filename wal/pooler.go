package wal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// poolerLooks is how often two connections are compared. Once is enough for a pooler that has nothing else to do; one that has many clients may
// happen to serve the two by different processes for a while.
const poolerLooks = 20

// CheckPooler refuses a pooler that gives a session of the server to several clients in turn (PgBouncer in transaction or statement mode) with a
// [CheckError]: locks, notifications and settings belong to a session, and there would be none. connect opens a second connection like conn.
//
// A pooler makes up the process id that it tells when a connection begins. Where that is not what the server says, two connections are compared: one
// of their own have a process and settings of their own, and keep them.
func CheckPooler(ctx context.Context, conn *pgx.Conn, connect func(context.Context) (*pgx.Conn, error)) error {
	first, err := look(ctx, conn)
	if err != nil || first.pid == fmt.Sprint(conn.PgConn().PID()) {
		return err
	}
	second, err := connect(ctx)
	if err != nil {
		return fmt.Errorf("look for a connection pooler: open a second connection: %w", err)
	}
	shared, err := shareSession(ctx, conn, second)
	if err := errors.Join(err, second.Close(ctx)); err != nil {
		return fmt.Errorf("look for a connection pooler: %w", err)
	}
	if !shared {
		return nil
	}
	return &CheckError{
		CheckThroughPooler, "a connection pooler gives the same session of PostgreSQL to several clients (PgBouncer's pool_mode transaction or statement)", poolerMend,
	}
}

// PgBouncer passes replication connections from 1.23 on. Source: https://www.pgbouncer.org/changelog.html
const poolerMend = "name the server itself in database.url; a pooler must have pool_mode = session for this database, " +
	"pass all startup parameters, and pass replication connections (PgBouncer 1.23 or later)"

// replicationCommand is what an ordinary connection calls a syntax error; the rest of the text is translated.
var replicationCommand = regexp.MustCompile(`IDENTIFY_SYSTEM|(CREATE|START)_REPLICATION`)

// ThroughPooler puts a [CheckError] before the error of a connection that a pooler has refused, or has made an ordinary one of a replication
// connection. Any other error is returned as it is. Seen with PgBouncer 1.18.
func ThroughPooler(err error) error {
	var problem string
	switch pgErr, ok := errors.AsType[*pgconn.PgError](err); {
	case !ok:
		return err
	case pgErr.Code == codeProtocolViolation && strings.Contains(pgErr.Message, "unsupported startup parameter"):
		problem = "a connection pooler refuses the parameters of the connection"
	case pgErr.Code == codeSyntaxError && replicationCommand.MatchString(pgErr.Message):
		problem = "a connection pooler has dropped the parameter replication of the connection"
	default:
		return err
	}
	return fmt.Errorf("%w: %w", &CheckError{CheckThroughPooler, problem, poolerMend}, err)
}

// shareSession tells whether the two connections are served by the same session of the server at any time.
func shareSession(ctx context.Context, one, other *pgx.Conn) (bool, error) {
	mark := fmt.Sprint(one.PgConn().PID())
	if _, err := queryRow(ctx, one.PgConn(), `SELECT set_config('outboxd.probe', '`+mark+`', false)`); err != nil {
		return false, fmt.Errorf("set a parameter: %w", err)
	}
	var began backend
	for i := range poolerLooks {
		a, err := look(ctx, one)
		if err != nil {
			return false, err
		}
		b, err := look(ctx, other)
		if err != nil {
			return false, err
		}
		if i == 0 {
			began = a
		}
		if a != began || a.mark != mark || b.mark == mark || a.pid == b.pid {
			return true, nil
		}
	}
	return false, nil
}

// backend is the session of the server that answered.
type backend struct {
	pid  string
	mark string // what is set in it
}

// look asks which session serves the connection, by a statement that needs none of its own.
func look(ctx context.Context, conn *pgx.Conn) (b backend, err error) {
	row, err := queryRow(ctx, conn.PgConn(), `SELECT pg_backend_pid(), coalesce(current_setting('outboxd.probe', true), '')`)
	if err == nil && len(row) != 2 {
		err = fmt.Errorf("the server answered %d columns, want 2", len(row))
	}
	if err != nil {
		return b, fmt.Errorf("read the server's process: %w", err)
	}
	return backend{pid: string(row[0]), mark: string(row[1])}, nil
}
