package park_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/park"
)

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

// Replays of one event share its position: they are told apart, and stay in order.
func TestReplaysOfOneEventAreLoadedInOrder(t *testing.T) {
	_, conn := migrated(t)
	var all []park.Row
	for _, replay := range []int{7, 300, 4, 1} {
		row := rowAt(1, 1)
		row.Replay = replay
		all = append(all, row)
	}
	insert(t, conn, raise(t, conn, "a"), all)
	var order []int
	for cursor, end := (park.Cursor{}), false; !end; {
		var got []park.Row
		if got, end = after(t, conn, cursor, 1, 1<<20); len(got) > 0 {
			order, cursor = append(order, got[0].Replay), got[0].Cursor()
		}
	}
	if fmt.Sprint(order) != "[1 4 7 300]" {
		t.Errorf("loaded in the order %v", order)
	}
}

func TestOnlyWaitingRowsOfTheDestinationAreLoaded(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	all := rows(6, 6)
	all[1].State, all[2].State, all[3].State = park.Dead, park.Done, park.Skipped
	all[4].Destination.Name = "there"
	all[5].Due = time.Now().Add(time.Hour)
	insert(t, conn, lease, all)
	insert(t, conn, raise(t, conn, "b"), rows(6, 6))
	if got, end := after(t, conn, park.Cursor{}, 10, 1<<20); ids(got) != " 5" || !end {
		t.Errorf("loaded %q, end %v; want 0 and 5, due or not", ids(got), end)
	}
}

func TestEndIsTrueOnlyWhenNothingWaitsBehind(t *testing.T) {
	_, conn := migrated(t)
	insert(t, conn, raise(t, conn, "a"), rows(3, 3))
	size := int64(rowSize())
	for _, c := range []struct {
		limit int
		bytes int64
		want  string
	}{
		{4, 1 << 20, " 1 2 true"}, {2, 1 << 20, " 1 false"}, {9, 3 * size, " 1 2 true"}, {9, 3*size - 1, " 1 false"}, {9, 2 * size, " 1 false"}, {9, 0, " false"},
	} {
		got, end := after(t, conn, park.Cursor{}, c.limit, c.bytes)
		if text := fmt.Sprint(ids(got), " ", end); text != c.want {
			t.Errorf("at most %d rows and %d bytes: %q, want %q", c.limit, c.bytes, text, c.want)
		}
	}
	last := rowAt(2, 3)
	if got, end := after(t, conn, last.Cursor(), 10, 1<<20); len(got) != 0 || !end {
		t.Errorf("behind the last: %q, end %v", ids(got), end)
	}
}

func rowSize() int {
	row := rowAt(0, 3)
	return row.Event.Size()
}

func TestPositionsOfAnySizeComeBack(t *testing.T) {
	_, conn := migrated(t)
	row := rowAt(0, 1)
	row.Event.Position = event.Position{Epoch: math.MaxUint32, Commit: math.MaxUint64, Ordinal: math.MaxUint32}
	row.LandedAfter, row.Key = row.Event.Position, math.MaxUint64
	insert(t, conn, raise(t, conn, "a"), []park.Row{row})
	got, _ := after(t, conn, park.Cursor{}, 1, 1)
	if got[0].Event.Position != row.Event.Position || got[0].LandedAfter != row.LandedAfter || got[0].Key != row.Key {
		t.Errorf("came back as %+v", got[0])
	}
	if s := summary(t, conn); s.Highest != row.Event.Position || s.LandedAfter != row.LandedAfter {
		t.Errorf("the summary is %+v", s)
	}
}

func TestEventsAboveAPositionAreNamedOnce(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	all := rows(6, 6)
	all[2].State = park.Dead
	twice, replay := all[3], all[4]
	twice.Destination.Name, replay.Replay = "there", 1
	later := all[5]
	later.Event.ID, later.Event.Position.Epoch = []byte("of a later epoch"), 8
	insert(t, conn, lease, append(all, twice, replay, later))
	got, err := park.Above(t.Context(), conn, "outboxd", "a", all[0].Cursor(), 8, 3)
	if err != nil || ids(got) != "1 2 3" {
		t.Errorf("%q, %v", ids(got), err)
	}
	got, err = park.Above(t.Context(), conn, "outboxd", "a", got[2].Cursor(), 8, 3)
	if err != nil || ids(got) != "4 5" {
		t.Errorf("then %q, %v", ids(got), err)
	}
}

func TestCountAndSummariesTellWhatIsParked(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	if c, err := park.Count(t.Context(), conn, "outboxd", "a"); err != nil || c != (park.Totals{}) {
		t.Errorf("of nothing: %+v, %v", c, err)
	}
	all := rows(6, 6)
	all[1].State, all[2].State, all[3].State = park.Dead, park.Done, park.Skipped
	for i := range all[4:] {
		all[4+i].Destination.Name, all[4+i].Target = "there-1", "there"
	}
	all[5].Replay = 9
	insert(t, conn, lease, all)
	exec(t, conn, `UPDATE outboxd.parked SET parked_at = '2026-01-01' WHERE id = 'id-0004'`)
	c, err := park.Count(t.Context(), conn, "outboxd", "a")
	if err != nil || c.Waiting != 3 || c.Dead != 1 || !c.Oldest.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v, %v", c, err)
	}
	summaries, err := park.Summaries(t.Context(), conn, "outboxd", "a")
	if err != nil || len(summaries) != 2 {
		t.Fatalf("%+v, %v", summaries, err)
	}
	for _, s := range summaries {
		want := park.Summary{Destination: here, Target: "here", Highest: all[3].Event.Position, Waiting: 1, Dead: 1}
		if s.Destination.Name != "here" {
			want = park.Summary{Destination: all[4].Destination, Target: "there", Highest: all[4].Event.Position, Waiting: 2}
		}
		if s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	}
}
