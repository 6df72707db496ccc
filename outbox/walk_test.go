package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
)

// adopt returns the rows that are adopted behind after, in the order of ids, most at most.
func adopt(ctx context.Context, table *outbox.Table, conn *pgx.Conn, after string, most int) (rows []outbox.Row, last string, end bool, err error) {
	ids, end, err := table.Adoptable(ctx, conn, 0, after, most)
	if err != nil || len(ids) == 0 {
		return nil, after, end, err
	}
	rows, err = table.StillAdoptable(ctx, conn, ids)
	places := map[string]int{}
	for place, id := range ids {
		places[id] = place
	}
	slices.SortFunc(rows, func(a, b outbox.Row) int { return places[string(a.Event.ID)] - places[string(b.Event.ID)] })
	return rows, ids[len(ids)-1], end, err
}

// adoptAll adopts the table in chunks, each time with a Table of its own, as after a restart.
func (l *lane) adoptAll(most int) (rows []outbox.Row, chunks int) {
	l.Helper()
	for after, end := "", false; !end; chunks++ {
		table := l.describe(outbox.Config{Table: "t"})
		var found []outbox.Row
		var err error
		if found, after, end, err = adopt(l.Context(), table, l.conn, after, most); err != nil {
			l.Fatal(err)
		}
		if len(found) > most {
			l.Fatalf("a chunk of %d has %d rows", most, len(found))
		}
		rows = append(rows, found...)
	}
	return rows, chunks
}

func idsOf(rows []outbox.Row) []string {
	list := make([]string, len(rows))
	for i := range rows {
		list[i] = string(rows[i].Event.ID)
	}
	return list
}

func TestAdoptionIsInBoundedChunksAndGoesOnAfterARestart(t *testing.T) {
	for _, kind := range idKinds {
		l := setupLaneOf(t, kind, outbox.Config{})
		var want []string
		for n := 10; n < 60; n++ {
			status := []string{"NEW", "SENT", "FAILED", "DEAD", "PUBLISHING", "OTHER"}[n%6]
			if n >= 30 && n < 45 {
				status = "SENT" // nothing for a while
			}
			l.row(n, status)
			if status == "NEW" || status == "FAILED" || status == "PUBLISHING" {
				want = append(want, l.id(n))
			}
		}
		for _, look := range []int{1, 5, 50, 1000} {
			rows, chunks := l.adoptAll(look)
			if got := idsOf(rows); !slices.Equal(got, want) {
				t.Errorf("%s: in chunks of %d: %q, want %q", kind, look, got, want)
			}
			if chunks != len(want)/look+1 {
				t.Errorf("%s: %d rows in %d chunks of %d", kind, len(want), chunks, look)
			}
		}
	}
}

func TestRowsThatWereWrittenBeforeATransactionAreNotAdoptable(t *testing.T) {
	l := setupLane(t, outbox.Config{OnSent: outbox.Keep})
	for n := 10; n < 40; n++ {
		l.row(n, "NEW")
	}
	text, err := outbox.ReadSnapshot(t.Context(), l.conn)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := outbox.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := 40; n < 47; n++ {
		l.row(n, "NEW")
		want = append(want, l.id(n))
	}
	var got []string
	for after, end := "", false; !end; {
		var ids []string
		if ids, end, err = l.table.Adoptable(t.Context(), l.conn, snapshot.Low(), after, 5); err != nil {
			t.Fatal(err)
		}
		got, after = append(got, ids...), ids[len(ids)-1]
	}
	if !slices.Equal(got, want) {
		t.Errorf("adoptable are %q, want %q", got, want)
	}
}

func TestAdoptOfAnEmptyTableEnds(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	if ids, end, err := l.table.Adoptable(t.Context(), l.conn, 0, "", 10); len(ids) != 0 || !end || err != nil {
		t.Errorf("%q, end %v, %v; want the end", ids, end, err)
	}
}

