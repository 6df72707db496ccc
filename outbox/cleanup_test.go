package outbox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/outbox"
)

const day = 24 * time.Hour

// old puts a row into the outbox that is so many days old.
func (l *lane) old(n int, status string, days int) {
	l.Helper()
	l.exec(`INSERT INTO t (id, status, created_at) VALUES ($1::text::`+l.kind+`, nullif($2, ''), now() - make_interval(days => $3))`, l.id(n), status, days)
}

// cleanUp walks through the table in chunks.
func (l *lane) cleanUp(r outbox.Retention, look int) (deleted, chunks int) {
	l.Helper()
	r.Schema = "outboxd"
	for after, end := "", false; !end; chunks++ {
		var n int
		var err error
		if n, after, end, err = l.table.Cleanup(l.Context(), l.conn, r, after, look); err != nil {
			l.Fatal(err)
		}
		if n > look {
			l.Fatalf("a chunk of %d deleted %d", look, n)
		}
		deleted += n
	}
	return deleted, chunks
}

func TestCleanupDeletesWhatIsOldEnough(t *testing.T) {
	for _, kind := range idKinds {
		l := setupLaneOf(t, kind, outbox.Config{})
		for n, row := range []struct {
			status string
			days   int
		}{
			{"SENT", 8}, {"SENT", 6}, {"PUBLISHED", 8}, {"NEW", 80}, {"FAILED", 80}, {"DEAD", 20}, {"DEAD", 40}, {"", 80}, {"OTHER", 80}, {"PUBLISHING", 80},
		} {
			l.old(n+1, row.status, row.days)
		}
		l.exec(`INSERT INTO t (id, status, created_at) VALUES ($1::text::`+kind+`, 'SENT', NULL)`, l.id(11))
		retention := outbox.Retention{Sent: 7 * day, Dead: 30 * day, DryRun: true}
		if n, _ := l.cleanUp(retention, 100); n != 3 || l.count(`SELECT count(*) FROM t`) != 11 {
			t.Errorf("%s: a dry run counts %d of %d rows, want 3 of 11", kind, n, l.count(`SELECT count(*) FROM t`))
		}
		retention.DryRun = false
		if n, _ := l.cleanUp(retention, 3); n != 3 {
			t.Errorf("%s: %d rows deleted, want 3", kind, n)
		}
		if got := l.count(`SELECT count(*) FROM t WHERE status IN ('SENT', 'DEAD') OR status = 'PUBLISHED'`); got != 3 {
			t.Errorf("%s: %d delivered and dead rows are left, want those of 6 and 20 days, and the one of unknown age", kind, got)
		}
	}
}

func TestCleanupTakesAnAgeOfZeroForNever(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.old(1, "SENT", 1000)
	l.old(2, "DEAD", 1000)
	if n, _ := l.cleanUp(outbox.Retention{}, 10); n != 0 {
		t.Errorf("%d rows deleted without any age", n)
	}
	if n, _ := l.cleanUp(outbox.Retention{Dead: day}, 10); n != 1 {
		t.Errorf("%d rows deleted, want the dead one", n)
	}
	if n, _ := l.cleanUp(outbox.Retention{Sent: day}, 10); n != 1 {
		t.Errorf("%d rows deleted, want the delivered one", n)
	}
}

func TestCleanupNeverDeletesTheRowOfAParkedEvent(t *testing.T) {
	l := setupLaneOf(t, "char(40)", outbox.Config{})
	l.exec(`INSERT INTO outboxd.lease SELECT (jsonb_populate_record(l, '{"slot": "second"}')).* FROM outboxd.lease l`)
	for n := 1; n <= 5; n++ {
		l.old(n, map[bool]string{true: "SENT", false: "DEAD"}[n%2 == 1], 100)
	}
	l.park(1, at{destination: "d", state: "waiting", replay: 1})
	l.park(2, at{destination: "d", state: "dead"})
	l.park(3, at{destination: "d", state: "done"})
	l.exec(`UPDATE outboxd.parked SET slot = 'second' WHERE id = $1`, l.id(3))
	l.cleanUp(outbox.Retention{Sent: day, Dead: day}, 10)
	l.want("1=SENT 2=DEAD 3=SENT", "1@d#1=waiting 2@d=dead 3@d=done")
}

func TestCleanupGoesInChunks(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`INSERT INTO t (id, status, created_at) SELECT i, CASE WHEN i % 4 = 0 THEN 'NEW' ELSE 'SENT' END, now() - interval '9 days' FROM generate_series(1, 1000) i`)
	if n, chunks := l.cleanUp(outbox.Retention{Sent: 7 * day}, 100); n != 750 || chunks != 11 {
		t.Errorf("%d rows deleted in %d chunks, want 750 in 11", n, chunks)
	}
}

func TestCleanupSkipsLockedRows(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.old(1, "SENT", 9)
	l.old(2, "SENT", 9)
	l.hold(1)
	if n, _ := l.cleanUp(outbox.Retention{Sent: day}, 10); n != 1 {
		t.Errorf("%d rows deleted beside a locked one, want 1", n)
	}
}

func TestCleanupOfKeptRowsFollowsTheSnapshot(t *testing.T) {
	l := setupLane(t, outbox.Config{OnSent: outbox.Keep})
	l.old(1, "NEW", 9)
	l.old(2, "DEAD", 9)
	l.old(3, "NEW", 9)
	l.old(4, "NEW", 1)
	l.park(3, at{destination: "d", state: "waiting"})
	text, err := outbox.ReadSnapshot(t.Context(), l.conn)
	if err != nil {
		t.Fatal(err)
	}
	l.old(5, "NEW", 9) // it is not below the confirmed position
	snapshot, err := outbox.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := l.cleanUp(outbox.Retention{Sent: 7 * day}, 10); n != 0 {
		t.Errorf("%d rows deleted without a snapshot", n)
	}
	if n, _ := l.cleanUp(outbox.Retention{Sent: 7 * day, Settled: &snapshot, DryRun: true}, 10); n != 2 {
		t.Errorf("a dry run counts %d rows, want 2", n)
	}
	l.cleanUp(outbox.Retention{Sent: 7 * day, Settled: &snapshot}, 2)
	l.want("3=NEW 4=NEW 5=NEW", "3@d=waiting")
}

func TestCleanupWithoutAnAgeIsRefused(t *testing.T) {
	f := setupPlain(t)
	f.exec(`CREATE TABLE t (id int PRIMARY KEY, status text)`)
	_, _, _, err := f.describe(outbox.Config{Table: "t"}).Cleanup(t.Context(), f.conn, outbox.Retention{Sent: day, Schema: "outboxd"}, "", 10)
	if err == nil || !strings.Contains(err.Error(), "database.columns.created_at") {
		t.Errorf("cleanup of a table without an age: %v, want the setting", err)
	}
}
