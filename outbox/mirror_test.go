package outbox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
)

var due = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func (l *lane) mirror(mirrors ...outbox.Mirror) int {
	l.Helper()
	changed, err := l.table.Mirror(l.Context(), l.conn, l.lease, mirrors)
	if err != nil {
		l.Fatal(err)
	}
	return changed
}

func (l *lane) repair() int {
	l.Helper()
	last, repaired, err := l.table.RepairMirrors(l.Context(), l.conn, l.lease, "", 1000)
	if err != nil || last != "" {
		l.Fatalf("repair ended at %q, %v; want the end", last, err)
	}
	return repaired
}

// shown lists what the rows show: "1|FAILED|2|2030|message".
func (l *lane) shown() string {
	l.Helper()
	var shown string
	err := l.conn.QueryRow(l.Context(), `SELECT string_agg(concat_ws('|', ltrim(right(trim(id::text), 12), '0'), status, retry_count,
		extract(year FROM retry_after), error_message), ' ' ORDER BY id) FROM t`).Scan(&shown)
	if err != nil {
		l.Fatal(err)
	}
	return shown
}

func TestMirrorShowsStatesAndCutsMessages(t *testing.T) {
	for _, kind := range idKinds {
		l := setupLaneOf(t, kind, outbox.Config{})
		for n := 1; n <= 3; n++ {
			l.row(n, "NEW")
		}
		changed := l.mirror(
			outbox.Mirror{ID: l.id(1), Status: "FAILED", RetryCount: 2, RetryAfter: due, Message: "é" + strings.Repeat("x", 600)},
			outbox.Mirror{ID: l.id(2), Status: "DEAD", RetryCount: 5, Message: "bad \x00\xff 'quoted\" \\"},
			outbox.Mirror{ID: l.id(9), Status: "FAILED", Message: "its row was deleted"},
		)
		want := "1|FAILED|2|2030|é" + strings.Repeat("x", 19) + " 2|DEAD|5|bad \uFFFD\uFFFD 'quoted\" \\ 3|NEW|0"
		if got := l.shown(); changed != 2 || got != want {
			t.Errorf("%s: %d changed; the rows show %q, want %q", kind, changed, got, want)
		}
	}
}

func TestMirrorNeverTouchesDeliveredRows(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	for n, status := range []string{"SENT", "PUBLISHED", "OTHER", "PUBLISHING"} {
		l.row(n+1, status)
	}
	l.exec(`INSERT INTO t (id, status) VALUES (5, NULL)`)
	var mirrors []outbox.Mirror
	for n := 1; n <= 5; n++ {
		mirrors = append(mirrors, outbox.Mirror{ID: l.id(n), Status: "FAILED", RetryCount: 1})
		l.park(n, at{destination: "d", state: "dead"})
	}
	l.mirror(mirrors...)
	l.repair()
	if got, want := l.statuses("t"), "1=SENT,2=PUBLISHED,3=OTHER,4=DEAD,5=null"; got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
}

func TestMirrorSkipsLockedRows(t *testing.T) {
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Delete} {
		l := setupLane(t, outbox.Config{OnSent: onSent})
		l.row(1, "NEW")
		l.row(2, "NEW")
		l.hold(1)
		changed := l.mirror(outbox.Mirror{ID: "1", Status: "FAILED", RetryCount: 1}, outbox.Mirror{ID: "2", Status: "FAILED", RetryCount: 1})
		if got := l.statuses("t"); changed != 1 || got != "1=NEW,2=FAILED" {
			t.Errorf("%d changed; the rows are %s, want only 2 changed", changed, got)
		}
	}
}

// A row that shows the state already is neither written nor locked, so a repair that finds everything in order costs no log.
func TestMirrorWritesOnlyWhatDiffers(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`ALTER TABLE t ALTER retry_after TYPE timestamptz(0), ALTER error_message TYPE varchar(3)`)
	l.table = l.describe(outbox.Config{Table: "t"})
	l.row(1, "NEW")
	m := outbox.Mirror{ID: "1", Status: "FAILED", RetryCount: 1, RetryAfter: due.Add(600 * time.Millisecond), Message: "message"}
	first, second := l.mirror(m), 0
	version := func() (xmin, xmax string) {
		if err := l.conn.QueryRow(t.Context(), `SELECT xmin::text, xmax::text FROM t`).Scan(&xmin, &xmax); err != nil {
			t.Fatal(err)
		}
		return xmin, xmax
	}
	xmin, _ := version()
	second = l.mirror(m)
	if after, xmax := version(); first != 1 || second != 0 || after != xmin || xmax != "0" && xmax != xmin {
		t.Errorf("changed %d, then %d; the row's xmin is %s, then %s with xmax %s", first, second, xmin, after, xmax)
	}
}

