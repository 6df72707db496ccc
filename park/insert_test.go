package park_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
)

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
			return park.Fail(t.Context(), conn, old, here, []park.Failure{{Ref: refs[0], Attempts: 1, State: park.Dead}})
		},
		"Settle": func() error { return park.Settle(t.Context(), conn, old, here, refs) },
		"Found":  func() error { _, err := park.Found(t.Context(), conn, old, here, refs, true); return err },
	} {
		if err := write(); !errors.Is(err, lease.ErrTermLost) {
			t.Errorf("%s: %v, want ErrTermLost", name, err)
		}
	}
	got, _ := after(t, conn, park.Cursor{}, 10, 1<<20)
	if ids(got) != " 1" || got[0].Attempts != 0 {
		t.Errorf("rows %q wait, want the two of before", ids(got))
	}
}

// An event may be without a destination because a column that needs a value has none.
func TestEventWithoutADestinationIsParked(t *testing.T) {
	_, conn := migrated(t)
	row := park.Row{Event: event.Event{ID: []byte("id-0001"), Payload: []byte("{}")}, State: park.Dead, Reason: "no tenant"}
	insert(t, conn, raise(t, conn, "a"), []park.Row{row})
	got, err := park.List(t.Context(), conn, "outboxd", "a", park.Filter{WithPayload: true}, park.Cursor{}, 10)
	if err != nil || len(got) != 1 {
		t.Fatal(len(got), err)
	}
	if g := got[0]; g.Event.TenantID != nil || g.Event.Topic != nil || g.Event.Metadata != nil || string(g.Event.Payload) != "{}" || g.Destination != (park.Destination{}) {
		t.Errorf("it came back as %+v", g)
	}
}

func TestReasonIsCutAndCleaned(t *testing.T) {
	_, conn := migrated(t)
	row := rowAt(0, 1)
	row.Reason = "\x00bad \xff" + strings.Repeat("é", 600)
	insert(t, conn, raise(t, conn, "a"), []park.Row{row})
	got, _ := after(t, conn, park.Cursor{}, 1, 1)
	if want := "bad \ufffd" + strings.Repeat("é", 495); got[0].Reason != want {
		t.Errorf("the reason is %q (%d characters)", got[0].Reason, len([]rune(got[0].Reason)))
	}
}

func TestOneStatementMayNameARowTwice(t *testing.T) {
	_, conn := migrated(t)
	all := append(rows(2, 2), rows(3, 2)...)
	if n := insert(t, conn, raise(t, conn, "a"), all); n != 3 {
		t.Errorf("%d rows are new, want 3", n)
	}
}

func TestReplayNumbersRise(t *testing.T) {
	_, conn := migrated(t)
	first, err := park.NextReplays(t.Context(), conn, "outboxd", 3)
	if err != nil || first < 1 {
		t.Fatalf("%d, %v", first, err)
	}
	if next, err := park.NextReplays(t.Context(), conn, "outboxd", 3); next != first+3 || err != nil {
		t.Errorf("%d, %v; want %d", next, err, first+3)
	}
}

func TestParkingWithoutTablesNamesTheMend(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	held := lease.Lease{Schema: "outboxd", Slot: "a", Term: 1}
	if _, err := park.Insert(t.Context(), conn, held, rows(1, 1)); !errors.Is(err, lease.ErrNotMigrated) {
		t.Errorf("Insert: %v, want ErrNotMigrated", err)
	}
	if _, _, err := park.LoadAfter(t.Context(), conn, "outboxd", "a", here, park.Cursor{}, 1, 1); !errors.Is(err, lease.ErrNotMigrated) {
		t.Errorf("LoadAfter: %v, want ErrNotMigrated", err)
	}
}

func TestWhatIsDueAtOnceIsSoByOutboxdsClock(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	if _, err := conn.Exec(t.Context(), `CREATE SCHEMA ahead;
		CREATE FUNCTION ahead.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.now() + interval ''1 hour''';
		SET search_path = ahead, pg_catalog`); err != nil {
		t.Fatal(err)
	}
	dueNow := func() {
		t.Helper()
		if got, _ := after(t, conn, park.Cursor{}, 10, 1<<20); len(got) != 1 || got[0].Due.After(time.Now()) {
			t.Errorf("%d rows, the first one is due at %s", len(got), got[0].Due)
		}
	}
	row := rowAt(3, 2)
	insert(t, conn, lease, []park.Row{row})
	dueNow()
	if err := park.Fail(t.Context(), conn, lease, row.Destination, []park.Failure{{Ref: row.Ref(), Attempts: 1}}); err != nil {
		t.Fatal(err)
	}
	dueNow()
}
