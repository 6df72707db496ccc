package wal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/shard"
	"github.com/outboxd/outboxd/wal"
)

// setupSplit has a table whose deciding columns have the types, and a configuration for one of its shards.
func setupSplit(t *testing.T, by shard.By, partitioned bool, tenantType, defaultTenant string) *fixture {
	t.Helper()
	server := testenv.Postgres(t)
	if server.Major < 15 {
		server = testenv.NewPostgres(t, testenv.PostgresOptions{Version: 15})
	}
	f := setupOn(t, server.Database(t))
	f.exec(`DROP TABLE outbox`)
	create := `CREATE TABLE outbox (id uuid, "Tenant" ` + tenantType + `, kind varchar(50), aggregate int, payload text)`
	if partitioned {
		create += ` PARTITION BY LIST (kind)`
	}
	f.exec(create)
	if partitioned {
		f.exec(`CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT`)
	}
	f.split(shard.Shard{Count: 3, Number: 1, By: by}, defaultTenant)
	return f
}

func (f *fixture) split(s shard.Shard, defaultTenant string) {
	f.t.Helper()
	rows, err := s.Rows(shard.Columns{ID: "id", TenantID: "Tenant", AggregateType: "kind", AggregateID: "aggregate", DefaultTenant: defaultTenant}, "")
	if err != nil {
		f.t.Fatal(err)
	}
	f.cfg.Rows = rows
}

