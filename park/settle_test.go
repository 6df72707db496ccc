package park_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/park"
)

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
	n, err := park.Found(t.Context(), conn, lease, here, []event.Ref{{ID: "id-0001"}, {ID: "id-0002", Replay: 5}, {ID: "stranger"}}, true)
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

func TestOnlyWaitingRowsAreSettledOrFail(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	for name, write := range map[string]struct {
		run  func() error
		want string
	}{
		"Fail": {func() error {
			return park.Fail(t.Context(), conn, lease, here, []park.Failure{
				{Ref: refs(0)[0], Attempts: 1, Due: time.Now().Add(time.Hour), Reason: "again"},
				{Ref: refs(1)[0], Attempts: 1, State: park.Dead},
				{Ref: refs(2)[0], Attempts: 1},
				{Ref: refs(3)[0], Attempts: 1},
				{Ref: refs(4)[0], Attempts: 1},
				{Ref: event.Ref{ID: "id-0000", Replay: 1}, Attempts: 1},
			})
		}, "0@here=waiting1 1@here=dead 2@here=done 3@here=skipped 4@there=waiting"},
		"Settle": {
			func() error { return park.Settle(t.Context(), conn, lease, here, refs(0, 1, 2, 3, 4, 5)) },
			"0@here=done 1@here=dead 2@here=done 3@here=skipped 4@there=waiting",
		},
		"Found": {
			func() error {
				_, err := park.Found(t.Context(), conn, lease, here, refs(0, 1, 2, 3, 4, 5), false)
				return err
			},
			"0@here=done 1@here=dead 2@here=done 3@here=skipped 4@there=waiting",
		},
	} {
		exec(t, conn, `TRUNCATE outboxd.parked`)
		all := rows(5, 5)
		all[1].State, all[2].State, all[3].State, all[4].Destination.Name = park.Dead, park.Done, park.Skipped, "there"
		insert(t, conn, lease, all)
		if err := write.run(); err != nil {
			t.Fatal(err)
		}
		if got := states(t, conn); got != write.want {
			t.Errorf("%s: %s, want %s", name, got, write.want)
		}
	}
}

// The attempt was under way when the person decided.
func TestRetryOutlivesAnAttemptFromBeforeIt(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	row := rows(1, 1)
	row[0].Attempts = 4
	insert(t, conn, lease, row)
	if n, err := park.Retry(t.Context(), conn, "outboxd", "a", park.Filter{}, ""); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := park.Fail(t.Context(), conn, lease, here, []park.Failure{{Ref: refs(0)[0], Attempts: 5, State: park.Dead}}); err != nil {
		t.Fatal(err)
	}
	if got := states(t, conn); got != "0@here=waiting" {
		t.Errorf("%s, want it waiting as the person has left it", got)
	}
}

func TestFoundClearsTheDoubtOfItsDestinationAlone(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	all := rows(5, 1)
	for i := range all {
		all[i].LandedAfter = event.Position{Epoch: 7, Commit: event.LSN(50 + i)}
	}
	all[1].State, all[2].Destination.Name = park.Dead, "there"
	insert(t, conn, lease, all)
	if n, err := park.Found(t.Context(), conn, lease, here, refs(3), true); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := doubts(t, conn); got != "there>0/34" {
		t.Errorf("may have landed: %s", got)
	}
	if n, err := park.Found(t.Context(), conn, lease, park.Destination{Sink: "redis", Name: "there"}, nil, true); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if got := doubts(t, conn); got != "" {
		t.Errorf("may have landed: %s", got)
	}
}

func TestATailThatWasNotReadBackClearsNoDoubt(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	doubtful := rows(2, 1)
	doubtful[0].LandedAfter, doubtful[1].LandedAfter = event.Position{Epoch: 7, Commit: 50}, event.Position{Epoch: 7, Commit: 51}
	insert(t, conn, lease, doubtful)
	if n, err := park.Found(t.Context(), conn, lease, here, refs(0), false); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := doubts(t, conn); got != "here>0/33" {
		t.Errorf("may have landed: %q, want the second", got)
	}
}

// What is read later, when little waits, does not bring back doubt about what was dead meanwhile.
func TestWhereTheTailWasReadToDoesNotFall(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	doubtful := rows(2, 1)
	for i := range doubtful {
		doubtful[i].LandedAfter = event.Position{Epoch: 7, Commit: event.LSN(50 + i)}
	}
	insert(t, conn, lease, doubtful)
	for range 2 {
		if _, err := park.Found(t.Context(), conn, lease, here, nil, true); err != nil {
			t.Fatal(err)
		}
		exec(t, conn, `UPDATE outboxd.parked SET state = 'dead' WHERE id = 'id-0001'`)
	}
	exec(t, conn, `UPDATE outboxd.parked SET state = 'waiting'`)
	if got := doubts(t, conn); got != "" {
		t.Errorf("may have landed: %q, want nothing", got)
	}
}

