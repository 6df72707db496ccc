package outbox_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
)

func TestDescribeNamesTheMend(t *testing.T) {
	f := setup(t, migrations.Options{})
	for _, c := range []struct {
		name, ddl string
		config    outbox.Config
		want      string
	}{
		{"missing table", ``, outbox.Config{}, "run outboxd migrate up"},
		{"missing schema", ``, outbox.Config{Schema: "nowhere"}, "set database.table"},
		{"a view", `CREATE VIEW t AS SELECT 1 AS id`, outbox.Config{}, "not a table"},
		{"missing id", `CREATE TABLE t (event_id int, state text)`, outbox.Config{}, "set columns.id to one of event_id, state"},
		{"missing status", `CREATE TABLE t (id int PRIMARY KEY, state text)`, outbox.Config{}, "set columns.status to one of id, state, or on_sent to delete or keep"},
		{"no index", `CREATE TABLE t (id int, status text)`, outbox.Config{}, `CREATE UNIQUE INDEX CONCURRENTLY ON "public"."t" ("id")`},
		{"no index, delete", `CREATE TABLE t (id int)`, outbox.Config{OnSent: outbox.Delete}, "on_sent: delete would read the whole table"},
		{"id not first", `CREATE TABLE t (tenant int, id int, status text, PRIMARY KEY (tenant, id))`, outbox.Config{}, "no index begins"},
		{
			"partial index", `CREATE TABLE t (id int, status text); CREATE UNIQUE INDEX ON t (id) WHERE status = 'NEW'`,
			outbox.Config{},
			"no index begins",
		},
		{
			"partitioned", `CREATE TABLE t (id int, day int, status text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day)`,
			outbox.Config{},
			`: CREATE INDEX ON "public"."t" ("id")`,
		},
		{
			"status too long", `CREATE TABLE t (id int PRIMARY KEY, status varchar(3))`,
			outbox.Config{},
			`status "SENT" does not fit into column "status", which is character varying(3)`,
		},
		{
			"status padded with blanks", `CREATE DOMAIN inner_padded AS char(10); CREATE DOMAIN padded AS inner_padded; CREATE TABLE t (id int PRIMARY KEY, status padded)`,
			outbox.Config{OnSent: outbox.Keep},
			`ALTER TABLE "public"."t" ALTER COLUMN "status" TYPE varchar`,
		},
		{
			"boolean status", `CREATE DOMAIN sent AS bool; CREATE TABLE t (id int PRIMARY KEY, status sent)`,
			outbox.Config{OnSent: outbox.Keep},
			`ALTER TABLE "public"."t" ALTER COLUMN "status" TYPE varchar`,
		},
		{
			"status no number", `CREATE TABLE t (id int PRIMARY KEY, status int)`,
			outbox.Config{},
			`knows no status "NEW": name one of numbers as PostgreSQL writes them`,
		},
		{
			"number in another form", `CREATE TABLE t (id int PRIMARY KEY, status int)`,
			outbox.Config{Statuses: outbox.Statuses{New: "0", Sent: "01"}},
			`knows no status "01"`,
		},
		{
			"number out of range", `CREATE TABLE t (id int PRIMARY KEY, status smallint)`,
			outbox.Config{Statuses: outbox.Statuses{New: "0", Sent: "40000"}},
			`knows no status "40000"`,
		},
		{
			"generated status", `CREATE TABLE t (id int PRIMARY KEY, done bool, status text GENERATED ALWAYS AS (CASE WHEN done THEN 'SENT' ELSE 'NEW' END) STORED)`,
			outbox.Config{},
			"set on_sent to delete or keep",
		},
		{
			"status not of the enum", `CREATE TYPE s AS ENUM ('NEW', 'OUT'); CREATE TABLE t (id int PRIMARY KEY, status s)`,
			outbox.Config{},
			`knows no status "SENT": name one of NEW, OUT`,
		},
		{"unknown on_sent", ``, outbox.Config{OnSent: "burn"}, "want mark, delete or keep"},
		{"sent is dead", ``, outbox.Config{Statuses: outbox.Statuses{Dead: "SENT"}}, "statuses sent and dead are both \"SENT\""},
		{"failed is dead", ``, outbox.Config{OnSent: outbox.Delete, Statuses: outbox.Statuses{Failed: "X", Dead: "X"}}, "statuses failed and dead"},
		{"one status", ``, outbox.Config{Statuses: outbox.Statuses{New: "A", Sent: "A"}}, "would look like a fresh one"},
	} {
		f.exec(`DROP SCHEMA public CASCADE`)
		f.exec(`CREATE SCHEMA public`)
		f.exec(c.ddl)
		c.config.Table = "t"
		_, err := outbox.Describe(t.Context(), f.conn, c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestDescribeTakesWhatSettlingCanUse(t *testing.T) {
	f := setup(t, migrations.Options{})
	for name, c := range map[string]struct {
		ddl    string
		config outbox.Config
	}{
		"the outbox":               {``, outbox.Config{Table: "outbox"}},
		"a unique index":           {`CREATE TABLE a (id int, status text); CREATE UNIQUE INDEX ON a (id)`, outbox.Config{Table: "a"}},
		"an index with more":       {`CREATE TABLE b (id int, status text); CREATE INDEX ON b (id, status)`, outbox.Config{Table: "b"}},
		"a hash index":             {`CREATE TABLE c (id int, status text); CREATE INDEX ON c USING hash (id)`, outbox.Config{Table: "c"}},
		"keep without an index":    {`CREATE TABLE d (id int)`, outbox.Config{Table: "d", OnSent: outbox.Keep}},
		"delete without a status":  {`CREATE TABLE e (id int PRIMARY KEY)`, outbox.Config{Table: "e", OnSent: outbox.Delete}},
		"a partition key after id": {`CREATE TABLE g (id int, d int, status text, PRIMARY KEY (id, d)) PARTITION BY RANGE (d)`, outbox.Config{Table: "g"}},
	} {
		f.exec(c.ddl)
		if _, err := outbox.Describe(t.Context(), f.conn, c.config); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDescribeNamesTheMissingRight(t *testing.T) {
	f := setup(t, migrations.Options{})
	role := pgx.Identifier{fmt.Sprintf("describe%d", time.Now().UnixNano())}.Sanitize()
	f.exec(`CREATE ROLE ` + role)
	t.Cleanup(func() {
		drop := `RESET ROLE; DROP OWNED BY ` + role + `; DROP ROLE ` + role
		if _, err := f.conn.Exec(context.WithoutCancel(t.Context()), drop); err != nil {
			t.Error(err)
		}
	})
	f.exec(`CREATE SCHEMA app; CREATE TABLE app.outbox (id int PRIMARY KEY, status text)`)
	for _, step := range []struct {
		want, grant string
		onSent      outbox.OnSent
		enough      bool
	}{
		{`GRANT USAGE ON SCHEMA "app"`, `GRANT USAGE ON SCHEMA app TO `, outbox.Mark, false},
		{`GRANT SELECT ON "app"."outbox"`, `GRANT SELECT ON app.outbox TO `, outbox.Mark, false},
		{`GRANT UPDATE ("status") ON "app"."outbox"`, `GRANT UPDATE (status) ON app.outbox TO `, outbox.Mark, true},
		{`GRANT DELETE ON "app"."outbox"`, `GRANT DELETE ON app.outbox TO `, outbox.Delete, true},
	} {
		config := outbox.Config{Schema: "app", OnSent: step.onSent}
		f.exec(`SET ROLE ` + role)
		_, err := outbox.Describe(t.Context(), f.conn, config)
		if err == nil || !strings.Contains(err.Error(), step.want) {
			t.Errorf("%v, want %q", err, step.want)
		}
		f.exec(`RESET ROLE; ` + step.grant + role + `; SET ROLE ` + role)
		if _, err := outbox.Describe(t.Context(), f.conn, config); (err == nil) != step.enough {
			t.Errorf("after %s: %v", step.grant, err)
		}
	}
	f.exec(`RESET ROLE; ALTER TABLE app.outbox ADD retry_count int, ADD error_message text; SET ROLE ` + role)
	_, err := outbox.Describe(t.Context(), f.conn, outbox.Config{Schema: "app"})
	if want := `GRANT UPDATE ("retry_count", "error_message") ON "app"."outbox"`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("without the rights to mirror: %v, want %q", err, want)
	}
	f.exec(`RESET ROLE; ALTER TABLE app.outbox ENABLE ROW LEVEL SECURITY; SET ROLE ` + role)
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Delete, outbox.Keep} {
		_, err := outbox.Describe(t.Context(), f.conn, outbox.Config{Schema: "app", OnSent: onSent})
		if err == nil || !strings.Contains(err.Error(), "row security hides rows") {
			t.Errorf("%v under row security: %v", onSent, err)
		}
	}
}