// The log connection asks for UTC and ISO style; a session that reads the table may have other settings.
func TestRowsAreReadAsTheLogCarriesThem(t *testing.T) {
	f := setupPlain(t)
	f.exec(`CREATE TYPE kind AS ENUM ('small', 'big')`)
	f.exec(`CREATE TABLE t (id char(5) PRIMARY KEY, tenant_id char(8), topic kind, aggregate_type bool, aggregate_id date, occurred_at timestamptz, schema_id inet,
		schema_version numeric, payload jsonb, event_metadata timestamp, status varchar(10), retry_count smallint, retry_after timestamp, error_message text, created_at timestamptz)`)
	for i, moment := range []string{
		`2026-11-24 09:30:00.123456+00`, `2026-11-24 09:30:00+00`, `2026-11-24 09:30:00.1+00`, `0044-03-15 01:02:03+00 BC`, `infinity`, `-infinity`,
		`294276-12-31 23:59:59+00`, `0001-01-01 00:00:00+00`, `0001-12-31 23:59:59.5+00 BC`, `2026-10-20 10:00:00+00`,
	} {
		f.exec(`INSERT INTO t VALUES ($1, 'acme', 'big', true, '2026-10-20', $2::text::timestamptz, '10.0.0.1', 1.50, '{"b": 1, "a": [null]}',
			$2::text::timestamptz AT TIME ZONE 'UTC', 'NEW', 3, '2026-01-02 03:04:05.678', 'refused', $2::text::timestamptz)`, fmt.Sprint(i), moment)
	}
	f.exec(`INSERT INTO t (id, tenant_id) VALUES ('n', 'acme')`)
	f.exec(`SET TimeZone = 'UTC'; SET DateStyle = 'ISO'`)
	want := f.texts(`SELECT concat_ws('|', id, tenant_id, topic, aggregate_type, aggregate_id, occurred_at, schema_id, schema_version, payload, event_metadata, status) FROM t ORDER BY id`)
	f.exec(`SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'`)
	rows, err := f.describe(outbox.Config{Table: "t"}).Read(t.Context(), f.conn, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "n", "missing"})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(rows, func(a, b outbox.Row) int { return strings.Compare(string(a.Event.ID), string(b.Event.ID)) })
	for i, r := range rows {
		e := &r.Event
		var got []string
		for _, field := range [][]byte{e.ID, e.TenantID, e.Topic, e.AggregateType, e.AggregateID, e.OccurredAt, e.SchemaID, e.SchemaVersion, e.Payload, e.Metadata, e.Status} {
			if field != nil {
				got = append(got, string(field))
			}
		}
		if line := strings.Join(got, "|"); line != want[i] {
			t.Errorf("row %d is %q, want %q", i, line, want[i])
		}
	}
	first := rows[0]
	if first.RetryCount != 3 || first.Error != "refused" || first.Status != "NEW" || !first.RetryAfter.Equal(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)) ||
		!first.CreatedAt.Equal(time.Date(2026, 11, 24, 9, 30, 0, 123456e3, time.UTC)) {
		t.Errorf("the first row is %+v", first)
	}
	if last := rows[10]; last.RetryCount != 0 || !last.RetryAfter.IsZero() || !last.CreatedAt.IsZero() || last.Event.Topic != nil {
		t.Errorf("the row of NULLs is %+v", last)
	}
}

func TestReadNamesTheMissingColumn(t *testing.T) {
	f := setupPlain(t)
	f.exec(`CREATE TABLE t (id int PRIMARY KEY, status text, tenant_id text, payload text); INSERT INTO t VALUES (1, 'NEW')`)
	for want, config := range map[string]outbox.Config{
		`no column "topic": set columns.topic`:        {},
		`no column "customer": set columns.tenant_id`: {Columns: outbox.Columns{ID: "id", Status: "status", TenantID: "customer", Topic: "status", Payload: "payload"}},
		`no column "headers": set columns.event_metadata`: {
			Columns: outbox.Columns{ID: "id", Status: "status", TenantID: "tenant_id", Topic: "status", Payload: "payload", Metadata: "headers"},
		},
	} {
		config.Table = "t"
		table := f.describe(config)
		_, _, _, err := adopt(t.Context(), table, f.conn, "", 10)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("adopt: %v, want %q", err, want)
		}
		if _, err := table.Read(t.Context(), f.conn, []string{"1"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("read: %v, want %q", err, want)
		}
	}
}

