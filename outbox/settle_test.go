package outbox_test

import (
	"slices"
	"testing"

	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
)

func TestSettleMarksOnlyNamedRowsThatAreNew(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id bigint PRIMARY KEY, status varchar(10) DEFAULT 'NEW')`)
	f.exec(`INSERT INTO t VALUES (1, 'NEW'), (2, 'FAILED'), (3, 'DEAD'), (4, NULL), (5, 'SENT'), (6, 'NEW'), (7, 'NEW')`)
	table := f.describe(outbox.Config{Table: "t"})
	f.settle(table, ids("1", "2", "3", "4", "5", "7", "99")...)
	if got, want := f.statuses("t"), "1=SENT,2=FAILED,3=DEAD,4=null,5=SENT,6=NEW,7=SENT"; got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
}

func TestSettleDeletesOnlyNamedRowsThatAreNew(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id bigint PRIMARY KEY, status varchar(10) DEFAULT 'NEW')`)
	f.exec(`INSERT INTO t VALUES (1, 'NEW'), (2, 'FAILED'), (4, NULL), (6, 'NEW')`)
	table := f.describe(outbox.Config{Table: "t", OnSent: outbox.Delete})
	f.settle(table, ids("1", "2", "4")...)
	if got, want := f.statuses("t"), "2=FAILED,4=null,6=NEW"; got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
}

func TestSettleDeletesFromATableWithoutAStatus(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id uuid PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload jsonb)`)
	f.exec(`INSERT INTO t VALUES ('00000000-0000-0000-0000-000000000001'), ('00000000-0000-0000-0000-000000000002')`)
	f.settle(f.describe(outbox.Config{Table: "t", OnSent: outbox.Delete}), ids("00000000-0000-0000-0000-000000000001")...)
	var left string
	if err := f.conn.QueryRow(t.Context(), `SELECT string_agg(id::text, ',') FROM t`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if want := "00000000-0000-0000-0000-000000000002"; left != want {
		t.Errorf("left are %s, want %s", left, want)
	}
}

func TestSettleWithKeepWritesNothing(t *testing.T) {
	f := setup(t, migrations.Options{})
	rows := f.insert(f.conn, 3)
	if s := f.settle(f.describe(outbox.Config{OnSent: outbox.Keep}), rows...); !s.Visible(1 << 30) {
		t.Error("something has to be settled again")
	}
	if got := f.counts(); got != "NEW=3" {
		t.Errorf("the rows are %s, want NEW=3", got)
	}
}

func TestSettleTakesIdsAsTheyAre(t *testing.T) {
	odd := []string{``, `NULL`, `null`, `a,b`, `{a}`, `"`, `\`, `\\"`, `a\"b`, `it's`, ` lead`, `trail `, "tab\tline\n", `{}`, `ü€😀`, `$1`, `%s`}
	for _, kind := range []string{"text", "varchar(20)", "char(20)", "own_id"} {
		t.Run(kind, func(t *testing.T) {
			f := setup(t, migrations.Options{})
			f.exec(`CREATE DOMAIN own_id AS varchar(40) CHECK (value <> 'never')`)
			f.exec(`CREATE TABLE t (id ` + kind + ` PRIMARY KEY, status text DEFAULT 'NEW')`)
			f.exec(`INSERT INTO t (id) VALUES ` + values(append(slices.Clone(odd), "other")))
			f.settle(f.describe(outbox.Config{Table: "t"}), ids(odd...)...)
			var left string
			err := f.conn.QueryRow(t.Context(), `SELECT string_agg(trim(id), '|') FROM t WHERE status = 'NEW'`).Scan(&left)
			if err != nil || left != "other" {
				t.Errorf("not settled are %q (%v), want only other", left, err)
			}
		})
	}
}

func TestSettleWorksWithEnumStatusesAndOddNames(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE SCHEMA "My ""app"""; CREATE TYPE "My ""app"""."State" AS ENUM ('fresh', 'it''s out')`)
	f.exec(`CREATE TABLE "My ""app"""."Out.box" ("Event ID" uuid PRIMARY KEY, "The State" "My ""app"""."State" DEFAULT 'fresh')`)
	f.exec(`INSERT INTO "My ""app"""."Out.box" VALUES ('00000000-0000-0000-0000-000000000001')`)
	table := f.describe(outbox.Config{
		Schema: `My "app"`, Table: "Out.box", Columns: outbox.Columns{ID: "Event ID", Status: "The State"},
		Statuses: outbox.Statuses{New: "fresh", Sent: "it's out"},
	})
	f.settle(table, ids("00000000-0000-0000-0000-000000000001")...)
	var status string
	if err := f.conn.QueryRow(t.Context(), `SELECT "The State"::text FROM "My ""app"""."Out.box"`).Scan(&status); err != nil || status != "it's out" {
		t.Errorf("the status is %q, %v; want it's out", status, err)
	}
}

func TestSettleWorksOnAPartitionedTable(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id bigint, day int, status text DEFAULT 'NEW', PRIMARY KEY (id, day)) PARTITION BY RANGE (day)`)
	f.exec(`CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (1) TO (2)`)
	f.exec(`CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (2) TO (3)`)
	f.exec(`INSERT INTO t VALUES (1, 1), (2, 2), (3, 1), (4, 2)`)
	f.settle(f.describe(outbox.Config{Table: "t"}), ids("1", "2")...)
	f.settle(f.describe(outbox.Config{Table: "t", OnSent: outbox.Delete}), ids("4")...)
	if got, want := f.statuses("t"), "1=SENT,2=SENT,3=NEW"; got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
}

func TestSettleOfManyRowsTakesSeveralStatements(t *testing.T) {
	f := setup(t, migrations.Options{})
	rows := f.insert(f.conn, 12_345)
	f.settle(f.describe(outbox.Config{}), rows...)
	if got := f.counts(); got != "SENT=12345" {
		t.Errorf("the rows are %s, want SENT=12345", got)
	}
}
