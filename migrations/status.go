package migrations

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/outboxd/outboxd/lease"
)

// Step is one file of the package's steps.
type Step struct {
	Version   int32     `json:"version"`
	Name      string    `json:"name"`
	AppliedAt time.Time `json:"applied_at,omitzero"` // by the server's clock; zero when it is not known, or not applied
}

// Status is what is there.
type Status struct {
	Applied []Step `json:"applied"`
	Pending []Step `json:"pending"`
	Version int32  `json:"version"` // of the schema; may be more than this program knows
	Outbox  bool   `json:"outbox"`  // whether the outbox table exists
}

// ReadStatus tells which steps are applied. It changes nothing and needs no more than SELECT on outboxd's own tables.
func ReadStatus(ctx context.Context, db lease.Querier, o Options) (Status, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Status{}, fmt.Errorf("read migration status: %w", err)
	}
	s, err := readStatus(ctx, db, o)
	if lease.HasCode(err, lease.InsufficientPrivilege) {
		err = fmt.Errorf("%w: %w", lease.ErrNoRights, err)
	}
	if err != nil {
		return Status{}, fmt.Errorf("read migration status of schema %q: %w", o.Schema, err)
	}
	return s, nil
}

// Verify returns nil when the schema is the one that this program was made for, [lease.ErrNotMigrated] when steps are pending, and another
// error when the schema is newer than the program.
func Verify(ctx context.Context, db lease.Querier, o Options) error {
	s, err := ReadStatus(ctx, db, o)
	if err != nil {
		return err
	}
	if known := int32(len(s.Applied) + len(s.Pending)); s.Version > known {
		return newer(o.withDefaults().Schema, s.Version, known)
	}
	if len(s.Pending) > 0 {
		return fmt.Errorf("schema %q lacks step %s: %w", o.withDefaults().Schema, s.Pending[0].Name, lease.ErrNotMigrated)
	}
	return nil
}

func newer(schema string, version, known int32) error {
	return fmt.Errorf("schema %q has version %d and this program knows %d: run a newer outboxd", schema, version, known)
}

func readStatus(ctx context.Context, db lease.Querier, o Options) (s Status, err error) {
	m := &migrate.Migrator{} // without a connection it only holds the steps
	if err := loadSteps(m, o.Schema); err != nil {
		return s, err
	}
	if s.Outbox, err = exists(ctx, db, o.TableSchema, o.Table); err != nil {
		return s, err
	}
	if s.Version, err = version(ctx, db, o.Schema); err != nil {
		return s, err
	}
	times, err := history(ctx, db, o.Schema, s.Version)
	if err != nil {
		return s, err
	}
	s.Applied, s.Pending = []Step{}, []Step{} // [] in JSON, not null
	for _, step := range m.Migrations {
		known := Step{Version: step.Sequence, Name: step.Name, AppliedAt: times[step.Sequence]}
		if step.Sequence <= s.Version {
			s.Applied = append(s.Applied, known)
		} else {
			s.Pending = append(s.Pending, known)
		}
	}
	return s, nil
}

// complete tells whether nothing is to do for Up: a role that may not make tables finds that out, too.
func (s *Status) complete() bool {
	return s.Outbox && len(s.Pending) == 0 && int(s.Version) == len(s.Applied)
}

// version reads the version that tern keeps; 0 where nothing was migrated.
func version(ctx context.Context, db lease.Querier, schema string) (v int32, err error) {
	there, err := exists(ctx, db, schema, "schema_version")
	if err != nil || !there {
		return 0, err
	}
	err = db.QueryRow(ctx, `SELECT version FROM `+ident(schema, "schema_version")).Scan(&v)
	return v, err
}

func history(ctx context.Context, db lease.Querier, schema string, version int32) (map[int32]time.Time, error) {
	times := map[int32]time.Time{}
	if version == 0 {
		return times, nil
	}
	rows, err := db.Query(ctx, `SELECT version, applied_at FROM `+ident(schema, "schema_history"))
	if err != nil {
		return nil, err
	}
	var v int32
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&v, &at}, func() error {
		times[v] = at
		return nil
	})
	return times, err
}

// exists looks into the catalog, which needs no right on the schema.
func exists(ctx context.Context, db lease.Querier, schema, table string) (there bool, err error) {
	err = db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2)`, schema, table).Scan(&there)
	return there, err
}
