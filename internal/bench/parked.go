package bench

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/workload"
)

// Parked counts the backlog's rows that wait in outboxd's own table: those of the failing tenants, or all where none fails.
type Parked struct {
	Backlog *Backlog
	Conn    *pgx.Conn
	Schema  string // of outboxd's own tables
}

// Count returns how many of them wait.
func (p *Parked) Count(ctx context.Context) (n int64, err error) {
	tenants := workload.Tenants(p.Backlog.Tenants)
	if p.Backlog.Failing > 0 {
		tenants = slices.Clone(tenants[p.Backlog.Tenants-p.Backlog.Failing:])
	}
	err = p.Conn.QueryRow(ctx, `SELECT count(DISTINCT id) FROM `+pgx.Identifier{p.Schema, "parked"}.Sanitize()+`
		WHERE state = 'waiting' AND starts_with(id, $1) AND tenant_id = ANY ($2)`, p.Backlog.run, tenants).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what is parked: %w", err)
	}
	return n, nil
}

// Fill parks an event of each of n further keys at the destinations, due in a day, as a refused event waits between two attempts. No outboxd may run meanwhile.
func (p *Parked) Fill(ctx context.Context, sink string, destinations []string, n int, filled func(rows int)) error {
	others := *p.Backlog
	others.NewRun()
	schema := pgx.Identifier{p.Schema}.Sanitize()
	for first := 0; first < n; first += chunk {
		last := min(first+chunk, n)
		_, err := p.Conn.Exec(ctx, `INSERT INTO `+schema+`.parked (slot, id, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, attempts, due_at,
				reason, bytes, tenant_id, topic, aggregate_type, aggregate_id, occurred_at, schema_id, payload, metadata)
			SELECT c.slot, $1 || lpad(to_hex(n), 12, '0'), $2, d.name, d.name, 'waiting', c.epoch, '0/1', n, hashtextextended('waiting-' || n, 0), 1, now() + interval '1 day',
				'refused', octet_length($3), 'acme', 'topic-1', 'order', 'waiting-' || n, now()::text, 'order-v1', $3, '{"correlation_id": "bench"}'
			FROM `+schema+`.checkpoint c, generate_series($4::bigint, $5::bigint) n, LATERAL (SELECT ($6::text[])[1 + n % cardinality($6::text[])] AS name) d`,
			others.run, sink, `{"filler": "`+others.filler()+`"}`, first, last-1, destinations)
		if err != nil {
			return fmt.Errorf("park keys that wait: %w", err)
		}
		filled(last)
	}
	if _, err := p.Conn.Exec(ctx, `VACUUM (ANALYZE) `+schema+`.parked`); err != nil {
		return fmt.Errorf("vacuum what is parked: %w", err)
	}
	return nil
}

// StillWaiting counts all rows that wait.
func (p *Parked) StillWaiting(ctx context.Context) (n int, err error) {
	err = p.Conn.QueryRow(ctx, `SELECT count(*) FROM `+pgx.Identifier{p.Schema, "parked"}.Sanitize()+` WHERE state = 'waiting'`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what waits: %w", err)
	}
	return n, nil
}
