package wal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// publication is a row of pg_publication. viaRoot exists since 13.
type publication struct {
	insert, update, remove, truncate bool
	viaRoot                          bool
}

// checkPublication checks that every insert into the table, with all columns, is published under the table's own name.
func (v *verifier) checkPublication(ctx context.Context) error {
	if v.server.Partitioned && v.server.Major() < 13 {
		v.fail(CheckPublication, fmt.Sprintf("%s is partitioned, and PostgreSQL %d cannot publish a partitioned table", v.cfg.table(), v.server.Major()),
			"upgrade to PostgreSQL 13 or later")
		return nil
	}
	if v.cfg.Rows != "" && v.server.Major() < filterMajor {
		v.fail(CheckVersion, fmt.Sprintf("server version is %d, and a table that is split (shards.count) needs row filters, which %d and later have", v.server.Major(), filterMajor),
			"upgrade PostgreSQL, or set shards.count to 1")
		return nil
	}
	p, err := v.readPublication(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return v.missingPublication(ctx)
	}
	if err != nil {
		return fmt.Errorf("read publication %q: %w", v.cfg.Publication, err)
	}
	v.server.PublicationExists = true
	if !p.insert {
		v.fail(CheckPublication, fmt.Sprintf("publication %q does not publish inserts", v.cfg.Publication),
			"ALTER PUBLICATION "+quoteName(v.cfg.Publication)+" SET (publish = 'insert')")
	}
	if err := v.checkMembership(ctx, p); err != nil {
		return err
	}
	v.checkOthers(p)
	return nil
}

// checkOthers is about what the publication publishes beside inserts. PostgreSQL applies a row filter to old rows, too, and sends an update of one that did
// not match to one that does as an insert: https://www.postgresql.org/docs/current/logical-replication-row-filter.html
func (v *verifier) checkOthers(p publication) {
	mend := "ALTER PUBLICATION " + quoteName(v.cfg.Publication) + " SET (publish = 'insert')"
	switch {
	case v.cfg.Rows != "" && (p.update || p.remove):
		v.fail(CheckFilter, fmt.Sprintf("publication %q of a shard publishes updates or deletes: PostgreSQL refuses these on a table with a row filter on columns "+
			"that are not in its replica identity", v.cfg.Publication), mend)
	case v.server.RowFilter != "" && p.update:
		v.fail(CheckFilter, fmt.Sprintf("publication %q publishes updates, and only rows WHERE %s: PostgreSQL sends an update by which a row comes to match as an insert, "+
			"so that its event is delivered again", v.cfg.Publication, v.server.RowFilter), mend)
	case p.update || p.remove || p.truncate:
		v.warn("publication %q publishes more than inserts, which is read and ignored: %s saves that", v.cfg.Publication, mend)
	}
}

func (v *verifier) readPublication(ctx context.Context) (p publication, err error) {
	viaRoot := "pubviaroot"
	if v.server.Major() < 13 {
		viaRoot = "false"
	}
	err = v.conn.QueryRow(ctx, `SELECT pubinsert, pubupdate, pubdelete, pubtruncate, `+viaRoot+`
		FROM pg_publication WHERE pubname = $1`, v.cfg.Publication).Scan(&p.insert, &p.update, &p.remove, &p.truncate, &p.viaRoot)
	return p, err
}

// checkMembership asks the view that unfolds FOR TABLE, FOR ALL TABLES and FOR TABLES IN SCHEMA alike.
func (v *verifier) checkMembership(ctx context.Context, p publication) error {
	details := "NULL::text[], ''"
	if v.server.Major() >= filterMajor {
		// Without standard_conforming_strings the server prints each backslash of a text twice.
		details = `attnames::text[], coalesce(CASE WHEN current_setting('standard_conforming_strings')::boolean THEN rowfilter
			ELSE replace(rowfilter, repeat(chr(92), 2), chr(92)) END, '')`
	}
	var columns []string
	err := v.conn.QueryRow(ctx, `SELECT `+details+` FROM pg_publication_tables
		WHERE pubname = $1 AND schemaname = $2 AND tablename = $3`,
		v.cfg.Publication, v.cfg.Schema, v.cfg.Table).Scan(&columns, &v.server.RowFilter)
	if errors.Is(err, pgx.ErrNoRows) {
		return v.notMember(ctx, p)
	}
	if err != nil {
		return fmt.Errorf("read tables of publication %q: %w", v.cfg.Publication, err)
	}
	switch {
	case v.cfg.Rows != "":
		v.checkFilter()
	case strings.Contains(v.server.RowFilter, "hash_record_extended"):
		v.fail(CheckFilter, fmt.Sprintf("publication %q is that of a shard, those WHERE %s, and the table is not split here", v.cfg.Publication, v.server.RowFilter),
			"set shards.count and the names as they were, or name another publication (database.publication)")
	case v.server.RowFilter != "":
		v.warn("publication %q publishes only rows of %s WHERE %s; the others are never delivered from the log", v.cfg.Publication, v.cfg.table(), v.server.RowFilter)
	}
	if v.server.Major() < filterMajor {
		return nil
	}
	return v.checkColumnList(ctx, columns)
}

