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
