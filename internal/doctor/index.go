package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/human"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
)

// index is what the catalog and the statistics say of one index.
type index struct {
	Schema, Name string
	Ours         bool // it is of one of outboxd's own tables
	Valid        bool
	Building     bool // CREATE INDEX or REINDEX is at work on it
	Unique       bool
	UniqueID     bool // no two rows of the outbox table have one id
	NamesStatus  bool // in its columns or its predicate
	Scans, Bytes int64
}

const indexesSQL = `SELECT n.nspname, i.relname, n.nspname = $3 AND t.relname = ANY($6), x.indisvalid AND x.indisready,
		EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.oid OR p.relid = t.oid), x.indisunique,
		t.relname = $2 AND n.nspname = $1 AND x.indisunique AND x.indpred IS NULL AND x.indnkeyatts = 1
			AND x.indkey[0] = (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = $5),
		t.relname = $2 AND n.nspname = $1 AND am.amname <> 'brin' AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = $4
			AND (a.attnum = ANY(x.indkey::int2[]) OR pg_get_expr(x.indpred, t.oid) ~ ('\m' || $4 || '\M'))),
		coalesce(s.idx_scan, 0), pg_relation_size(i.oid)
	FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
	JOIN pg_am am ON am.oid = i.relam LEFT JOIN pg_stat_all_indexes s ON s.indexrelid = i.oid
	WHERE n.nspname = $1 AND t.relname = $2 OR n.nspname = $3 AND t.relname = ANY($6)
	ORDER BY 3, 2`

func checkIndexes(ctx context.Context, d *database) ([]Finding, error) {
	o := d.Outbox.WithDefaults()
	rows, err := d.conn.Query(ctx, indexesSQL, d.WAL.Schema, d.WAL.Table, d.Migrations.Schema, o.Columns.Status, o.Columns.ID, migrations.Tables())
	if err != nil {
		return nil, err
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[index])
	if err != nil {
		return nil, err
	}
	var changes int64
	err = d.conn.QueryRow(ctx, `SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_all_tables
		WHERE schemaname = $1 AND relname = $2`, d.WAL.Schema, d.WAL.Table).Scan(&changes)
	if err != nil {
		return nil, err
	}
	findings := invalidFindings(indexes, migrations.LeanIndexName(d.WAL.Table))
	findings = append(findings, d.missingIndex()...)
	findings = append(findings, d.ambiguousID(indexes)...)
	return append(findings, indexFindings(indexes, o, changes)...), nil
}

// invalidFindings are about what a failed CREATE INDEX CONCURRENTLY or REINDEX leaves. Our own are dropped on request.
func invalidFindings(indexes []index, lean string) (findings []Finding) {
	for _, i := range indexes {
		if i.Valid || i.Building {
			continue
		}
		drop := "DROP INDEX CONCURRENTLY IF EXISTS " + quote(i.Schema, i.Name)
		f := found(Warning, "index_invalid", fmt.Sprintf("index %s.%s is invalid: its making has failed", i.Schema, i.Name),
			"every write maintains it, and nothing reads by it", drop+"; then make it again, if it is needed")
		if i.Ours || i.Name == lean {
			f.Mend = drop
			f = f.withFix(func(ctx context.Context, conn *pgx.Conn) (string, error) { return dropInvalid(ctx, conn, i, drop) })
		}
		findings = append(findings, f)
	}
	return findings
}