// The tail tells of what waited when it was read, and of nothing that is parked in doubt later.
func TestWhatIsParkedAfterTheTailWasReadIsInDoubtAnew(t *testing.T) {
	for _, history := range []struct {
		name   string
		parked int // its number
		doubt  bool
		want   string
	}{
		{"behind what waited", 9, true, "here>0/63"},
		{"before what waited: which of them the tail spoke of is not known any more", 2, true, "here>0/32"},
		{"before what waited, without doubt", 2, false, ""},
	} {
		_, conn := migrated(t)
		lease := raise(t, conn, "a")
		all := rows(10, 1)
		for i := range all {
			all[i].LandedAfter = event.Position{Epoch: 7, Commit: event.LSN(50 + i)}
		}
		insert(t, conn, lease, all[4:6])
		if _, err := park.Found(t.Context(), conn, lease, here, nil, true); err != nil {
			t.Fatal(err)
		}
		later := all[history.parked]
		later.LandedAfter = event.Position{}
		if history.doubt {
			later.LandedAfter = event.Position{Epoch: 7, Commit: 99}
		}
		if history.parked < 4 {
			later.LandedAfter.Commit = min(later.LandedAfter.Commit, 50)
		}
		insert(t, conn, lease, []park.Row{later})
		if got := doubts(t, conn); got != history.want {
			t.Errorf("%s: may have landed: %q, want %q", history.name, got, history.want)
		}
	}
}

// doubts lists the destinations at which parked events may have landed, and behind which position.
func doubts(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	all, err := park.Summaries(t.Context(), conn, "outboxd", "a")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, s := range all {
		if s.MayHaveLanded {
			list = append(list, s.Destination.Name+">"+s.LandedAfter.Commit.String())
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// What is settled, failed or parked is on the disk when the call returns, whatever the database's default is.
func TestWritesAreDurableOnADatabaseThatIsNot(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	exec(t, conn, `SET synchronous_commit = off`)
	exec(t, conn, `CREATE FUNCTION sync() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO syncs VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$`)
	exec(t, conn, `CREATE TABLE syncs (setting text)`)
	exec(t, conn, `CREATE CONSTRAINT TRIGGER sync AFTER INSERT OR UPDATE ON outboxd.parked DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sync()`)
	insert(t, conn, lease, rows(3, 3))
	if err := park.Fail(t.Context(), conn, lease, here, []park.Failure{{Ref: refs(0)[0], Attempts: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := park.Settle(t.Context(), conn, lease, here, refs(1)); err != nil {
		t.Fatal(err)
	}
	if n, err := park.Found(t.Context(), conn, lease, here, refs(2), true); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	var total, on int
	if err := conn.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE setting = 'on') FROM syncs`).Scan(&total, &on); err != nil {
		t.Fatal(err)
	}
	if total != 6 || on != 6 {
		t.Errorf("%d of %d rows were committed with synchronous_commit on, want all 6", on, total)
	}
}

// While rows are moved, people go on: what they have retried or skipped since it was loaded stays.
func TestMoveLeavesWhatAPersonHasChangedMeanwhile(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	all := rows(5, 1)
	all[2].State, all[2].Blocks = park.Dead, true
	all[3].State, all[3].Blocks = park.Dead, true
	insert(t, conn, lease, all)
	there := all[0].Destination
	there.Name = "there"
	two := all[4] // to two destinations
	for i := range all {
		all[i].Destination = there
	}
	two.Destination.Name = "elsewhere"
	exec(t, conn, `UPDATE outboxd.parked SET state = 'skipped' WHERE id = 'id-0001'`)
	exec(t, conn, `UPDATE outboxd.parked SET state = 'waiting', blocks = false WHERE id = 'id-0003'`)
	if err := park.Move(t.Context(), conn, lease, here, append(all, two)); err != nil {
		t.Fatal(err)
	}
	const want = "0@HERE=done 0@there=waiting 1@HERE=skipped 2@HERE=done 2@there=dead! 3@HERE=waiting 4@elsewhere=waiting 4@HERE=done 4@there=waiting"
	if got := strings.ReplaceAll(states(t, conn), "@"+here.Name+"=", "@HERE="); got != want {
		t.Errorf("behind it there are\n%s\nwant\n%s", got, want)
	}
	if err := park.Move(t.Context(), conn, lease, here, all); err != nil {
		t.Errorf("once more: %v", err)
	}
}
