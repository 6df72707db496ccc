package migrations_test

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

//go:embed testdata/existing-outbox.sql
var existingOutbox string

func TestUpMakesTheTableOfExistingDeployments(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	report := up(t, conn, migrations.Options{Indexes: migrations.Full})
	if !report.OutboxCreated {
		t.Error("Up did not say that it made the table")
	}
	exec(t, conn, `CREATE SCHEMA existing; SET search_path = existing, public; `+existingOutbox+`; RESET search_path`)
	want, got := shape(t, conn, "existing"), shape(t, conn, "public")
	if got != strings.ReplaceAll(want, "existing.", "public.") {
		t.Errorf("table made by Up:\n%s\nexisting table:\n%s", got, want)
	}
	if n := strings.Count(got, "INDEX"); n != 9 {
		t.Errorf("the table has %d indexes, want the primary key and eight:\n%s", n, got)
	}
}

func TestLeanTableHasOnlyTheRetryIndex(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	up(t, conn, migrations.Options{})
	got := shape(t, conn, "public")
	if n := strings.Count(got, "INDEX"); n != 2 {
		t.Errorf("the table has %d indexes, want the primary key and one:\n%s", n, got)
	}
	for _, want := range []string{"(retry_after) WHERE (retry_after IS NOT NULL)", "fillfactor=60"} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
}

func TestTableThatIsThereStaysUntouched(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	exec(t, conn, `CREATE TABLE outbox (id bigint, aggregatetype text)`)
	before := shape(t, conn, "public")
	if report := up(t, conn, migrations.Options{Indexes: migrations.Full}); report.OutboxCreated {
		t.Error("Up says that it made a table that was there")
	}
	if after := shape(t, conn, "public"); after != before {
		t.Errorf("the table was\n%s\nand is\n%s", before, after)
	}
}

func TestUpTwiceDoesNothingMore(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	first := up(t, conn, migrations.Options{})
	if len(first.Steps) == 0 || first.Steps[0].AppliedAt.IsZero() {
		t.Fatalf("the first Up reports steps %v, want all with their times", first.Steps)
	}
	if second := up(t, conn, migrations.Options{}); len(second.Steps) != 0 || second.OutboxCreated {
		t.Errorf("the second Up reports %+v, want nothing", second)
	}
}

func TestEightUpsAtOnceApplyEachStepOnce(t *testing.T) {
	url := testenv.Postgres(t).Database(t)
	const n = 8
	type result struct {
		report migrations.Report
		err    error
	}
	results := make(chan result, n)
	for range n {
		conn := connect(t, url)
		go func() {
			r, err := migrations.Up(t.Context(), conn, migrations.Options{})
			results <- result{r, err}
		}()
	}
	var created, steps int
	for range n {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		steps += len(r.report.Steps)
		if r.report.OutboxCreated {
			created++
		}
	}
	if want := len(status(t, connect(t, url), migrations.Options{}).Applied); created != 1 || steps != want {
		t.Errorf("%d made the table and %d steps were applied, want 1 and %d", created, steps, want)
	}
}

func TestReplayNumbersOfANewSchemaBeginWithTheTime(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	for range 2 {
		up(t, conn, migrations.Options{})
		var number, now int64
		err := conn.QueryRow(t.Context(), `SELECT nextval('outboxd.replay_number'), extract(epoch FROM clock_timestamp())::bigint - 1577836800`).Scan(&number, &now)
		if err != nil {
			t.Fatal(err)
		}
		if number > now || number < now-3600 {
			t.Errorf("the first replay is %d, want a moment ago in seconds since 2020, which are %d", number, now)
		}
		down(t, conn, migrations.Options{})
	}
}

func TestDownRemovesOnlyItsOwn(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	before := up(t, conn, migrations.Options{})
	report := down(t, conn, migrations.Options{})
	if !report.SchemaDropped || len(report.Steps) != len(before.Steps) {
		t.Errorf("Down reports %+v, want %d steps and the schema", report, len(before.Steps))
	}
	if s := status(t, conn, migrations.Options{}); !s.Outbox || len(s.Applied) != 0 {
		t.Errorf("after Down the status is %+v, want the outbox table and no step", s)
	}
	if again := down(t, conn, migrations.Options{}); len(again.Steps) != 0 || again.SchemaDropped {
		t.Errorf("the second Down reports %+v, want nothing", again)
	}
	if after := up(t, conn, migrations.Options{}); len(after.Steps) != len(before.Steps) {
		t.Errorf("Up after Down applied %d steps, want %d", len(after.Steps), len(before.Steps))
	}
}

