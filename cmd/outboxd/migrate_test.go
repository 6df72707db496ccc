package main

import (
	"strings"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
)

// A command typed while outboxd runs must not take the tables from under it.
func TestMigrateDownRefusesWhileAnInstanceIsActive(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.start()
	if _, says := o.run(exitFailure, "migrate", "down", "--yes"); !strings.Contains(says, "stop all instances first") {
		t.Errorf("migrate down beside an instance says %q", says)
	}
	if _, says := o.run(exitFailure, "migrate", "down", "--yes", "--set", "database.slot=another"); !strings.Contains(says, "stop all instances first") {
		t.Errorf("migrate down beside an instance on another slot says %q", says)
	}
	if n := o.count(`SELECT count(*) FROM pg_tables WHERE schemaname = 'outboxd' AND tablename = 'lease'`); n != 1 {
		t.Error("the tables went from under the instance")
	}
	o.stop()
	o.want("migrate down --yes", "removed  1")
	o.run(exitFine, "slot", "drop", "--yes")
}

func TestNoConnectionNamesTheMend(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	nobody, gone := "postgres://127.0.0.1:1/app", testenv.Postgres(t).DatabaseURL("outboxd_gone")
	for _, c := range []struct{ mend, url, command string }{
		{"see that PostgreSQL runs and listens there", nobody, "migrate status"},
		{"create the database, or name another in database.url", gone, "migrate status"},
		{"create the database, or name another in database.url", gone, "run"}, // it would wait for nobody
	} {
		args := append(strings.Fields(c.command), "--database-url", c.url)
		if _, says := o.run(exitFailure, args...); !strings.Contains(says, "no connection to PostgreSQL: "+c.mend) {
			t.Errorf("%q: %q, want %q", args, says, c.mend)
		}
	}
}
