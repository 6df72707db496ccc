package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/human"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/shard"
)

const (
	rowsSampled   = 10_000   // where there are no statistics
	oldRowsLook   = 10_000   // rows of each status that are looked at for their age
	smallTable    = 32 << 20 // bytes that are read without an index
	statusesShown = 8
)

// share is one status and which part of the rows has it.
type share struct {
	Status string
	Part   float64 // 0 to 1
}

// checkStatuses says how the statuses are distributed: from the planner's statistics, else from the first rows. It never counts the table.
func checkStatuses(ctx context.Context, d *database) ([]Finding, error) {
	o := d.Outbox.WithDefaults()
	if _, there := d.columns[o.Columns.Status]; !there {
		return nil, nil
	}
	rows, err := d.conn.Query(ctx, `SELECT v, f FROM pg_stats s, unnest(s.most_common_vals::text::text[], s.most_common_freqs::float8[]) u(v, f)
		WHERE s.schemaname = $1 AND s.tablename = $2 AND s.attname = $3 ORDER BY s.inherited DESC, f DESC LIMIT $4`, d.WAL.Schema, d.WAL.Table, o.Columns.Status, statusesShown)
	if err != nil {
		return nil, err
	}
	shares, err := pgx.CollectRows(rows, pgx.RowToStructByPos[share])
	if err != nil || len(shares) > 0 {
		return statusFindings(shares, "by the last ANALYZE"), err
	}
	rows, err = d.conn.Query(ctx, fmt.Sprintf(`SELECT coalesce(s, 'NULL'), count(*) / (sum(count(*)) OVER ())::float8
		FROM (SELECT %s::text s FROM %s LIMIT %d) r GROUP BY 1 ORDER BY 2 DESC LIMIT %d`,
		quote(o.Columns.Status), quote(d.WAL.Schema, d.WAL.Table), rowsSampled, statusesShown))
	if err != nil {
		return nil, err
	}
	shares, err = pgx.CollectRows(rows, pgx.RowToStructByPos[share])
	return statusFindings(shares, fmt.Sprintf("of the first %d rows", rowsSampled)), err
}

func statusFindings(shares []share, source string) []Finding {
	if len(shares) == 0 {
		return []Finding{ok("statuses", "the table is empty")}
	}
	parts := make([]string, len(shares))
	for i, s := range shares {
		parts[i] = fmt.Sprintf("%s %.1f %%", s.Status, s.Part*100)
	}
	return []Finding{ok("statuses", "%s, %s", strings.Join(parts, ", "), source)}
}

// checkOldRows looks for rows older than an hour that are not delivered. Where no index finds them, a large table is not read for it.
func checkOldRows(ctx context.Context, d *database) ([]Finding, error) {
	o := d.Outbox.WithDefaults()
	_, hasStatus := d.columns[o.Columns.Status]
	if _, hasTime := d.columns[o.Columns.CreatedAt]; !hasStatus || !hasTime || o.OnSent == outbox.Keep {
		return nil, nil
	}
	table := quote(d.WAL.Schema, d.WAL.Table)
	if d.table == nil || !d.table.HasStatusIndex() {
		var bytes int64
		err := d.conn.QueryRow(ctx, `SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint FROM (
			SELECT $1::regclass AS oid UNION SELECT relid FROM pg_partition_tree($1::regclass)) t`, table).Scan(&bytes)
		if err != nil {
			return nil, err
		}
		if bytes > smallTable {
			return []Finding{found(Info, "old", "rows older than an hour are not looked for: no index begins with the status, and the table has "+human.Bytes(bytes),
				"what is parked, and how far the slot is, is seen here without them", "")}, nil
		}
	}
	var fresh, failed int
	ours := ""
	if o.Rows != "" {
		ours = " AND (" + o.Rows + ")"
	}
	old := func(status string) string {
		return fmt.Sprintf(`(SELECT count(*) FILTER (WHERE created < now() - interval '%d s') FROM (
			SELECT %s AS created FROM %s o WHERE %s = %s%s LIMIT %d) r)`, int(oldAge.Seconds()),
			quote(o.Columns.CreatedAt), table, quote(o.Columns.Status), shard.Literal(status), ours, oldRowsLook)
	}
	err := d.conn.QueryRow(ctx, `SELECT `+old(o.Statuses.New)+`, `+old(o.Statuses.Failed)).Scan(&fresh, &failed)
	if err != nil {
		return nil, err
	}
	return oldFindings(o.Statuses.New, o.Statuses.Failed, fresh, failed), nil
}

func oldFindings(statusNew, statusFailed string, fresh, failed int) (findings []Finding) {
	for _, s := range []struct {
		status string
		n      int
	}{{statusNew, fresh}, {statusFailed, failed}} {
		atLeast := ""
		if s.n >= oldRowsLook {
			atLeast = "at least "
		}
		if s.n > 0 {
			findings = append(findings, found(Warning, "old", fmt.Sprintf("%s%d rows are %s and older than an hour", atLeast, s.n, s.status),
				"their events are not delivered, or not everywhere", "see the checks of slot and parked here; outboxd events show ID says what blocks one"))
		}
	}
	if findings == nil {
		return []Finding{ok("old", "no row is older than an hour and not delivered")}
	}
	return findings
}