func TestMirrorShowsTheWorstOfAnEvent(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.row(1, "NEW")
	l.row(2, "DEAD")
	l.park(2, at{destination: "d", state: "dead", attempts: 5, reason: "x"}, at{destination: "e", state: "waiting", attempts: 1})
	l.mirror(
		outbox.Mirror{ID: "1", Status: "FAILED", RetryCount: 9, RetryAfter: due, Message: "failed"},
		outbox.Mirror{ID: "1", Status: "DEAD", RetryCount: 5, Message: "dead"},
		outbox.Mirror{ID: "2", Status: "FAILED", RetryCount: 1, RetryAfter: due, Message: "failed at e"},
	)
	if got, want := l.shown(), "1|DEAD|5|dead 2|DEAD|0"; got != want {
		t.Errorf("the rows show %q, want %q", got, want)
	}
}

func TestMirrorTakesManyAtOnce(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`INSERT INTO t (id) SELECT generate_series(1, 12000)`)
	mirrors := make([]outbox.Mirror, 12000)
	for i := range mirrors {
		mirrors[i] = outbox.Mirror{ID: l.id(i + 1), Status: "FAILED", RetryCount: 1}
	}
	if changed := l.mirror(mirrors...); changed != 12000 {
		t.Errorf("%d changed, want 12000", changed)
	}
}

