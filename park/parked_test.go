package park_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
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

func insert(t *testing.T, conn *pgx.Conn, lease event.Lease, rows []park.Row) int {
	t.Helper()
	n, err := park.Insert(t.Context(), conn, lease, rows)
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

func TestParkedRowsComeBackAsTheyWere(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	row := rowAt(3, 2)
	row.Attempts, row.Due, row.LandedAfter = 2, time.Now().Add(time.Hour).Truncate(time.Microsecond), event.Position{Epoch: 6, Commit: 1 << 40, Ordinal: 5}
	row.Committed, row.Replay = time.Now().Truncate(time.Microsecond), 4
	insert(t, conn, lease, []park.Row{row})
	got, end := after(t, conn, park.Cursor{}, 10, 1<<20)
	if len(got) != 1 || !end {
		t.Fatalf("%d rows, end %v; want one at the end", len(got), end)
	}
	g := got[0]
	if !g.Due.Equal(row.Due) || !g.Committed.Equal(row.Committed) || g.ParkedAt.IsZero() {
		t.Errorf("times came back as %s, %s, %s", g.Due, g.Committed, g.ParkedAt)
	}
	g.Due, g.Committed, g.ParkedAt = row.Due, row.Committed, time.Time{}
	row.State = park.Waiting
	if want := fmt.Sprintf("%+v", row); fmt.Sprintf("%+v", g) != want {
		t.Errorf("got  %+v\nwant %s", g, want)
	}
}

func TestParkingIsIdempotent(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	if n := insert(t, conn, lease, rows(5, 2)); n != 5 {
		t.Errorf("%d rows are new, want 5", n)
	}
	again := rows(7, 2)
	again[0].Reason = "another"
	if n := insert(t, conn, lease, again); n != 2 {
		t.Errorf("%d rows are new, want 2", n)
	}
	got, _ := after(t, conn, park.Cursor{}, 1, 1)
	if got[0].Reason != "because" {
		t.Errorf("the row that was there has the reason %q now", got[0].Reason)
	}
}

func TestMissingRowsAreThoseWithoutOneForTheTarget(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	partition := rowAt(0, 1)
	partition.Destination.Name = "here-partition-1"
	insert(t, conn, lease, []park.Row{partition})
	n, err := park.InsertMissing(t.Context(), conn, lease, rows(2, 1))
	if err != nil || n != 1 {
		t.Errorf("%d rows are new (%v), want 1", n, err)
	}
}

func TestLostTermChangesNothing(t *testing.T) {
	_, conn := migrated(t)
	old := raise(t, conn, "a")
	insert(t, conn, old, rows(2, 2))
	raise(t, conn, "a")
	refs := []event.Ref{{ID: "id-0000"}}
	for name, write := range map[string]func() error{
		"Insert": func() error { _, err := park.Insert(t.Context(), conn, old, rows(5, 2)); return err },
		"InsertMissing": func() error {
			_, err := park.InsertMissing(t.Context(), conn, old, rows(5, 2))
			return err
		},
		"Fail": func() error {
			return park.Fail(t.Context(), conn, old, here, []park.Failure{{Ref: refs[0], Attempts: 9, State: park.Dead}})
		},
		"Settle": func() error { return park.Settle(t.Context(), conn, old, here, refs) },
		"Found":  func() error { _, err := park.Found(t.Context(), conn, old, here, refs); return err },
	} {
		if err := write(); !errors.Is(err, event.ErrTermLost) {
			t.Errorf("%s: %v, want ErrTermLost", name, err)
		}
	}
	got, _ := after(t, conn, park.Cursor{}, 10, 1<<20)
	if ids(got) != " 1" || got[0].Attempts != 0 {
		t.Errorf("rows %q wait, want the two of before", ids(got))
	}
}

func TestScanGoesOnBehindTheCursorWithinCountAndBytes(t *testing.T) {
	_, conn := migrated(t)
	insert(t, conn, raise(t, conn, "a"), rows(10, 3))
	var all []string
	var cursor park.Cursor
	for end := false; !end; {
		var got []park.Row
		got, end = after(t, conn, cursor, 3, 1<<20)
		all = append(all, ids(got))
		if len(got) > 0 {
			last := got[len(got)-1]
			cursor = park.Cursor{Position: last.Event.Position, ID: string(last.Event.ID)}
		}
	}
	if got := strings.Join(all, "|"); got != " 1 2|3 4 5|6 7 8|9" {
		t.Errorf("loaded %q", got)
	}
	one, end := after(t, conn, park.Cursor{}, 10, 1)
	if len(one) != 1 || end {
		t.Errorf("%d rows, end %v within one byte; want the first alone", len(one), end)
	}
}

func keysOf(n int) []uint64 {
	all := make([]uint64, n)
	for i := range all {
		all[i] = rowAt(i, n).Key
	}
	return all
}

func TestKeysLoadTheirFirstRows(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	insert(t, conn, lease, rows(7, 3)) // keys 0: 0 3 6, 1: 1 4, 2: 2 5
	keys := keysOf(3)
	got, exhausted, err := park.LoadKeys(t.Context(), conn, "outboxd", "a", here, []uint64{keys[1], keys[0]}, 3, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if ids(got) != "1 4  3 6" || fmt.Sprint(exhausted) != fmt.Sprint([]uint64{keys[1]}) {
		t.Errorf("loaded %q, exhausted %v of %v", ids(got), exhausted, keys)
	}
	none, exhausted, err := park.LoadKeys(t.Context(), conn, "outboxd", "a", here, []uint64{42}, 3, 1<<20)
	if err != nil || len(none) != 0 || len(exhausted) != 1 {
		t.Errorf("a key without rows: %d rows, exhausted %v, %v", len(none), exhausted, err)
	}
}

func TestDeadRowThatBlocksHoldsItsKeyBack(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	insert(t, conn, lease, rows(6, 3))
	err := park.Fail(t.Context(), conn, lease, here, []park.Failure{{Ref: event.Ref{ID: "id-0001"}, Attempts: 3, State: park.Dead, Blocks: true, Reason: "no"}})
	if err != nil {
		t.Fatal(err)
	}
	keys := keysOf(3)
	got, exhausted, err := park.LoadKeys(t.Context(), conn, "outboxd", "a", here, keys, 9, 1<<20)
	if err != nil || ids(got) != " 3 2 5" || len(exhausted) != 2 {
		t.Errorf("loaded %q, exhausted %v, %v", ids(got), exhausted, err)
	}
	blocked := 0
	err = park.Keys(t.Context(), conn, "outboxd", "a", 10, func(k park.WaitingKey) {
		if k.Blocked && k.Key == keys[1] {
			blocked++
		}
	})
	if err != nil || blocked != 1 {
		t.Errorf("%d keys are blocked, want the second one (%v)", blocked, err)
	}
	if err := park.Keys(t.Context(), conn, "outboxd", "a", 2, func(park.WaitingKey) {}); !errors.Is(err, park.ErrTooMany) {
		t.Errorf("three keys with a limit of two: %v", err)
	}
}

func TestFoundSettlesWhatLandedAndClearsTheDoubtOfTheRest(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	doubtful := rows(3, 1)
	for i := range doubtful {
		doubtful[i].LandedAfter = event.Position{Epoch: 7, Commit: event.LSN(50 + i)}
	}
	insert(t, conn, lease, doubtful)
	before := summary(t, conn)
	if !before.MayHaveLanded || before.LandedAfter.Commit != 50 || before.Waiting != 3 || before.Highest != doubtful[2].Event.Position {
		t.Errorf("the summary is %+v", before)
	}
	n, err := park.Found(t.Context(), conn, lease, here, []event.Ref{{ID: "id-0001"}, {ID: "id-0002", Replay: 5}, {ID: "stranger"}})
	if err != nil || n != 1 {
		t.Fatalf("%d found, %v; want 1", n, err)
	}
	if s := summary(t, conn); s.MayHaveLanded || s.Waiting != 2 || s.Highest != before.Highest {
		t.Errorf("the summary is %+v", s)
	}
}

func summary(t *testing.T, conn *pgx.Conn) park.Summary {
	t.Helper()
	all, err := park.Summaries(t.Context(), conn, "outboxd", "a")
	if err != nil || len(all) != 1 {
		t.Fatalf("%d summaries, %v", len(all), err)
	}
	return all[0]
}

func TestSecondGetsTheLockWhenTheFirstConnectionEnds(t *testing.T) {
	url, first := migrated(t)
	if ok, err := park.TryLock(t.Context(), first, "outboxd", "a"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	second := connect(t, url)
	if ok, err := park.TryLock(t.Context(), second, "outboxd", "a"); ok || err != nil {
		t.Fatalf("the second has it too (%v)", err)
	}
	got := make(chan error, 1)
	go func() { got <- park.Lock(t.Context(), second, "outboxd", "a") }()
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func BenchmarkInsertAndScan(b *testing.B) {
	_, conn := migrated(b)
	lease := raise(b, conn, "a")
	const batch = 2000
	for b.Loop() {
		b.StopTimer()
		if _, err := conn.Exec(b.Context(), `TRUNCATE outboxd.parked`); err != nil {
			b.Fatal(err)
		}
		many := rows(20*batch, 1000)
		for i := range many {
			many[i].Event.Payload = []byte(`{"x": "` + strings.Repeat("y", 480) + `"}`)
		}
		b.StartTimer()
		started := time.Now()
		for i := range 20 {
			if _, err := park.Insert(b.Context(), conn, lease, many[i*batch:(i+1)*batch]); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(20*batch/time.Since(started).Seconds(), "inserts/s")
		started = time.Now()
		var cursor park.Cursor
		n := 0
		for end := false; !end; {
			var got []park.Row
			var err error
			if got, end, err = park.LoadAfter(b.Context(), conn, "outboxd", "a", here, cursor, 500, 1<<20); err != nil {
				b.Fatal(err)
			}
			n += len(got)
			if len(got) > 0 {
				last := got[len(got)-1]
				cursor = park.Cursor{Position: last.Event.Position, ID: string(last.Event.ID)}
			}
		}
		if n != 20*batch {
			b.Fatal(n)
		}
		b.ReportMetric(20*batch/time.Since(started).Seconds(), "scanned/s")
	}
}
