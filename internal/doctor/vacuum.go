package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/human"
	"github.com/outboxd/outboxd/migrations"
)

// heap is what the statistics say of one table or partition.
type heap struct {
	Name           string // quoted
	Live, Dead     int64
	Vacuumed       *time.Time
	AutovacuumOff  bool
	Bytes          int64
	EstimatedBytes int64 // that its rows need; 0 where it was never analysed
}

const (
	deadRows     = 10_000 // fewer are no matter
	deadShare    = 0.3    // of all rows: autovacuum begins at 0.2 by default
	bloatBytes   = 64 << 20
	bloatFactor  = 4
	heapsChecked = 20 // partitions, those with the most dead rows
)

const heapsSQL = `WITH root AS (
		SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2 OR n.nspname = $3 AND c.relname = ANY($5)
	)
	SELECT format('%I.%I', n.nspname, c.relname), coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), greatest(s.last_vacuum, s.last_autovacuum),
		coalesce(c.reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0', 'autovacuum_enabled=no'], false),
		pg_relation_size(c.oid),
		coalesce((c.reltuples * (28 + (SELECT sum(w.avg_width * (1 - w.null_frac)) FROM pg_stats w WHERE w.schemaname = n.nspname AND w.tablename = c.relname)))::bigint, 0)
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
	WHERE c.relkind = 'r' AND (c.oid IN (SELECT oid FROM root) OR c.oid IN (SELECT p.relid FROM root, pg_partition_tree(root.oid) p))
	ORDER BY coalesce(s.n_dead_tup, 0) DESC, 1 LIMIT $4`

func checkVacuum(ctx context.Context, d *database) ([]Finding, error) {
	rows, err := d.conn.Query(ctx, heapsSQL, d.WAL.Schema, d.WAL.Table, d.Migrations.Schema, heapsChecked, migrations.Tables())
	if err != nil {
		return nil, err
	}
	heaps, err := pgx.CollectRows(rows, pgx.RowToStructByPos[heap])
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, h := range heaps {
		findings = append(findings, h.findings()...)
	}
	return findings, nil
}

func (h heap) findings() (findings []Finding) {
	if h.AutovacuumOff {
		findings = append(findings, found(Warning, "autovacuum_table", fmt.Sprintf("autovacuum is switched off for %s", h.Name),
			"each marked or deleted row stays as a dead one, and the table grows without end", "ALTER TABLE "+h.Name+" RESET (autovacuum_enabled)"))
	}
	if share := float64(h.Dead) / float64(max(h.Live+h.Dead, 1)); h.Dead > deadRows && share > deadShare {
		findings = append(findings, found(Warning, "dead_rows", fmt.Sprintf("%.0f %% of the rows of %s are dead (%d), last vacuum %s", share*100, h.Name, h.Dead, whenText(h.Vacuumed)),
			"reading and marking rows costs more and more", "VACUUM (ANALYZE) "+h.Name+"; ALTER TABLE "+h.Name+" SET (autovacuum_vacuum_scale_factor = 0.02); "+
				"when it does not help, a transaction is open for long"))
	}
	if h.EstimatedBytes > 0 && h.Bytes > bloatBytes && h.Bytes > bloatFactor*h.EstimatedBytes {
		findings = append(findings, found(Info, "bloat", fmt.Sprintf("%s takes %s, and its rows about %s", h.Name, human.Bytes(h.Bytes), human.Bytes(h.EstimatedBytes)),
			"reads of the whole table take longer than they need", "pg_repack, or VACUUM FULL "+h.Name+" in a maintenance (it locks the table)"))
	}
	if findings == nil {
		findings = append(findings, ok("vacuum", "%s has %d rows and %d dead ones, last vacuum %s", h.Name, h.Live, h.Dead, whenText(h.Vacuumed)))
	}
	return findings
}

func whenText(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format(time.DateTime) + "Z"
}