func TestAdoptableNamesTheColumnOfARowWithoutAnId(t *testing.T) {
	f := setupPlain(t)
	f.exec(`CREATE TABLE t (id text UNIQUE, status text, tenant_id text, topic text, payload text); INSERT INTO t VALUES (NULL, 'NEW'), ('a', 'NEW')`)
	_, _, err := f.describe(outbox.Config{Table: "t"}).Adoptable(t.Context(), f.conn, 0, "", 10)
	if err == nil || !strings.Contains(err.Error(), "a row that is due has no id") {
		t.Error(err)
	}
}

func TestTableWithoutASortedIndexNamesTheMend(t *testing.T) {
	f := setupPlain(t)
	f.exec(`CREATE TABLE t (id int, status text, tenant_id text, topic text, payload text); CREATE INDEX ON t USING hash (id)`)
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Keep} {
		table := f.describe(outbox.Config{Table: "t", OnSent: onSent})
		_, _, adoptErr := table.Adoptable(t.Context(), f.conn, 0, "", 10)
		_, _, _, walkErr := table.Select(t.Context(), f.conn, outbox.Filter{}, "", 10)
		for _, err := range []error{adoptErr, walkErr} {
			if want := `CREATE UNIQUE INDEX CONCURRENTLY ON "public"."t" ("id")`; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", onSent, err, want)
			}
		}
	}
}

// A snapshot tells which rows are older than it: by the transaction that wrote them.
func TestXminTellsWhatASnapshotSaw(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.row(1, "NEW")
	l.row(2, "NEW")
	l.exec(`VACUUM (FREEZE) t`)
	l.row(3, "NEW")
	open, _ := l.begin(l.connect())
	if _, err := open.Exec(t.Context(), `SAVEPOINT s; INSERT INTO t (id) VALUES (4); RELEASE s`); err != nil {
		t.Fatal(err)
	}
	l.exec(`SELECT txid_current()`) // a later transaction is over, while the one of row 4, which bears the id of its savepoint, is open
	text, err := outbox.ReadSnapshot(t.Context(), l.conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.row(5, "NEW")
	l.exec(`UPDATE t SET retry_count = 1 WHERE id = 2`)
	snapshot, err := outbox.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	rows, _ := l.adoptAll(2)
	for _, r := range rows {
		if outbox.SeenBy(&snapshot, r.Xmin) {
			seen = append(seen, string(r.Event.ID))
		}
	}
	if !slices.Equal(seen, []string{"1", "3"}) || len(rows) != 5 {
		t.Errorf("of %d rows the snapshot saw %q, want 1 and 3: 2 was changed since, 4 was open, 5 is new", len(rows), seen)
	}
}

func TestSelectFindsRowsByWhatTheyAre(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`INSERT INTO t (id, tenant_id, topic, aggregate_type, aggregate_id, status, created_at) VALUES
		(1, 'acme', 'order.created', 'order', '7', 'SENT', '2026-01-01'), (2, 'acme', 'order.paid', 'order', '7', 'NEW', '2026-01-02'),
		(3, 'beta', 'order.paid', 'order', '8', 'DEAD', '2026-01-03'), (4, 'acme', 'it''s', 'cart', '7', NULL, '2026-01-04')`)
	for want, filter := range map[string]outbox.Filter{
		"[1 2 3 4]": {},
		"[1 2 4]":   {Tenant: "acme"},
		"[4]":       {Topic: "it's"},
		"[1 2]":     {AggregateType: "order", AggregateID: "7"},
		"[2 3]":     {Statuses: []string{"NEW", "DEAD"}},
		"[2]":       {Since: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Until: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)},
		"[1 3]":     {IDs: []string{"1", "3", "99"}},
		"[3]":       {IDs: []string{"1", "3"}, Tenant: "beta"},
	} {
		var found []string
		for after, end := "", false; !end; {
			rows, last, ended, err := l.table.Select(t.Context(), l.conn, filter, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			found, after, end = append(found, idsOf(rows)...), last, ended
		}
		if slices.Sort(found); fmt.Sprint(found) != want {
			t.Errorf("%+v finds %q, want %s", filter, found, want)
		}
	}
}