// checkColumnList compares with the columns that the publication sends. Columns that the table does not have were reported before.
func (v *verifier) checkColumnList(ctx context.Context, published []string) error {
	missing := without(v.cfg.Columns, published)
	if len(missing) == 0 {
		return nil
	}
	rows, err := v.conn.Query(ctx, `SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = '' OR $4) AND a.attname = ANY($3)`,
		v.cfg.Schema, v.cfg.Table, missing, v.server.Major() >= 18)
	if err != nil {
		return fmt.Errorf("read columns of %s: %w", v.cfg.table(), err)
	}
	hidden, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read columns of %s: %w", v.cfg.table(), err)
	}
	if len(hidden) > 0 {
		v.fail(CheckPublication, fmt.Sprintf("publication %q does not publish column %s of %s", v.cfg.Publication, quoteNames(hidden), v.cfg.table()),
			"ALTER PUBLICATION "+quoteName(v.cfg.Publication)+" SET TABLE "+v.cfg.member()+" (this drops its other tables, its column list and its row filter; "+
				"a generated column needs publish_generated_columns = stored)")
	}
	return nil
}

// notMember says why the view does not list the table: its partitions are published one by one, or it is not in it.
func (v *verifier) notMember(ctx context.Context, p publication) error {
	name := quoteName(v.cfg.Publication)
	if v.server.TableOwner == "" { // there is no such table, which was reported
		return nil
	}
	if v.server.Partitioned && !p.viaRoot {
		var leaves bool
		err := v.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_publication_tables t
			JOIN pg_namespace n ON n.nspname = t.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
			JOIN pg_partition_tree(format('%I.%I', $2::text, $3::text)::regclass) p ON p.relid = c.oid WHERE t.pubname = $1)`,
			v.cfg.Publication, v.cfg.Schema, v.cfg.Table).Scan(&leaves)
		if err != nil {
			return fmt.Errorf("read partitions in publication %q: %w", v.cfg.Publication, err)
		}
		if leaves {
			v.fail(CheckPublication, fmt.Sprintf("publication %q publishes the partitions of %s under their own names", v.cfg.Publication, v.cfg.table()),
				"ALTER PUBLICATION "+name+" SET (publish_via_partition_root = true)")
			return nil
		}
	}
	mend := "ALTER PUBLICATION " + name + " ADD TABLE " + v.cfg.member()
	if v.server.Partitioned && !p.viaRoot {
		mend += "; ALTER PUBLICATION " + name + " SET (publish_via_partition_root = true)"
	}
	problem := fmt.Sprintf("publication %q does not contain %s", v.cfg.Publication, v.cfg.table())
	if v.server.Slot != nil {
		problem += ", and what is inserted meanwhile is not in the log of the slot, which counts as lost"
	}
	v.fail(CheckPublication, problem, mend)
	return nil
}

// missingPublication is a problem unless Setup can make it: the slot has to be younger than the publication, and the role
// needs to own the table.
func (v *verifier) missingPublication(ctx context.Context) error {
	problem := fmt.Sprintf("publication %q does not exist", v.cfg.Publication)
	create := createPublicationSQL(v.cfg, v.server)
	if slot := v.server.Slot; slot != nil && slot.Database == v.server.Database { // that of another database has nothing to do with it
		v.fail(CheckPublication, problem+fmt.Sprintf(" while slot %q does, and a publication is not valid for the log that was written before it", v.cfg.Slot),
			create+"; then drop the slot, SELECT pg_drop_replication_slot("+quoteLiteral(v.cfg.Slot)+"), and have it made anew")
		return nil
	}
	if !v.cfg.Create {
		v.fail(CheckPublication, problem, create)
		return nil
	}
	if v.server.TableOwner == "" {
		return nil
	}
	var owner, mayCreate bool
	err := v.conn.QueryRow(ctx, `SELECT pg_has_role($1::name, 'USAGE'), has_database_privilege(current_database(), 'CREATE')`,
		v.server.TableOwner).Scan(&owner, &mayCreate)
	if err != nil {
		return fmt.Errorf("read privileges: %w", err)
	}
	if !owner {
		v.fail(CheckPublication, problem+fmt.Sprintf(", and only %q, the owner of %s, can create it, not %q", v.server.TableOwner, v.cfg.table(), v.server.Role),
			"as "+quoteName(v.server.TableOwner)+" or a superuser: "+create)
	}
	if !mayCreate {
		v.fail(CheckPublication, problem+fmt.Sprintf(", and role %q may not create one in database %q", v.server.Role, v.server.Database),
			"GRANT CREATE ON DATABASE "+quoteName(v.server.Database)+" TO "+quoteName(v.server.Role)+", or as a superuser: "+create)
	}
	return nil
}

// createPublicationSQL publishes inserts only, which needs no replica identity. A partitioned table is published under its own name.
func createPublicationSQL(cfg Config, server *Server) string {
	options := []string{"publish = 'insert'"}
	if server.Partitioned {
		options = append(options, "publish_via_partition_root = true")
	}
	return "CREATE PUBLICATION " + quoteName(cfg.Publication) + " FOR TABLE " + cfg.member() + " WITH (" + strings.Join(options, ", ") + ")"
}
