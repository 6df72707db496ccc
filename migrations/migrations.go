package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/outboxd/outboxd/lease"
)

// lockKey is the advisory lock that Up, Down and the written script hold: "outboxd" in ASCII.
const lockKey = int64(0x6f7574626f7864)

const unlockTimeout = 5 * time.Second

// Report is what Up or Down did.
type Report struct {
	Steps         []Step `json:"steps"`          // applied or removed, in the order in which that happened
	OutboxCreated bool   `json:"outbox_created"` // by Up
	SchemaDropped bool   `json:"schema_dropped"` // by Down
}

// Up makes the outbox table where there is none, and applies the steps that are pending. conn must be a session of its own: see the
// package comment.
func Up(ctx context.Context, conn *pgx.Conn, o Options) (Report, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Report{}, fmt.Errorf("migrate up: %w", err)
	}
	var r Report
	err := locked(ctx, conn, func() (err error) {
		r, err = up(ctx, conn, o)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("migrate schema %q up: %w", o.Schema,
			refused(err, "connect as a role that may create tables there, or have a DBA run what outboxd migrate sql --role NAME prints"))
	}
	return r, nil
}

// refused adds the mend to an error that says that the role lacks a right, or that a lock was not to be had.
func refused(err error, mend string) error {
	switch {
	case lease.HasCode(err, lease.InsufficientPrivilege):
		return fmt.Errorf("the role lacks rights: %s: %w", mend, err)
	case lease.HasCode(err, lease.LockNotAvailable):
		return fmt.Errorf("another session holds a lock on outboxd's tables, a dump for example, and a running outboxd would wait behind this one: "+
			"run it again when that has ended: %w", err)
	default:
		return err
	}
}

func up(ctx context.Context, conn *pgx.Conn, o Options) (r Report, err error) {
	r.Steps = []Step{} // [] in JSON, not null
	before, err := readStatus(ctx, conn, o)
	if err != nil || before.complete() {
		return r, err
	}
	for _, name := range []string{"outbox.sql", "bookkeeping.sql"} {
		script, err := render(name, o)
		if err != nil {
			return r, err
		}
		if _, err := conn.Exec(ctx, script); err != nil {
			return r, err
		}
	}
	r.OutboxCreated = !before.Outbox
	m, err := newMigrator(ctx, conn, o.Schema)
	if err != nil {
		return r, err
	}
	if known := int32(len(m.Migrations)); before.Version > known {
		return r, newer(o.Schema, before.Version, known)
	}
	err = m.Migrate(ctx)
	if conn.IsClosed() {
		return r, err
	}
	after, statusErr := readStatus(ctx, conn, o) // also after an error: what was applied stays
	if statusErr == nil {
		r.Steps = after.Applied[len(before.Applied):]
	}
	return r, errors.Join(err, statusErr)
}

// Down removes outboxd's own tables and, when nothing else is in it, their schema. It never touches the outbox table. conn is as for Up.
func Down(ctx context.Context, conn *pgx.Conn, o Options) (Report, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Report{}, fmt.Errorf("migrate down: %w", err)
	}
	var r Report
	err := locked(ctx, conn, func() (err error) {
		r, err = down(ctx, conn, o)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("migrate schema %q down: %w", o.Schema, refused(err, "connect as the owner of the tables"))
	}
	return r, nil
}

func down(ctx context.Context, conn *pgx.Conn, o Options) (r Report, err error) {
	r.Steps = []Step{}
	there, err := exists(ctx, conn, o.Schema, "schema_version")
	if err != nil || !there {
		return r, err
	}
	before, err := readStatus(ctx, conn, o)
	if err != nil {
		return r, err
	}
	m, err := newMigrator(ctx, conn, o.Schema)
	if err != nil {
		return r, err
	}
	if known := int32(len(m.Migrations)); before.Version > known {
		return r, newer(o.Schema, before.Version, known)
	}
	if err := m.MigrateTo(ctx, 0); err != nil {
		return r, err
	}
	for i := len(before.Applied) - 1; i >= 0; i-- {
		r.Steps = append(r.Steps, before.Applied[i])
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		drop := `DROP TABLE IF EXISTS ` + ident(o.Schema, "schema_history") + `, ` + ident(o.Schema, "schema_version")
		if _, err := tx.Exec(ctx, drop); err != nil {
			return err
		}
		r.SchemaDropped, err = dropSchema(ctx, tx, o.Schema)
		return err
	})
	return r, err
}

// dropSchema drops the schema when it is ours to drop: a schema with anything in it, or of another owner, stays.
func dropSchema(ctx context.Context, tx pgx.Tx, schema string) (bool, error) {
	if schema == "public" {
		return false, nil
	}
	err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
		_, err := savepoint.Exec(ctx, `DROP SCHEMA `+ident(schema)+` RESTRICT`)
		return err
	})
	if lease.HasCode(err, lease.DependentObjectsStillExist, lease.InsufficientPrivilege) {
		return false, nil
	}
	return err == nil, err
}

func newMigrator(ctx context.Context, conn *pgx.Conn, schema string) (*migrate.Migrator, error) {
	m, err := migrate.NewMigrator(ctx, conn, ident(schema, "schema_version"))
	if err != nil {
		return nil, err
	}
	return m, loadSteps(m, schema)
}

// locked runs do with the advisory lock. tern's own lock is not enough: the schema has to exist before tern starts.
func locked(ctx context.Context, conn *pgx.Conn, do func() error) error {
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockKey); err != nil {
		return fmt.Errorf("wait for another migration: %w", err)
	}
	err := do()
	if conn.IsClosed() { // and its locks are gone
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
	defer cancel()
	if _, unlockErr := conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, lockKey); unlockErr != nil {
		return errors.Join(err, fmt.Errorf("release the migration lock: %w", unlockErr))
	}
	return err
}