func TestSelectByWhatTheTableLacksIsRefused(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id int PRIMARY KEY, tenant_id text, topic text, payload text)`)
	table := f.describe(outbox.Config{Table: "t", OnSent: outbox.Keep})
	for want, filter := range map[string]outbox.Filter{
		"no column for the aggregate id": {AggregateID: "7"},
		"database.columns.created_at":    {Since: time.Now()},
		"database.columns.status":        {Statuses: []string{"NEW"}},
	} {
		if _, _, _, err := table.Select(t.Context(), f.conn, filter, "", 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", filter, err, want)
		}
	}
}

func TestARowWithoutATenantHasTheDefaultOneHoweverItIsRead(t *testing.T) {
	l := setupLaneOf(t, "varchar(40)", outbox.Config{DefaultTenant: `a'c\me`})
	l.exec(`ALTER TABLE t ALTER tenant_id DROP NOT NULL`)
	for n, tenant := range []any{nil, "other", nil, ""} {
		l.row(n, "NEW")
		l.exec(`UPDATE t SET tenant_id = $1 WHERE id = $2`, tenant, l.id(n))
	}
	bare := l.describe(outbox.Config{Table: "t", DefaultTenant: "acme", OnSent: outbox.Delete, Columns: outbox.Columns{
		ID: "id", Status: "status", Topic: "topic", Payload: "payload",
	}})
	tenants := func(rows []outbox.Row, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, r := range rows {
			all = append(all, fmt.Sprintf("%q", r.Event.TenantID))
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	selected := func(table *outbox.Table, tenant string) string {
		rows, _, _, err := table.Select(t.Context(), l.conn, outbox.Filter{Tenant: tenant}, "", 10)
		return tenants(rows, err)
	}
	adopted, _, _, err := adopt(t.Context(), l.table, l.conn, "", 10)
	all := []string{l.id(0), l.id(1), l.id(2), l.id(3)}
	read, readErr := l.table.Read(t.Context(), l.conn, all)
	still, stillErr := l.table.StillNew(t.Context(), l.conn, l.lease, all)
	for what, c := range map[string]struct{ got, want string }{
		"adopt":                     {tenants(adopted, err), `"" "a'c\\me" "a'c\\me" "other"`},
		"read":                      {tenants(read, readErr), `"" "a'c\\me" "a'c\\me" "other"`},
		"sweep":                     {tenants(still, stillErr), `"" "a'c\\me" "a'c\\me" "other"`},
		"select the default tenant": {selected(l.table, `a'c\me`), `"a'c\\me" "a'c\\me"`},
		"select another":            {selected(l.table, "other"), `"other"`},
		"without the column":        {selected(bare, "acme"), `"acme" "acme" "acme" "acme"`},
		"none without the column":   {selected(bare, "other"), ``},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", what, c.got, c.want)
		}
	}
}

// An empty name says that there is no such column, though the table has one of the usual name.
func TestAnEmptyColumnIsNone(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	columns := outbox.DefaultColumns()
	columns.RetryCount, columns.RetryAfter, columns.ErrorMessage, columns.CreatedAt = "", "", "", ""
	l.table = l.describe(outbox.Config{Table: "t", Columns: columns})
	l.row(1, "NEW")
	l.park(1, at{destination: "d", state: "waiting", attempts: 2})
	l.mirror(outbox.Mirror{ID: "1", Status: "FAILED", RetryCount: 2, RetryAfter: due, Message: "too large"})
	if n := l.count(`SELECT count(*) FROM t WHERE status = 'FAILED' AND retry_count = 0 AND retry_after IS NULL AND error_message IS NULL`); n != 1 {
		t.Error("a column without a name was written to")
	}
	l.exec(`UPDATE t SET retry_count = 5, error_message = 'mine'`)
	rows, err := l.table.Read(t.Context(), l.conn, []string{"1"})
	if err != nil || rows[0].RetryCount != 0 || rows[0].Error != "" || !rows[0].CreatedAt.IsZero() {
		t.Errorf("a column without a name was read: %+v, %v", rows, err)
	}
}
