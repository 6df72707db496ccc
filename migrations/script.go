package migrations

import (
	"bytes"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/template"

	"github.com/jackc/tern/v2/migrate"

	"github.com/outboxd/outboxd/shard"
)

var (
	//go:embed steps/*.sql
	stepFiles embed.FS
	//go:embed scripts/*.sql
	scriptFiles embed.FS

	scripts = template.Must(template.New("").Funcs(template.FuncMap{
		"ident": ident, "literal": shard.Literal, "indexName": indexName, "missingSchema": missingSchema, "join": strings.Join,
	}).ParseFS(scriptFiles, "scripts/*.sql"))
)

// render executes one of the scripts.
func render(name string, data any) (string, error) {
	var b bytes.Buffer
	if err := scripts.ExecuteTemplate(&b, name, data); err != nil {
		return "", err
	}
	return b.String(), nil
}

// stepLimit ends a step that waits for a lock: what a running outboxd does to its tables would wait behind it.
const stepLimit = "SET LOCAL lock_timeout = '3s';\n"

// loadSteps gives m the steps for the schema, each with its mark in schema_history.
func loadSteps(m *migrate.Migrator, schema string) error {
	files, err := fs.Sub(stepFiles, "steps")
	if err != nil {
		return err
	}
	m.Data = map[string]any{"schema": ident(schema)}
	if err := m.LoadMigrations(files); err != nil {
		return fmt.Errorf("load the embedded steps: %w", err)
	}
	history := ident(schema, "schema_history")
	for _, s := range m.Migrations {
		s.UpSQL = stepLimit + s.UpSQL + fmt.Sprintf("\nINSERT INTO %s (version, name) VALUES (%d, %s);\n", history, s.Sequence, shard.Literal(s.Name))
		s.DownSQL = stepLimit + s.DownSQL + fmt.Sprintf("\nDELETE FROM %s WHERE version = %d;\n", history, s.Sequence)
	}
	return nil
}

// WriteSQL writes what Up does as a script for psql, for a person who runs it by hand: one transaction, which may be run again, and after
// which Up and Status find the steps applied.
func WriteSQL(w io.Writer, o Options) error {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return fmt.Errorf("write migration script: %w", err)
	}
	m := &migrate.Migrator{} // without a connection it only holds the steps
	if err := loadSteps(m, o.Schema); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "-- outboxd: its own tables in schema %s, and the outbox table %s where there is none.\n",
		ident(o.Schema), ident(o.TableSchema, o.Table))
	fmt.Fprintf(&b, "-- It may be run again: what is there stays as it is.\nBEGIN;\nSELECT pg_advisory_xact_lock(%d);\n\n", lockKey)
	for _, name := range []string{"outbox.sql", "bookkeeping.sql"} {
		text, err := render(name, o)
		if err != nil {
			return err
		}
		b.WriteString(text + "\n")
	}
	for _, s := range m.Migrations {
		text, err := render("step.sql", struct {
			Options
			Step *migrate.Migration
		}{o, s})
		if err != nil {
			return err
		}
		b.WriteString(text + "\n")
	}
	b.WriteString("COMMIT;\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// indexName is the name that existing deployments use, with the table's own where that is not "outbox": names of indexes are
// unique in a schema.
func indexName(table, columns string) string {
	if table == "outbox" && columns == "tenant_id_status" {
		return ident("ix_tenant_id_status")
	}
	return ident("ix_" + table + "_" + columns)
}

func missingSchema(name string) string {
	return fmt.Sprintf("schema %s, in which the outbox table should be, does not exist: CREATE SCHEMA %s, or name another (database.table)",
		ident(name), ident(name))
}
