package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/outbox"
)

// table is the outbox as the load fills it: the mapped columns that there are.
func (v *verifier) table(ctx context.Context) (t workload.LoadTable, err error) {
	schema, name := tableName(v.cfg)
	t.Name = pgx.Identifier{schema, name}
	rows, err := v.conn.Query(ctx, `SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped`, t.Name.Sanitize())
	if err != nil {
		return t, fmt.Errorf("look at the columns of %s: %w", v.cfg.Database.Table, err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return t, fmt.Errorf("look at the columns of %s: %w", v.cfg.Database.Table, err)
	}
	if len(columns) == 0 {
		return t, fmt.Errorf("there is no table %s: make it with outboxd migrate up, or name another with database.table", v.cfg.Database.Table)
	}
	there := func(column string) string {
		if slices.Contains(columns, column) {
			return column
		}
		return ""
	}
	c := &v.cfg.Database.Columns
	t.ID, t.TenantID, t.Topic, t.Payload, t.Status = there(c.ID), there(c.TenantID), there(c.Topic), there(c.Payload), there(c.Status)
	t.AggregateType, t.AggregateID = there(c.AggregateType), there(c.AggregateID)
	t.OccurredAt, t.SchemaID, t.Metadata = there(c.OccurredAt), there(c.SchemaID), there(c.Metadata)
	t.StatusNew, t.Deletes = v.cfg.Database.Statuses.New, v.cfg.OnSent == outbox.Delete
	if t.ID == "" || t.Topic == "" || t.Payload == "" || t.AggregateType == "" || t.AggregateID == "" || t.TenantID != c.TenantID {
		return t, fmt.Errorf("table %s lacks a column that verify needs: those of database.columns.id, tenant_id, topic, payload, aggregate_type and aggregate_id",
			v.cfg.Database.Table)
	}
	return t, nil
}

// inspect looks whether transactions may be prepared, and whether outboxd runs.
func (v *verifier) inspect(ctx context.Context) (prepared bool, err error) {
	if err := v.conn.QueryRow(ctx, `SELECT current_setting('max_prepared_transactions')::int > 0`).Scan(&prepared); err != nil {
		return false, fmt.Errorf("ask PostgreSQL about itself: %w", err)
	}
	for _, part := range v.cfg.Split() {
		slot := part.Database.Slot
		var streaming *bool
		if err := v.conn.QueryRow(ctx, `SELECT (SELECT active FROM pg_replication_slots WHERE slot_name = $1)`, slot).Scan(&streaming); err != nil {
			return false, fmt.Errorf("ask PostgreSQL about slot %s: %w", slot, err)
		}
		switch {
		case streaming == nil:
			v.notes = append(v.notes, "there is no slot "+slot+": outboxd has not run yet, or not with this configuration")
		case !*streaming:
			v.notes = append(v.notes, "nobody streams from slot "+slot+": outboxd is not running")
		}
	}
	if !prepared {
		v.notes = append(v.notes, "no prepared transactions: max_prepared_transactions is 0")
	}
	return prepared, nil
}

// explainMissing adds to the examples of missing events what outboxd's own tables say of them.
func (v *verifier) explainMissing(ctx context.Context, missing *workload.Finding) error {
	for _, part := range v.cfg.Split() {
		if err := v.explainParked(ctx, part, missing); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) explainParked(ctx context.Context, part *config.Config, missing *workload.Finding) error {
	if len(missing.Examples) == 0 {
		return nil
	}
	parked := pgx.Identifier{part.Database.Schema, "parked"}.Sanitize()
	var there bool
	err := v.conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, parked).Scan(&there)
	if err != nil {
		return fmt.Errorf("look for missing events among what is parked: %w", err)
	}
	if !there {
		return nil
	}
	for i := range missing.Examples {
		e := &missing.Examples[i]
		var state, reason string
		err := v.conn.QueryRow(ctx, `SELECT state, coalesce(reason, '') FROM `+parked+` WHERE slot = $1 AND id = $2 AND state IN ('waiting', 'dead', 'skipped')
			ORDER BY state LIMIT 1`, part.Database.Slot, e.ID).Scan(&state, &reason)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for event %s among what is parked: %w", e.ID, err)
		}
		e.Detail += "; parked and " + state + ": " + reason
	}
	return nil
}
