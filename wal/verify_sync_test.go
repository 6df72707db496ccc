package wal_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/wal"
)

// verifyAs returns the failed checks for sessions of that database.application_name, and more parameters of the URL.
func (f *fixture) verifyAs(name, parameters string) []*wal.CheckError {
	f.t.Helper()
	cfg := f.cfg
	cfg.Client.ApplicationName, cfg.URL = name, cfg.URL+parameters
	config, err := cfg.SessionConfig()
	if err != nil {
		f.t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(f.t.Context(), config)
	if err != nil {
		f.t.Fatal(err)
	}
	defer closeConn(f.t, conn)
	_, checks := (&fixture{Conn: conn, t: f.t, cfg: cfg}).verify()
	return checks
}

func TestServerThatTakesOutboxdForASynchronousStandbyIsRefused(t *testing.T) {
	f := setupOn(t, testenv.NewPostgres(t, testenv.PostgresOptions{}).Database(t))
	t.Cleanup(func() { // before the database is dropped, which would wait for a standby
		if _, err := f.Exec(context.WithoutCancel(t.Context()), `ALTER SYSTEM RESET synchronous_standby_names`); err != nil {
			t.Error(err)
		}
		if _, err := f.Exec(context.WithoutCancel(t.Context()), `SELECT pg_reload_conf()`); err != nil {
			t.Error(err)
		}
	})
	set := func(setting string) {
		t.Helper()
		f.exec(`ALTER SYSTEM SET synchronous_standby_names = '` + setting + `'`)
		f.exec(`SELECT pg_reload_conf()`)
		f.waitFor("the server has read it", `SELECT current_setting('synchronous_standby_names') = $1`, setting)
	}
	for _, c := range []struct {
		setting, name string // name is database.application_name
		refused       bool
	}{
		{setting: `*`, refused: true},
		{setting: `"*"`, refused: true},
		{setting: `1 (*)`, refused: true},
		{setting: `first 2(standby1,*)`, refused: true},
		{setting: `ANY 1 (*)`, refused: true},
		{setting: `standby1, *`, refused: true},
		{setting: `OutboxD`, refused: true},
		{setting: `ANY 1 (standby1, "OUTBOXD")`, refused: true},
		{setting: `"a ""relay"", one"`, name: `A "relay", one`, refused: true},
		{setting: ``},
		{setting: `standby1`},
		{setting: `FIRST 1 (standby1, standby2)`},
		{setting: `FIRST 1 ("first", "a (*), b", "out""boxd", outboxd2)`},
		{setting: `ANY 2 (standby1, standby2, outboxd)`, name: "any"},
	} {
		set(c.setting)
		checks := f.verifyAs(c.name, "")
		if !c.refused {
			if len(checks) > 0 {
				t.Errorf("%s, for %q: %v", c.setting, c.name, checks)
			}
			continue
		}
		if len(checks) != 1 || checks[0].Check != wal.CheckSynchronous || !strings.Contains(checks[0].Mend, "FIRST 1 (standby1, standby2)") {
			t.Errorf("%s, for %q: %v, want the check of synchronous standbys", c.setting, c.name, checks)
		}
	}
	set(`relay`)
	if checks := f.verifyAs("another", "&application_name=relay"); len(checks) != 1 || !strings.Contains(checks[0].Mend, "database.application_name") {
		t.Errorf("a name in the URL: %v", checks)
	}
}
