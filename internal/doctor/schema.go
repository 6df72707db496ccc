package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/migrations"
)

// checkMigrations sees whether outboxd's own schema is the one that this program was made for.
func checkMigrations(ctx context.Context, d *database) ([]Finding, error) {
	s, err := migrations.ReadStatus(ctx, d.conn, d.Migrations)
	if err != nil {
		return nil, err
	}
	f := migrationsFinding(d.Migrations.Schema, s)
	if f.Level == Error && s.Outbox && len(s.Pending) > 0 {
		f = f.withFix(d.migrate) // where the outbox table is absent, which indexes it gets is for a person to say
	}
	return []Finding{f}, nil
}

func migrationsFinding(schema string, s migrations.Status) Finding {
	known := int32(len(s.Applied) + len(s.Pending))
	switch {
	case s.Version > known:
		return found(Error, "migrations", fmt.Sprintf("schema %q has version %d and this program knows %d", schema, s.Version, known),
			"outboxd run refuses to start", "install the outboxd that made it, or a newer one")
	case len(s.Pending) > 0:
		return found(Error, "migrations", fmt.Sprintf("schema %q has version %d, this program needs %d", schema, s.Version, known),
			"outboxd run refuses to start", "outboxd migrate up, or as a DBA what outboxd migrate sql prints")
	default:
		return ok("migrations", "schema %s has version %d, as this program needs", schema, s.Version)
	}
}

func (d *database) migrate(ctx context.Context, conn *pgx.Conn) (string, error) {
	report, err := migrations.Up(ctx, conn, d.Migrations)
	if err != nil {
		return "", err
	}
	var names []string
	for _, step := range report.Steps {
		names = append(names, step.Name)
	}
	return "applied to schema " + d.Migrations.Schema + ": " + strings.Join(names, ", "), nil
}

// right is a privilege on an object of outboxd's own schema.
type right struct{ Object, Privilege string }

// checkRights looks for rights that the role lacks in outboxd's own schema. Objects that are not there are told by checkMigrations.
func checkRights(ctx context.Context, d *database) ([]Finding, error) {
	var role string
	var there, mayUse bool
	schema := d.Migrations.Schema
	err := d.conn.QueryRow(ctx, `SELECT current_user, count(*) > 0, coalesce(bool_and(has_schema_privilege(oid, 'USAGE')), false)
		FROM pg_namespace WHERE nspname = $1`, schema).Scan(&role, &there, &mayUse)
	if err != nil || !there {
		return nil, err
	}
	var objects, privileges []string
	for _, object := range migrations.Objects() {
		for _, privilege := range object.Rights {
			objects, privileges = append(objects, object.Name), append(privileges, privilege)
		}
	}
	rows, err := d.conn.Query(ctx, `SELECT w.object, w.privilege FROM unnest($2::text[], $3::text[]) AS w(object, privilege)
		JOIN pg_namespace n ON n.nspname = $1 JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.object
		WHERE NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, w.privilege) ELSE has_table_privilege(c.oid, w.privilege) END ORDER BY 1, 2`,
		schema, objects, privileges)
	if err != nil {
		return nil, err
	}
	missing, err := pgx.CollectRows(rows, pgx.RowToStructByPos[right])
	if err != nil {
		return nil, err
	}
	return []Finding{rightsFinding(schema, role, mayUse, missing)}, nil
}

func rightsFinding(schema, role string, mayUse bool, missing []right) Finding {
	if mayUse && len(missing) == 0 {
		return ok("rights", "role %s has its rights in schema %s", role, schema)
	}
	var names, grants []string
	if !mayUse {
		names = append(names, "USAGE of the schema")
		grants = append(grants, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", quote(schema), quote(role)))
	}
	for _, m := range missing {
		names = append(names, m.Privilege+" on "+m.Object)
		kind := ""
		if m.Privilege == "USAGE" {
			kind = "SEQUENCE "
		}
		grants = append(grants, fmt.Sprintf("GRANT %s ON %s%s TO %s", m.Privilege, kind, quote(schema, m.Object), quote(role)))
	}
	return found(Error, "rights", fmt.Sprintf("role %q lacks in schema %q: %s", role, schema, strings.Join(names, ", ")),
		"outboxd cannot keep its checkpoint or park events", strings.Join(grants, "; ")+" (outboxd migrate sql --role "+role+" prints all of them)")
}
