package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Values of pg_class.relkind and relpersistence.
const (
	kindTable            = "r"
	kindPartitionedTable = "p"
	persistencePermanent = "p"
	persistenceUnlogged  = "u"
)

var relationKinds = map[string]string{
	"v": "a view", "m": "a materialized view", "f": "a foreign table", "i": "an index", "I": "an index",
	"S": "a sequence", "t": "a TOAST table", "c": "a composite type",
}

// checkTable checks that rows of the table reach the log.
func (v *verifier) checkTable(ctx context.Context) error {
	var (
		oid               uint32
		kind, persistence string
	)
	err := v.conn.QueryRow(ctx, `SELECT c.oid, c.relkind::text, c.relpersistence::text, pg_get_userbyid(c.relowner)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`,
		v.cfg.Schema, v.cfg.Table).Scan(&oid, &kind, &persistence, &v.server.TableOwner)
	if errors.Is(err, pgx.ErrNoRows) {
		return v.missingTable(ctx)
	}
	if err != nil {
		return fmt.Errorf("read table %s: %w", v.cfg.table(), err)
	}
	v.server.Partitioned = kind == kindPartitionedTable
	if kind != kindTable && kind != kindPartitionedTable {
		v.fail(CheckTable, fmt.Sprintf("%s is %s, want a table", v.cfg.table(), relationKinds[kind]),
			"name the table that the rows are inserted into in the configuration")
		return nil
	}
	switch persistence {
	case persistencePermanent:
	case persistenceUnlogged:
		v.fail(CheckTable, fmt.Sprintf("%s is UNLOGGED, its rows never reach the log", v.cfg.table()),
			"ALTER TABLE "+v.cfg.relation()+" SET LOGGED")
	default:
		v.fail(CheckTable, fmt.Sprintf("%s is a temporary table, its rows never reach the log", v.cfg.table()),
			"name a permanent table in the configuration")
	}
	look := v.checkChildren
	if v.server.Partitioned {
		look = v.checkPartitions
	}
	if err := look(ctx, oid); err != nil {
		return err
	}
	return v.checkColumns(ctx, oid)
}

// missingTable names what the person may have meant: another schema, or another case.
func (v *verifier) missingTable(ctx context.Context) error {
	rows, err := v.conn.Query(ctx, `SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND lower(c.relname) = lower($1) ORDER BY 1 LIMIT 3`, v.cfg.Table)
	if err != nil {
		return fmt.Errorf("look for table %s: %w", v.cfg.table(), err)
	}
	others, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for table %s: %w", v.cfg.table(), err)
	}
	mend := "create it with outboxd migrate up, or name another in the configuration"
	if len(others) > 0 {
		mend = "did you mean " + strings.Join(others, " or ") + "? Name it in the configuration, or create this one with outboxd migrate up"
	}
	v.fail(CheckTable, fmt.Sprintf("table %s does not exist in database %q", v.cfg.table(), v.server.Database), mend)
	return nil
}

// checkChildren finds tables that inherit from the table, as triggers that partition it and extensions make them. Rows reach the log under the name of the
// child that holds them, and a publication does not take in children that are made later.
// Source: https://www.postgresql.org/docs/current/sql-createpublication.html
func (v *verifier) checkChildren(ctx context.Context, oid uint32) error {
	children, err := v.names(ctx, `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1 ORDER BY 1 LIMIT 3`, oid)
	if err != nil {
		return fmt.Errorf("read children of %s: %w", v.cfg.table(), err)
	}
	if len(children) > 0 {
		v.fail(CheckTable, fmt.Sprintf("tables inherit from %s (%s), and rows that are in them do not arrive", v.cfg.table(), strings.Join(children, ", ")),
			"partition it by PARTITION BY, not by inheritance (nor as a hypertable), or take the children off: ALTER TABLE CHILD NO INHERIT "+v.cfg.relation()+" for each")
	}
	return nil
}

// checkPartitions finds partitions whose rows never reach the log.
func (v *verifier) checkPartitions(ctx context.Context, root uint32) error {
	unlogged, err := v.names(ctx, `SELECT c.oid::regclass::text || CASE WHEN c.relkind = 'f' THEN ' (a foreign table)' ELSE ' (UNLOGGED)' END
		FROM pg_partition_tree($1) p JOIN pg_class c ON c.oid = p.relid
		WHERE p.isleaf AND (c.relkind = 'f' OR c.relpersistence <> 'p') ORDER BY 1 LIMIT 10`, root)
	if err != nil {
		return fmt.Errorf("read partitions of %s: %w", v.cfg.table(), err)
	}
	if len(unlogged) > 0 {
		v.fail(CheckTable, fmt.Sprintf("rows of partitions of %s never reach the log: %s", v.cfg.table(), strings.Join(unlogged, ", ")),
			"ALTER TABLE PARTITION SET LOGGED for each, and detach foreign tables")
	}
	return nil
}

// names returns what a query of one column selects for the table.
func (v *verifier) names(ctx context.Context, sql string, oid uint32) ([]string, error) {
	rows, err := v.conn.Query(ctx, sql, oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// checkColumns checks that the columns exist, and before PostgreSQL 18 that none is generated: the log did not carry those.
func (v *verifier) checkColumns(ctx context.Context, oid uint32) error {
	rows, err := v.conn.Query(ctx, `SELECT attname, attgenerated <> '' FROM pg_attribute
		WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, oid)
	if err != nil {
		return fmt.Errorf("read columns of %s: %w", v.cfg.table(), err)
	}
	var (
		name      string
		generated bool
		have      []string
		unlogged  []string
	)
	_, err = pgx.ForEachRow(rows, []any{&name, &generated}, func() error {
		have = append(have, name)
		if generated && slices.Contains(v.cfg.Columns, name) {
			unlogged = append(unlogged, name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read columns of %s: %w", v.cfg.table(), err)
	}
	if missing := without(v.cfg.Columns, have); len(missing) > 0 {
		v.fail(CheckColumns, fmt.Sprintf("%s has no column %s, it has %s", v.cfg.table(), quoteNames(missing), quoteNames(have)),
			"name the right columns in the configuration's column mapping")
	}
	if len(unlogged) > 0 && v.server.Major() < 18 {
		v.fail(CheckColumns, fmt.Sprintf("column %s of %s is generated, the log of PostgreSQL %d does not carry it", quoteNames(unlogged), v.cfg.table(), v.server.Major()),
			"write the column in the application, or upgrade to PostgreSQL 18 and set publish_generated_columns on the publication")
	}
	return nil
}

// without returns the names that are not in others.
func without(names, others []string) []string {
	var rest []string
	for _, name := range names {
		if !slices.Contains(others, name) {
			rest = append(rest, name)
		}
	}
	return rest
}

func quoteNames(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quoteName(name)
	}
	return strings.Join(quoted, ", ")
}