func TestMirrorLeavesOutColumnsThatTheTableLacks(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TABLE t (id bigint PRIMARY KEY, status text, error_message text, retry_after date)`)
	l := &lane{fixture: f, kind: "bigint"}
	l.table = l.describe(outbox.Config{Table: "t"})
	l.row(1, "NEW")
	l.row(2, "NEW")
	l.mirror(outbox.Mirror{ID: "1", Status: "FAILED", RetryCount: 1, RetryAfter: due, Message: "refused"})
	l.park(2, at{destination: "d", state: "dead", reason: "no route"})
	l.repair()
	var shown string
	if err := l.conn.QueryRow(t.Context(), `SELECT string_agg(t::text, ' ' ORDER BY id) FROM t`).Scan(&shown); err != nil {
		t.Fatal(err)
	}
	if want := `(1,FAILED,refused,) (2,DEAD,"no route",)`; shown != want {
		t.Errorf("the rows are %s, want %s", shown, want)
	}
}

func TestStatusesThatDoNotFitAreNotMirrored(t *testing.T) {
	f := setup(t, migrations.Options{})
	f.exec(`CREATE TYPE state AS ENUM ('NEW', 'SENT'); CREATE TABLE t (id bigint PRIMARY KEY, status state, retry_after timestamptz)`)
	f.exec(`CREATE INDEX ON t (status)`)
	f.exec(`INSERT INTO t VALUES (1, 'NEW'), (2, 'NEW')`)
	l := &lane{fixture: f, kind: "bigint"}
	l.table = l.describe(outbox.Config{Table: "t"})
	l.park(1, at{destination: "d", state: "waiting", attempts: 1})
	if changed := l.mirror(outbox.Mirror{ID: "1", Status: "FAILED"}); changed+l.repair() != 0 {
		t.Error("something was mirrored")
	}
	if _, err := l.table.DueFailed(t.Context(), l.conn, l.lease, 0, 10); err == nil || !strings.Contains(err.Error(), "tenant_id") {
		t.Errorf("reading events from a table without them: %v, want the missing column", err)
	}
	l.deliver("d", l.refs(1)...)
	if got := l.statuses("t"); got != "1=SENT,2=NEW" {
		t.Errorf("the rows are %s, want 1=SENT,2=NEW", got)
	}
}

func TestRepairShowsTheWorstParkedRow(t *testing.T) {
	for _, kind := range idKinds {
		l := setupLaneOf(t, kind, outbox.Config{})
		for n, status := range []string{"NEW", "NEW", "NEW", "DEAD", "SENT", "FAILED"} {
			l.row(n+1, status)
		}
		l.park(1, at{destination: "d", state: "waiting", attempts: 1, reason: "once"}, at{destination: "e", state: "waiting", attempts: 2, reason: "twice"})
		l.park(2, at{destination: "d", state: "waiting", attempts: 9, reason: "often"}, at{destination: "e", state: "dead", attempts: 5, reason: "dead"})
		l.park(3, at{destination: "d", state: "waiting"}, at{destination: "e", state: "done", attempts: 3}) // never refused
		l.park(4, at{destination: "d", state: "waiting", reason: "a person said so"})
		l.park(5, at{destination: "d", state: "waiting", replay: 1, attempts: 1})
		l.park(6, at{destination: "d", state: "done", attempts: 1})
		if repaired := l.repair(); repaired != 3 {
			t.Errorf("%s: %d repaired, want 3", kind, repaired)
		}
		want := "1|FAILED|2|2030|twice 2|DEAD|5|dead 3|NEW|0 4|FAILED|0|2030|a person said so 5|SENT|0 6|FAILED|0"
		if got := l.shown(); got != want {
			t.Errorf("%s: the rows show %q, want %q", kind, got, want)
		}
		if repaired := l.repair(); repaired != 0 {
			t.Errorf("%s: a second repair changed %d rows", kind, repaired)
		}
	}
}

func TestRepairAndSkipWalkInBoundedSteps(t *testing.T) {
	l := setupLaneOf(t, "uuid", outbox.Config{})
	for n := 1; n <= 10; n++ {
		l.row(n, map[bool]string{true: "SENT", false: "NEW"}[n%2 == 0])
		l.park(n, at{destination: "d", state: "dead", attempts: 1}, at{destination: "e", state: "waiting", attempts: 1})
	}
	repaired, skipped, steps := 0, 0, 0
	for last := ""; steps == 0 || last != ""; steps++ {
		next, n, err := l.table.RepairMirrors(t.Context(), l.conn, l.lease, last, 3)
		if err != nil {
			t.Fatal(err)
		}
		_, m, err := l.table.SkipSent(t.Context(), l.conn, l.lease, last, 3)
		if err != nil {
			t.Fatal(err)
		}
		repaired, skipped, last = repaired+n, skipped+m, next
	}
	if repaired != 5 || skipped != 10 || steps < 5 {
		t.Errorf("%d steps repaired %d rows and skipped %d, want 5 and 10", steps, repaired, skipped)
	}
}

func TestSkipSentTakesAPersonsSentForASkip(t *testing.T) {
	for _, kind := range idKinds {
		l := setupLaneOf(t, kind, outbox.Config{})
		for n, status := range []string{"SENT", "SENT", "SENT", "NEW", "FAILED"} {
			l.row(n+1, status)
		}
		l.park(1, at{destination: "d", state: "waiting"}, at{destination: "e", state: "dead"}, at{destination: "f", state: "done"})
		l.park(2, at{destination: "d", state: "waiting", replay: 1}, at{destination: "e", state: "dead", replay: 2}) // delivered once more
		l.park(4, at{destination: "d", state: "waiting"})
		l.park(5, at{destination: "d", state: "dead"})
		l.park(6, at{destination: "d", state: "dead"}) // its row was deleted, which skips nothing
		last, skipped, err := l.table.SkipSent(t.Context(), l.conn, l.lease, "", 100)
		if err != nil || last != "" || skipped != 2 {
			t.Errorf("%s: %d skipped up to %q, %v; want 2 and the end", kind, skipped, last, err)
		}
		l.want("1=SENT 2=SENT 3=SENT 4=NEW 5=FAILED",
			"1@d=skipped 1@e=skipped 1@f=done 2@d#1=waiting 2@e#2=dead 4@d=waiting 5@d=dead 6@d=dead")
		var noted string
		err = l.conn.QueryRow(t.Context(), `SELECT string_agg(concat_ws('|', slot, trim(right(id, 40)), sink, destination, action, note), ' ' ORDER BY destination) FROM outboxd.audit`).Scan(&noted)
		id := strings.TrimSpace(l.id(1))
		if want := "slot|" + id + "|sink|d|skip|row set to SENT slot|" + id + "|sink|e|skip|row set to SENT"; err != nil || noted != want {
			t.Errorf("%s: noted is %q, %v; want %q", kind, noted, err, want)
		}
		if finished, _ := l.finish(10); finished != 1 {
			t.Errorf("%s: %d events finished, want the skipped one", kind, finished)
		}
	}
}
