package wal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/shard"
)

// filterMajor is from where on publications have row filters, and column lists.
const filterMajor = 15

// checkFilter makes sure that the publication publishes the rows of the shard and no others. The log that was written under another filter
// was filtered by that one, so a slot that is there is of no use any more.
func (v *verifier) checkFilter() {
	if shard.SameFilter(v.server.RowFilter, v.cfg.Rows) {
		return
	}
	problem := fmt.Sprintf("publication %q publishes other rows than those of this shard (all of them)", v.cfg.Publication)
	if v.server.RowFilter != "" {
		problem = fmt.Sprintf("publication %q publishes other rows than those of this shard (those WHERE %s)", v.cfg.Publication, v.server.RowFilter)
	}
	mend := "if database.default_tenant or a column's name was changed, set it back; else, once outboxd events list is empty for every shard " +
		"(what is parked would become another one's too), stop all instances, ALTER PUBLICATION " + quoteName(v.cfg.Publication) +
		" SET TABLE " + v.cfg.member()
	if v.server.Slot != nil {
		mend += ", and SELECT pg_drop_replication_slot(" + quoteLiteral(v.cfg.Slot) + "): the slot's log was filtered otherwise, so outboxd run makes it anew and takes what is due from the table"
	}
	v.fail(CheckFilter, problem, mend)
}

// NoOtherLayout looks once more for instances of other layouts, when the slot was just made: of two that begin at the same time one at least sees
// the other. Its error is a [CheckError].
func NoOtherLayout(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	v := &verifier{conn: conn, cfg: cfg, server: &Server{}}
	if err := v.checkLayout(ctx); err != nil {
		return err
	}
	return errors.Join(v.problems...)
}

// checkLayout looks for instances that share the table out in another way: they would deliver the same rows.
func (v *verifier) checkLayout(ctx context.Context) error {
	if len(v.cfg.Others) == 0 {
		return nil
	}
	if err := v.checkOtherSlots(ctx); err != nil {
		return err
	}
	return v.checkOtherParked(ctx)
}

// otherLayouts is a FROM item o with the names of instances of other layouts, of this table or of one that is gone. An instance of another table in
// the database may have such names by chance.
const otherLayouts = `(SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) l(slot, schema, publication)
	WHERE NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = l.publication)
	OR EXISTS (SELECT FROM pg_publication_tables t WHERE t.pubname = l.publication AND t.schemaname = $4 AND t.tablename = $5)) o`

// others are the arguments of otherLayouts, and the layouts by slots.
func (v *verifier) others() (args []any, layouts map[string]string) {
	var slots, schemas, publications []string
	layouts = map[string]string{}
	for _, o := range v.cfg.Others {
		slots, schemas, publications = append(slots, o.Slot), append(schemas, o.Schema), append(publications, o.Publication)
		layouts[o.Slot] = o.Layout
	}
	return []any{slots, schemas, publications, v.cfg.Schema, v.cfg.Table}, layouts
}

func (v *verifier) checkOtherSlots(ctx context.Context) error {
	args, layouts := v.others()
	rows, err := v.conn.Query(ctx, `SELECT s.slot_name FROM `+otherLayouts+`
		JOIN pg_replication_slots s ON s.slot_name = o.slot AND s.database = current_database()
		JOIN pg_namespace n ON n.nspname = o.schema ORDER BY 1 LIMIT 1`, args...)
	if err != nil {
		return fmt.Errorf("look for slots of other layouts: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for slots of other layouts: %w", err)
	}
	for _, slot := range found {
		v.fail(CheckLayout, fmt.Sprintf("slot %q is there, of another layout of this table (%s), whose instances deliver the same rows", slot, layouts[slot]),
			"run with that layout; or leave it by outboxd reshard, as docs/scaling.md says; where outboxd reshard was interrupted, run it again")
	}
	return nil
}

// checkOtherParked looks for events that another layout has parked: their rows are NEW or FAILED, so this one would deliver them once more. A schema
// that the role may not read is none of outboxd's own.
func (v *verifier) checkOtherParked(ctx context.Context) error {
	args, layouts := v.others()
	rows, err := v.conn.Query(ctx, `SELECT o.slot, o.schema FROM `+otherLayouts+`
		JOIN pg_namespace n ON n.nspname = o.schema AND has_schema_privilege(n.oid, 'USAGE')
		JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'parked' AND c.relkind = 'r' AND has_table_privilege(c.oid, 'SELECT')
		ORDER BY 1`, args...)
	if err != nil {
		return fmt.Errorf("look for parked events of other layouts: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Slot, Schema string }])
	if err != nil {
		return fmt.Errorf("look for parked events of other layouts: %w", err)
	}
	for _, o := range found {
		var left bool
		parked := quoteName(o.Schema) + ".parked"
		err := v.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+parked+` WHERE slot = $1 AND state = 'waiting')
			OR EXISTS (SELECT FROM `+parked+` WHERE slot = $1 AND state = 'dead')`, o.Slot).Scan(&left)
		if err != nil {
			return fmt.Errorf("look for parked events of other layouts: %w", err)
		}
		if left {
			v.fail(CheckLayout, fmt.Sprintf("events are parked in %s, of another layout of this table (%s), and would be delivered once more", parked, layouts[o.Slot]),
				"run with that layout until outboxd events list is empty (retry or skip what is dead), and leave it as docs/scaling.md says")
			return nil
		}
	}
	return nil
}
