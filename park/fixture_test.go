package park_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
)

var here = park.Destination{Sink: "redis", Name: "here"}

// rowAt is the parked row of the i-th event, of one of so many keys.
func rowAt(i, keys int) park.Row {
	e := event.Event{
		Position: event.Position{Epoch: 7, Commit: event.LSN(1<<33 + 100*i), Ordinal: uint32(i)},
		ID:       fmt.Appendf(nil, "id-%04d", i), TenantID: []byte("acme"), Topic: []byte("orders"), AggregateType: []byte("order"),
		AggregateID: fmt.Append(nil, i%keys), OccurredAt: []byte("2026-11-24 09:30:00+00"), Payload: []byte(`{"text": "a \"quoted\" one, {with} braces"}`),
		Metadata: []byte("{}"),
	}
	row := park.Row{Event: e, Destination: here, Target: "here", Reason: "because"}
	row.Key, _ = park.KeyOf(&e, 0, nil)
	return row
}

func rows(n, keys int) []park.Row {
	all := make([]park.Row, n)
	for i := range all {
		all[i] = rowAt(i, keys)
	}
	return all
}

func insert(t *testing.T, conn *pgx.Conn, held lease.Lease, rows []park.Row) int {
	t.Helper()
	n, err := park.Insert(t.Context(), conn, held, rows)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func ids(rows []park.Row) string {
	var all []string
	for _, r := range rows {
		all = append(all, strings.TrimLeft(strings.TrimPrefix(string(r.Event.ID), "id-"), "0"))
	}
	return strings.Join(all, " ")
}

func after(t *testing.T, conn *pgx.Conn, cursor park.Cursor, limit int, bytes int64) ([]park.Row, bool) {
	t.Helper()
	got, end, err := park.LoadAfter(t.Context(), conn, "outboxd", "a", here, cursor, limit, bytes)
	if err != nil {
		t.Fatal(err)
	}
	return got, end
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%v in %s", err, sql)
	}
}

// states lists the rows as "id=state ...".
func states(t *testing.T, conn *pgx.Conn) (list string) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `SELECT coalesce(string_agg(line, ' ' ORDER BY line), '') FROM (SELECT substr(id, 4)::int || '@' || destination
		|| '=' || state || CASE WHEN blocks THEN '!' ELSE '' END
		|| CASE WHEN attempts > 0 THEN attempts::text ELSE '' END AS line FROM outboxd.parked) l`).Scan(&list)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func refs(numbers ...int) []event.Ref {
	list := make([]event.Ref, len(numbers))
	for i, n := range numbers {
		list[i] = event.Ref{ID: fmt.Sprintf("id-%04d", n)}
	}
	return list
}