// dropInvalid looks again: meanwhile somebody may have made it anew.
func dropInvalid(ctx context.Context, conn *pgx.Conn, i index, drop string) (string, error) {
	var invalid bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2 AND NOT (x.indisvalid AND x.indisready)
			AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = x.indrelid))`, i.Schema, i.Name).Scan(&invalid)
	if err != nil {
		return "", err
	}
	if !invalid {
		return fmt.Sprintf("found index %s.%s gone, valid or in the making", i.Schema, i.Name), nil
	}
	return concurrently(ctx, conn, drop)
}

// missingIndex is about how the sweep finds what others have changed.
func (d *database) missingIndex() []Finding {
	o := d.Outbox.WithDefaults()
	if d.table == nil || o.OnSent == outbox.Keep || d.table.HasStatusIndex() || d.table.HasRetryIndex() {
		return nil
	}
	if _, there := d.columns[o.Columns.Status]; !there {
		return nil
	}
	why := "rows that others set to FAILED are not found by the sweep, which would have to read the whole table"
	retry, there := d.columns[o.Columns.RetryAfter]
	partitioned := d.server != nil && d.server.Partitioned
	switch sql := migrations.LeanIndexSQL(d.Migrations, o.Columns.RetryAfter); {
	case !there, retry.NotNull, retry.Default: // an index on it would find delivered rows, too
		return []Finding{found(Info, "index_missing", "no index begins with the status", why, fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s), where others set rows to FAILED",
			quote(d.WAL.Schema, d.WAL.Table), quote(o.Columns.Status)))}
	case partitioned:
		return []Finding{found(Warning, "index_missing", "no index begins with the status or with "+o.Columns.RetryAfter, why,
			strings.Replace(sql, "CONCURRENTLY ", "", 1)+" (it locks the table while it is made)")}
	default:
		return []Finding{found(Warning, "index_missing", "no index begins with the status or with "+o.Columns.RetryAfter, why, sql).
			withFix(func(ctx context.Context, conn *pgx.Conn) (string, error) { return concurrently(ctx, conn, sql) })}
	}
}

// ambiguousID is about ids that two rows can have. A table without any index that begins with the id has been told of. A partitioned one can have no
// unique index without the partition key, and uuids need none.
func (d *database) ambiguousID(indexes []index) []Finding {
	id := d.Outbox.WithDefaults().Columns.ID
	unique := slices.ContainsFunc(indexes, func(i index) bool { return i.UniqueID && i.Valid })
	if d.table == nil || unique {
		return nil
	}
	mend := fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s); where it fails, two rows have one id already", quote(d.WAL.Schema, d.WAL.Table), quote(id))
	if d.server != nil && d.server.Partitioned {
		if d.columns[id].Type == "uuid" {
			return nil
		}
		mend = fmt.Sprintf("make %s a uuid, or see that all partitions take it from one sequence that never begins anew", quote(id))
	}
	return []Finding{found(Warning, "index_unique", fmt.Sprintf("no unique index is on %q alone: two rows can have one id", id),
		"events are told apart by their id: of two with the same one the second can be taken for the first, and is not delivered then", mend)}
}

// fewChanges is how many rows a table must have seen before an unused index means something.
const fewChanges = 10_000

func indexFindings(indexes []index, o outbox.Config, changes int64) (findings []Finding) {
	var used, unused, status []string
	for _, i := range indexes {
		switch {
		case i.Ours || !i.Valid:
			continue
		case i.Scans > 0:
			used = append(used, i.Name)
		case !i.Unique:
			unused = append(unused, i.Name+" ("+human.Bytes(i.Bytes)+")")
		}
		if i.NamesStatus {
			status = append(status, i.Name)
		}
	}
	if len(status) > 0 && o.OnSent == outbox.Mark {
		findings = append(findings, found(Info, "index_hot", fmt.Sprintf("%d indexes name the status: %s", len(status), strings.Join(status, ", ")),
			"marking a row as delivered changes each of them (no HOT update), which costs several times as much", "drop those that no query of yours needs: DROP INDEX CONCURRENTLY"))
	}
	if len(unused) > 0 && changes >= fewChanges {
		findings = append(findings, found(Info, "index_unused", "never used since the statistics began: "+strings.Join(unused, ", "),
			"every insert maintains them", "drop those that no rare query of yours needs: DROP INDEX CONCURRENTLY"))
	}
	if len(used) > 0 {
		findings = append(findings, ok("indexes", "in use: %s", strings.Join(used, ", ")))
	}
	return findings
}
