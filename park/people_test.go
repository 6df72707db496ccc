package park_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/park"
)

// assorted parks rows in each state, at two destinations.
func assorted(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	all := rows(6, 6)
	all[1].State, all[1].Blocks, all[1].Attempts, all[1].Reason = park.Dead, true, 5, "Message Too Big"
	all[2].State, all[3].State = park.Done, park.Skipped
	all[4].Due, all[4].Attempts = time.Now().Add(time.Hour), 3
	twin := all[4]
	twin.Destination.Name, twin.State = "there", park.Dead
	insert(t, conn, raise(t, conn, "a"), append(all, twin))
}

func TestRetryMakesWhatWaitsOrIsDeadDueAtOnce(t *testing.T) {
	url, conn := migrated(t)
	assorted(t, conn)
	heard := listen(t, url)
	n, err := park.Retry(t.Context(), conn, "outboxd", "a", park.Filter{IDs: []string{"id-0001", "id-0002", "id-0003", "id-0004"}}, "the broker has more room")
	if n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if got := states(t, conn); got != "0@here=waiting 1@here=waiting 2@here=done 3@here=skipped 4@here=waiting 4@there=waiting 5@here=waiting" {
		t.Error(got)
	}
	got, _ := after(t, conn, park.Cursor{}, 10, 1<<20)
	for _, r := range got {
		if r.Due.After(time.Now()) {
			t.Errorf("%s is due at %s", r.Event.ID, r.Due)
		}
	}
	heard("retry")
	lines, err := park.Audit(t.Context(), conn, "outboxd", "a", "id-0004")
	if err != nil || len(lines) != 2 {
		t.Fatal(len(lines), err)
	}
	for i, at := range []string{"here", "there"} {
		l := lines[i]
		if l.Action != "retry" || l.Destination.Name != at || l.Note != "the broker has more room" || l.Role == "" || l.At.IsZero() {
			t.Errorf("the audit says %+v", l)
		}
	}
}

func TestSkipDecidesThatNothingIsDelivered(t *testing.T) {
	url, conn := migrated(t)
	assorted(t, conn)
	heard := listen(t, url)
	if n, err := park.Skip(t.Context(), conn, "outboxd", "a", park.Filter{States: []park.State{park.Dead}}, ""); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if got := states(t, conn); got != "0@here=waiting 1@here=skipped5 2@here=done 3@here=skipped 4@here=waiting3 4@there=skipped3 5@here=waiting" {
		t.Error(got)
	}
	heard("skip")
	if lines, err := park.Audit(t.Context(), conn, "outboxd", "a", "id-0001"); err != nil || len(lines) != 1 || lines[0].Action != "skip" {
		t.Errorf("the audit says %+v, %v", lines, err)
	}
}

// listen returns a wait for what a command notifies of.
func listen(t *testing.T, url string) (heard func(want string)) {
	t.Helper()
	conn := connect(t, url)
	exec(t, conn, `LISTEN `+pgx.Identifier{park.Channel("a")}.Sanitize())
	return func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		n, err := conn.WaitForNotification(ctx)
		if err != nil || n.Payload != want {
			t.Errorf("heard %+v, %v; want %q", n, err, want)
		}
	}
}

func TestFilterMatchesWhatItNames(t *testing.T) {
	_, conn := migrated(t)
	assorted(t, conn)
	other := rowAt(7, 9)
	other.Event.TenantID, other.Event.Topic, other.Event.AggregateType = []byte("beta"), []byte("it's"), []byte("cart")
	other.Destination.Sink = "pulsar"
	insert(t, conn, raise(t, conn, "a"), []park.Row{other})
	exec(t, conn, `UPDATE outboxd.parked SET parked_at = '2026-01-02' WHERE id = 'id-0003'`)
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for want, f := range map[string]park.Filter{
		" 1 2 3 4 4 5 7": {},
		"2 7":            {IDs: []string{"id-0002", "id-0007", "nobody"}},
		"1 2 4":          {States: []park.State{park.Dead, park.Done}},
		"7":              {Tenant: "beta", Topic: "it's", AggregateType: "cart", AggregateID: "7"},
		"":               {Tenant: "beta", Topic: "orders"},
		"1":              {Reason: "too big"},
		"4":              {Destination: "there"},
		" 1 2 3 4 4 5":   {Sink: "redis"},
		"3":              {Before: day.Add(time.Hour), Since: day},
		"4 4":            {AggregateID: "4"},
	} {
		got, err := park.List(t.Context(), conn, "outboxd", "a", f, park.Cursor{}, 100)
		if err != nil || ids(got) != want {
			t.Errorf("%+v lists %q, %v; want %q", f, ids(got), err, want)
		}
		if n, err := park.Matching(t.Context(), conn, "outboxd", "a", f); n != len(got) || err != nil {
			t.Errorf("%+v matches %d, %v; listed are %d", f, n, err, len(got))
		}
	}
}

func TestListGoesOnBehindItsCursor(t *testing.T) {
	_, conn := migrated(t)
	assorted(t, conn)
	var pages []string
	for cursor := (park.Cursor{}); ; {
		got, err := park.List(t.Context(), conn, "outboxd", "a", park.Filter{}, cursor, 5)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			break
		}
		for _, r := range got {
			if r.Event.Payload != nil || r.Event.TenantID == nil {
				t.Errorf("without the payload, %s is %+v", r.Event.ID, r.Event)
			}
		}
		last := &got[len(got)-1]
		pages, cursor = append(pages, ids(got)+"@"+last.Destination.Name), last.Cursor()
	}
	if got := strings.Join(pages, "|"); got != " 1 2 3 4@here|4 5@here" {
		t.Errorf("pages %q", got)
	}
}

func TestReplaysAreParkedBesideWhatIsThere(t *testing.T) {
	url, conn := migrated(t)
	replay := rowAt(2, 6)
	replay.Replay = 5
	replay.Event.Position.Epoch = 0
	if _, err := park.InsertReplays(t.Context(), conn, "outboxd", "a", []park.Row{replay}, ""); err == nil || !strings.Contains(err.Error(), "has not run") {
		t.Errorf("without a lease: %v", err)
	}
	assorted(t, conn)
	heard := listen(t, url)
	if n, err := park.InsertReplays(t.Context(), conn, "outboxd", "a", []park.Row{replay}, "asked for by acme"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	heard("replay")
	if got, _ := after(t, conn, park.Cursor{}, 1, 1); ids(got) != "2" || got[0].Replay != 5 {
		t.Errorf("first comes %q, replay %d", ids(got), got[0].Replay)
	}
	lines, err := park.Audit(t.Context(), conn, "outboxd", "a", "id-0002")
	if err != nil || len(lines) != 1 || fmt.Sprint(lines[0].Action, ", ", lines[0].Note) != "replay, asked for by acme" {
		t.Errorf("the audit says %+v, %v", lines, err)
	}
}

// A session that begins waits for a command that has begun, so that it reads all of what that changed.
func TestRaiseWaitsForACommand(t *testing.T) {
	url, conn := migrated(t)
	assorted(t, conn)
	exec(t, conn, `BEGIN`)
	if n, err := park.Retry(t.Context(), conn, "outboxd", "a", park.Filter{}, ""); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	successor, watcher := connect(t, url), connect(t, url)
	raised := make(chan error, 1)
	go func() {
		_, err := park.Raise(t.Context(), successor, "outboxd", "a", "successor")
		raised <- err
	}()
	waitUntilBlocked(t, watcher, successor.PgConn().PID())
	exec(t, conn, `COMMIT`)
	if err := <-raised; err != nil {
		t.Fatal(err)
	}
}