func TestRoleWithoutRightsIsToldWhatMends(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	exec(t, conn, `SET ROLE pg_monitor`)
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err == nil || !strings.Contains(err.Error(), "outboxd migrate sql --role NAME") {
		t.Errorf("Up says %v, want the mend", err)
	}
	exec(t, conn, `RESET ROLE`)
	up(t, conn, migrations.Options{})
	exec(t, conn, `GRANT USAGE ON SCHEMA outboxd TO pg_monitor; GRANT SELECT ON ALL TABLES IN SCHEMA outboxd TO pg_monitor; SET ROLE pg_monitor`)
	if r, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil || r.Steps == nil || len(r.Steps) != 0 {
		t.Errorf("Up where nothing is to do says %+v, %v", r, err)
	}
	if _, err := migrations.Down(t.Context(), conn, migrations.Options{}); err == nil || !strings.Contains(err.Error(), "connect as the owner of the tables") {
		t.Errorf("Down says %v, want the mend", err)
	}
}

func TestDownKeepsASchemaThatHoldsSomethingElse(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	exec(t, conn, `CREATE SCHEMA outboxd`)
	o := migrations.Options{TableSchema: "outboxd"}
	up(t, conn, o)
	if report := down(t, conn, o); report.SchemaDropped {
		t.Error("Down says that it dropped the schema of the outbox table")
	}
	if s := status(t, conn, o); !s.Outbox {
		t.Error("the outbox table is gone")
	}
}

