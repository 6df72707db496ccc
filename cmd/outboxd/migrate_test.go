package main

import (
	"strings"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
)

// A command typed while outboxd runs must not take the tables from under it.
func TestMigrateDownRefusesWhileAnInstanceIsActive(t *testing.T) {
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
	o := newOperator(t)
	for url, mend := range map[string]string{
		"postgres://127.0.0.1:1/app":                    "see that PostgreSQL runs and listens there",
		testenv.Postgres(t).DatabaseURL("outboxd_gone"): "create the database, or name another in database.url",
	} {
		if _, says := o.run(exitFailure, "migrate", "status", "--database-url", url); !strings.Contains(says, "no connection to PostgreSQL: "+mend) {
			t.Errorf("%s: %q, want %q", url, says, mend)
		}
	}
}