// checked returns the checks that fail, with their texts.
func (f *fixture) checked() string {
	f.t.Helper()
	_, err := wal.Verify(f.t.Context(), f.Conn, f.cfg)
	var all []string
	for _, c := range wal.CheckErrors(err) {
		all = append(all, string(c.Check)+": "+c.Error())
	}
	if err != nil && all == nil {
		f.t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

func TestPublicationOfAShardIsMadeWithItsFilterAndKnownByIt(t *testing.T) {
	for _, c := range []struct {
		by                        shard.By
		partitioned               bool
		tenantType, defaultTenant string
	}{
		{shard.Tenant, false, "text", ""},
		{shard.Key, false, "varchar(30)", `o'n\e "two" (three)::text`},
		{shard.Tenant, false, "text", `two\\ backslashes`},
		{shard.Key, true, "text", "acme"},
		{shard.Tenant, true, "uuid", "018f0000-0000-7000-8000-00000000000a"},
		{shard.Key, false, "bigint", "17"},
		{shard.Tenant, false, "char(20)", "acme"},
		{shard.Tenant, false, `text COLLATE "C"`, "acme"},
	} {
		f := setupSplit(t, c.by, c.partitioned, c.tenantType, c.defaultTenant)
		if _, err := wal.Setup(t.Context(), f.Conn, f.cfg); err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if failed := f.checked(); failed != "" {
			t.Errorf("%+v: %s", c, failed)
		}
		for _, setting := range []string{"quote_all_identifiers = on", "standard_conforming_strings = off"} {
			f.exec("SET " + setting)
			if failed := f.checked(); failed != "" {
				t.Errorf("%+v with %s: %s", c, setting, failed)
			}
		}
	}
}

func TestPublicationOfOtherRowsIsRefused(t *testing.T) {
	f := setupSplit(t, shard.Tenant, false, "text", "acme")
	f.exec(`CREATE PUBLICATION outboxd FOR TABLE outbox WITH (publish = 'insert')`)
	if failed := f.checked(); !strings.HasPrefix(failed, "row_filter: ") || !strings.Contains(failed, "(all of them)") ||
		!strings.Contains(failed, `SET TABLE "public"."outbox" WHERE (`+f.cfg.Rows) || strings.Contains(failed, "drop_replication_slot") {
		t.Errorf("without a filter: %q", failed)
	}
	f.exec(`DROP PUBLICATION outboxd`)
	if _, err := wal.Setup(t.Context(), f.Conn, f.cfg); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(){
		"another number": func() { f.split(shard.Shard{Count: 3, Number: 2, By: shard.Tenant}, "acme") },
		"another count":  func() { f.split(shard.Shard{Count: 4, Number: 1, By: shard.Tenant}, "acme") },
		"by key":         func() { f.split(shard.Shard{Count: 3, Number: 1, By: shard.Key}, "acme") },
		"another tenant": func() { f.split(shard.Shard{Count: 3, Number: 1, By: shard.Tenant}, "globex") },
	} {
		change()
		if failed := f.checked(); !strings.HasPrefix(failed, "row_filter: ") || !strings.Contains(failed, "pg_drop_replication_slot") {
			t.Errorf("%s: %q", what, failed)
		}
	}
	f.cfg.Rows = ""
	if failed := f.checked(); !strings.HasPrefix(failed, "row_filter: ") || !strings.Contains(failed, "is that of a shard") {
		t.Errorf("not split: %q", failed)
	}
	f.split(shard.Shard{Count: 3, Number: 1, By: shard.Tenant}, "acme")
	f.exec(`ALTER PUBLICATION outboxd DROP TABLE outbox`)
	if failed := f.checked(); !strings.Contains(failed, `ADD TABLE "public"."outbox" WHERE (`) {
		t.Errorf("without the table: %q", failed)
	}
}

func TestPublicationOfAShardThatKeepsRowsFromBeingChangedIsRefused(t *testing.T) {
	f := setupSplit(t, shard.Tenant, false, "text", "")
	f.create()
	for _, publish := range []string{"insert, update", "insert, delete"} {
		f.exec(`ALTER PUBLICATION outboxd SET (publish = '` + publish + `')`)
		_, failed := f.verify()
		if len(failed) != 1 || failed[0].Check != wal.CheckFilter || !strings.Contains(failed[0].Problem, "publishes updates or deletes") {
			t.Fatalf("%s: %v", publish, failed)
		}
		f.exec(failed[0].Mend)
		f.mustVerify()
	}
	f.exec(`ALTER PUBLICATION outboxd SET (publish = 'insert, truncate')`)
	f.mustVerify()
}

func TestColumnsThatNoFilterTakesAreRefusedWithTheMend(t *testing.T) {
	f := setupSplit(t, shard.Tenant, false, "text", "")
	f.exec(`CREATE TYPE tier AS ENUM ('a', 'b')`)
	f.exec(`ALTER TABLE outbox ALTER "Tenant" TYPE tier USING 'a'`)
	_, err := wal.Setup(t.Context(), f.Conn, f.cfg)
	if failed := wal.CheckErrors(err); len(failed) != 1 || failed[0].Check != wal.CheckFilter || !strings.Contains(failed[0].Mend, "types and collations of PostgreSQL's own") {
		t.Errorf("got %v", err)
	}
}

func TestInstanceOfAnotherLayoutIsRefused(t *testing.T) {
	f := setupSplit(t, shard.Tenant, false, "text", "")
	other := f.cfg.Slot + "_2_1"
	f.cfg.Others = []wal.Names{{Slot: "nobody_2_0", Schema: "own_2_0", Layout: "shards.count: 2"}, {Slot: other, Schema: "own_2_1", Layout: "shards.count: 2"}}
	f.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, other)
	if failed := f.checked(); failed != "" {
		t.Errorf("a slot of that name without outboxd's tables: %s", failed)
	}
	f.exec(`CREATE SCHEMA own_2_1`)
	if failed := f.checked(); !strings.HasPrefix(failed, "layout: slot ") || !strings.Contains(failed, other) || !strings.Contains(failed, "shards.count: 2") {
		t.Errorf("another layout is there: %q", failed)
	}
	f.exec(`CREATE TABLE another (id int)`)
	f.exec(`CREATE PUBLICATION of_another FOR TABLE another`)
	f.cfg.Others[1].Publication = "of_another"
	if failed := f.checked(); failed != "" {
		t.Errorf("an instance of another table has such names: %s", failed)
	}
	f.cfg.Others[1].Publication = f.cfg.Publication
	if failed := f.checked(); !strings.HasPrefix(failed, "layout: slot ") {
		t.Errorf("its publication has the table: %q", failed)
	}
	f.exec(`SELECT pg_drop_replication_slot($1)`, other)
	if failed := f.checked(); failed != "" {
		t.Errorf("the other layout is gone: %s", failed)
	}
}

func TestParkedEventsOfAnotherLayoutAreNotForgotten(t *testing.T) {
	f := setup(t)
	other := wal.Names{Slot: f.cfg.Slot + "_2t_1", Schema: "own_2t_1", Layout: "shards.count: 2"}
	f.cfg.Others = []wal.Names{{Slot: "nobody_2t_0", Schema: "own_2t_0"}, other}
	f.exec(`CREATE SCHEMA own_2t_1`)
	f.exec(`CREATE TABLE own_2t_1.parked (slot text, state text)`)
	f.exec(`INSERT INTO own_2t_1.parked VALUES ($1, 'done'), ($1, 'skipped'), ('another', 'waiting')`, other.Slot)
	if failed := f.checked(); failed != "" {
		t.Errorf("nothing of it is left: %s", failed)
	}
	for _, state := range []string{"waiting", "dead"} {
		f.exec(`INSERT INTO own_2t_1.parked VALUES ($1, $2)`, other.Slot, state)
		if failed := f.checked(); !strings.HasPrefix(failed, "layout: events are parked in") || !strings.Contains(failed, "shards.count: 2") {
			t.Errorf("with a %s one: %q", state, failed)
		}
		f.exec(`DELETE FROM own_2t_1.parked WHERE state = $1 AND slot = $2`, state, other.Slot)
	}
}

func TestThereIsRoomForTheOtherShardsToo(t *testing.T) {
	f := setup(t)
	for n := range query[int](f, `SELECT greatest(current_setting('max_wal_senders')::int, current_setting('max_replication_slots')::int)`) {
		f.cfg.Beside = append(f.cfg.Beside, fmt.Sprintf("%s_%d", f.cfg.Slot, n))
	}
	if failed := f.checked(); !strings.Contains(failed, "max_wal_senders is") || !strings.Contains(failed, "max_replication_slots is") ||
		!strings.Contains(failed, fmt.Sprintf("so many other shards need one: %d", len(f.cfg.Beside))) {
		t.Errorf("got %q", failed)
	}
	f.cfg.Beside = f.cfg.Beside[:1]
	if failed := f.checked(); failed != "" {
		t.Errorf("for two there is room: %s", failed)
	}
}

func TestServerWithoutRowFiltersIsRefusedForAShard(t *testing.T) {
	f := setupOn(t, testenv.NewPostgres(t, testenv.PostgresOptions{Version: 12}).Database(t))
	f.cfg.Rows = "true"
	if failed := f.checked(); !strings.HasPrefix(failed, "server_version: ") || !strings.Contains(failed, "15 and later") {
		t.Errorf("got %q", failed)
	}
}