func TestNamesAreTakenAsTheyAre(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	o := migrations.Options{Schema: `Our "own" % schema\`, TableSchema: `App's`, Table: `Out.box`, Indexes: migrations.Full}
	exec(t, conn, `CREATE SCHEMA "App's"`)
	up(t, conn, o)
	if again := up(t, conn, o); len(again.Steps) != 0 {
		t.Errorf("the second Up applied %v", again.Steps)
	}
	exec(t, conn, script(t, o))
	exec(t, conn, roleScript(t, o, migrations.Role{Name: uniqueRole(t, conn) + ` "R'`, Publication: `P'"\`}))
	if s := status(t, conn, o); !s.Outbox || len(s.Pending) != 0 {
		t.Errorf("the status is %+v, want everything applied", s)
	}
	if report := down(t, conn, o); !report.SchemaDropped {
		t.Errorf("Down reports %+v, want the schema dropped", report)
	}
}

func TestOutboxTableInAMissingSchemaNamesTheMend(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	_, err := migrations.Up(t.Context(), conn, migrations.Options{TableSchema: "App"})
	if err == nil || !strings.Contains(err.Error(), `CREATE SCHEMA "App"`) {
		t.Errorf("Up: %v, want an error that says CREATE SCHEMA \"App\"", err)
	}
	if s := status(t, conn, migrations.Options{}); len(s.Applied) != 0 {
		t.Errorf("the failed Up applied %v", s.Applied)
	}
}

func TestScriptDoesWhatUpDoes(t *testing.T) {
	server := testenv.Postgres(t)
	byUp, byScript := connect(t, server.Database(t)), connect(t, server.Database(t))
	for _, indexes := range []migrations.Indexes{migrations.Lean, migrations.Full} {
		o := migrations.Options{Indexes: indexes, Schema: "own_" + string(indexes), Table: "outbox_" + string(indexes)}
		up(t, byUp, o)
		exec(t, byScript, script(t, o))
		exec(t, byScript, script(t, o)) // it may be run again
		for _, schema := range []string{"public", o.Schema} {
			if want, got := shape(t, byUp, schema), shape(t, byScript, schema); got != want {
				t.Errorf("schema %s by the script:\n%s\nby Up:\n%s", schema, got, want)
			}
		}
		s := status(t, byScript, o)
		if len(s.Pending) != 0 || s.Applied[0].AppliedAt.IsZero() {
			t.Errorf("after the script the status is %+v, want all applied with their times", s)
		}
		if r := up(t, byScript, o); len(r.Steps) != 0 || r.OutboxCreated {
			t.Errorf("Up after the script did %+v, want nothing", r)
		}
	}
}

func TestVerifyTellsWhatIsMissing(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	if err := migrations.Verify(t.Context(), conn, migrations.Options{}); !errors.Is(err, lease.ErrNotMigrated) {
		t.Errorf("before Up: %v, want ErrNotMigrated", err)
	}
	up(t, conn, migrations.Options{})
	if err := migrations.Verify(t.Context(), conn, migrations.Options{}); err != nil {
		t.Errorf("after Up: %v", err)
	}
	exec(t, conn, `UPDATE outboxd.schema_version SET version = 999`)
	const newer = "run a newer outboxd"
	if err := migrations.Verify(t.Context(), conn, migrations.Options{}); err == nil || !strings.Contains(err.Error(), newer) {
		t.Errorf("Verify of a newer schema: %v, want %q", err, newer)
	}
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err == nil || !strings.Contains(err.Error(), newer) {
		t.Errorf("Up of a newer schema: %v, want %q", err, newer)
	}
	if _, err := migrations.Down(t.Context(), conn, migrations.Options{}); err == nil || !strings.Contains(err.Error(), newer) {
		t.Errorf("Down of a newer schema: %v, want %q", err, newer)
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for name, o := range map[string]migrations.Options{
		"indexes":        {Indexes: "some"},
		"long name":      {Schema: strings.Repeat("x", 64)},
		"reserved":       {Schema: "pg_outboxd"},
		"NUL":            {Table: "a\x00b"},
		"end of a quote": {TableSchema: "a$outboxd$; DROP TABLE x; --"},
	} {
		if err := migrations.WriteSQL(&strings.Builder{}, o); err == nil {
			t.Errorf("%s: %+v was taken", name, o)
		}
	}
	if err := migrations.WriteRoleSQL(&strings.Builder{}, migrations.Options{}, migrations.Role{}); err == nil {
		t.Error("a role without a name was taken")
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// exec runs a script as psql would, in the simple protocol.
func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%v in\n%s", err, sql)
	}
}

func up(t *testing.T, conn *pgx.Conn, o migrations.Options) migrations.Report {
	t.Helper()
	r, err := migrations.Up(t.Context(), conn, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func down(t *testing.T, conn *pgx.Conn, o migrations.Options) migrations.Report {
	t.Helper()
	r, err := migrations.Down(t.Context(), conn, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func status(t *testing.T, conn *pgx.Conn, o migrations.Options) migrations.Status {
	t.Helper()
	s, err := migrations.ReadStatus(t.Context(), conn, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func script(t *testing.T, o migrations.Options) string {
	t.Helper()
	var b strings.Builder
	if err := migrations.WriteSQL(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// shape describes every table of the schema as the catalog has it: columns, constraints, indexes, triggers, rules, options.
func shape(t *testing.T, conn *pgx.Conn, schema string) string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT format('%s.%s %s null=%s default=%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
			pg_get_expr(d.adbin, d.adrelid)) AS line, c.relname, a.attnum
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
		LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'
		UNION ALL SELECT pg_get_indexdef(i.indexrelid), c.relname, 1000
		FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = $1::text::regnamespace
		UNION ALL SELECT format('%s: %s', c.relname, pg_get_constraintdef(o.oid)), c.relname, 1001
		FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid WHERE o.connamespace = $1::text::regnamespace
		UNION ALL SELECT pg_get_triggerdef(t.oid), c.relname, 1002
		FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = $1::text::regnamespace AND NOT t.tgisinternal
		UNION ALL SELECT pg_get_ruledef(w.oid), c.relname, 1003
		FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class WHERE c.relnamespace = $1::text::regnamespace
		UNION ALL SELECT format('%s: %s, replica identity %s, row security %s', relname, array_to_string(reloptions, ' '), relreplident, relrowsecurity),
			relname, 1004
		FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relkind = 'r'
		ORDER BY 2, 3, 1`, pgx.Identifier{schema}.Sanitize())
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (line string, err error) {
		return line, row.Scan(&line, nil, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
