package outbox_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/outbox"
)

// History 2 of the protocol: an event is parked and its row still NEW; after a crash the log lane drops the replay and settles the row; the
// sweep would take SENT for a person's skip.
func TestSettleLeavesTheRowOfAParkedEventAlone(t *testing.T) {
	for _, kind := range idKinds {
		for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Delete} {
			l := setupLaneOf(t, kind, outbox.Config{OnSent: onSent})
			for n := 1; n <= 4; n++ {
				l.row(n, "NEW")
			}
			l.park(1, at{destination: "d", state: "waiting"})
			l.park(2, at{destination: "d", state: "done"})
			l.exec(`UPDATE outboxd.parked SET slot = 'other' WHERE id = $1`, l.id(2))
			l.park(3, at{destination: "d", state: "done"}, at{destination: "d", state: "dead", replay: 1})
			l.settle(l.table, ids(l.id(1), l.id(2), l.id(3), l.id(4))...)
			rows := map[outbox.OnSent]string{outbox.Mark: "1=NEW 2=SENT 3=NEW 4=SENT", outbox.Delete: "1=NEW 3=NEW"}[onSent]
			l.want(rows, "1@d=waiting 2@d=done 3@d=done 3@d#1=dead")
		}
	}
}

func TestDeliverSettlesAnEventThatIsDoneEverywhere(t *testing.T) {
	for _, kind := range idKinds {
		l := setupLaneOf(t, kind, outbox.Config{})
		for n, status := range []string{"NEW", "FAILED", "DEAD", "PUBLISHING", "SENT", "OTHER"} {
			l.row(n+1, status)
			l.park(n+1, at{destination: "d", state: "waiting"}, at{destination: "e", state: "done"}, at{destination: "f", state: "skipped"})
		}
		l.deliver("d", l.refs(1, 2, 3, 4, 5, 6)...)
		l.want("1=SENT 2=SENT 3=SENT 4=SENT 5=SENT 6=OTHER", "")
	}
}

func TestDeliverDeletesWhereDeliveredRowsAreDeleted(t *testing.T) {
	l := setupLane(t, outbox.Config{OnSent: outbox.Delete})
	for n, status := range []string{"NEW", "FAILED", "OTHER", "NEW"} {
		l.row(n+1, status)
	}
	l.exec(`INSERT INTO t (id, status) VALUES (5, NULL)`)
	for n := 1; n <= 3; n++ {
		l.park(n, at{destination: "d", state: "waiting"})
	}
	l.park(5, at{destination: "d", state: "waiting"})
	l.deliver("d", l.refs(1, 2, 3, 5)...)
	l.want("3=OTHER 4=NEW 5=null", "")
}

func TestDeliverClearsWhatAMirrorShowed(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`INSERT INTO t (id, status, retry_count, retry_after, error_message) VALUES (1, 'FAILED', 3, now(), 'refused'), (2, 'NEW', 1, now(), 'of its own')`)
	l.park(1, at{destination: "d", state: "waiting"})
	l.park(2, at{destination: "d", state: "waiting"})
	l.deliver("d", l.refs(1, 2)...)
	var shown string
	err := l.conn.QueryRow(t.Context(), `SELECT string_agg(concat_ws('|', id, status, retry_count, retry_after IS NULL, error_message), ' ' ORDER BY id) FROM t`).Scan(&shown)
	if want := "1|SENT|3|t 2|SENT|1|f|of its own"; err != nil || shown != want {
		t.Errorf("the rows show %q, %v; want %q", shown, err, want)
	}
}

// History 3 of the protocol: an event is done at one destination before another one parks it. Its row must not become SENT before.
func TestDeliverOnlyNotesAnEventThatIsNotDoneEverywhere(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	for n := 1; n <= 6; n++ {
		l.row(n, "NEW")
	}
	behind := event.Position{Epoch: passed.Epoch, Commit: passed.Commit}
	l.park(1, at{destination: "d", state: "waiting", position: behind}) // the log lane may still park it elsewhere
	l.park(2, at{destination: "d", state: "waiting", position: event.Position{Epoch: passed.Epoch + 1, Commit: 1}})
	l.park(3, at{destination: "d", state: "waiting"}, at{destination: "e", state: "waiting"})
	l.park(4, at{destination: "d", state: "waiting"}, at{destination: "e", state: "dead"})
	l.park(5, at{destination: "d", state: "waiting"}, at{destination: "d", state: "waiting", replay: 7})
	l.park(6, at{destination: "d", state: "waiting"}, at{destination: "e", state: "waiting"})
	l.deliver("d", l.refs(1, 2, 3, 4, 5)...)
	const rows = "1=NEW 2=NEW 3=NEW 4=NEW 5=NEW 6=NEW"
	l.want(rows, "1@d=done 2@d=done 3@d=done 3@e=waiting 4@d=done 4@e=dead 5@d=done 5@d#7=waiting 6@d=waiting 6@e=waiting")
}

func TestDeliverTakesAReplayAndItsEventInOneBatch(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.row(1, "NEW")
	l.park(1, at{destination: "d", state: "waiting"}, at{destination: "d", state: "waiting", replay: 7})
	l.deliver("d", event.Ref{ID: "1"}, event.Ref{ID: "1", Replay: 7})
	l.want("1=SENT", "")
}

func TestDeliverLeavesRowsOfOtherDestinationsReplaysAndStatesAlone(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	for n := 1; n <= 4; n++ {
		l.row(n, "NEW")
	}
	l.park(1, at{destination: "e", state: "waiting"})
	l.park(2, at{destination: "d", state: "waiting", replay: 1})
	l.park(3, at{destination: "d", state: "dead"})
	l.deliver("d", l.refs(1, 2, 3, 4)...) // 4 is not parked: whoever made it NEW again wants it delivered
	l.want("1=NEW 2=NEW 3=NEW 4=NEW", "1@e=waiting 2@d#1=waiting 3@d=dead")
}

func TestDeliverBearsADeletedRow(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.row(2, "NEW")
	l.park(1, at{destination: "d", state: "waiting"})
	l.park(2, at{destination: "d", state: "waiting"})
	l.deliver("d", l.refs(1, 2)...)
	l.want("2=SENT", "")
}

func TestDeliverOfALockedRowIsRetryableAndChangesNothing(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	for n := 1; n <= 2; n++ {
		l.row(n, "NEW")
		l.park(n, at{destination: "d", state: "waiting"})
	}
	l.hold(2)
	l.exec(`SET lock_timeout = '10ms'`)
	err := l.table.Deliver(t.Context(), l.conn, l.lease, "sink", "d", passed, l.refs(1, 2))
	if !outbox.Retryable(err) {
		t.Errorf("deliver beside a lock: %v, want a retryable error", err)
	}
	l.want("1=NEW 2=NEW", "1@d=waiting 2@d=waiting")
}

func TestFinishRemovesWhatIsDoneOrSkippedEverywhereAndPassed(t *testing.T) {
	for _, kind := range idKinds {
		l := setupLaneOf(t, kind, outbox.Config{})
		for n, status := range []string{"NEW", "FAILED", "DEAD", "NEW", "NEW", "NEW"} {
			l.row(n+1, status)
		}
		l.park(1, at{destination: "d", state: "done"}, at{destination: "e", state: "skipped"})
		l.park(2, at{destination: "d", state: "skipped"})
		l.park(3, at{destination: "d", state: "done", replay: 3})
		l.park(4, at{destination: "d", state: "done"}, at{destination: "e", state: "waiting"})
		l.park(5, at{destination: "d", state: "done"}, at{destination: "e", state: "dead"})
		l.park(6, at{destination: "d", state: "done", position: event.Position{Epoch: passed.Epoch, Commit: passed.Commit + 8}})
		l.park(7, at{destination: "d", state: "done"}) // its row was deleted
		if finished, more := l.finish(10); finished != 4 || more {
			t.Errorf("%s: %d events finished, more %v; want 4 and no more", kind, finished, more)
		}
		l.want("1=SENT 2=SENT 3=SENT 4=NEW 5=NEW 6=NEW", "4@d=done 4@e=waiting 5@d=done 5@e=dead 6@d=done")
	}
}

func TestFinishLeavesALockedRowForAnotherTime(t *testing.T) {
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Delete} {
		l := setupLane(t, outbox.Config{OnSent: onSent})
		for n := 1; n <= 3; n++ {
			l.row(n, "NEW")
			l.park(n, at{destination: "d", state: "done"})
		}
		l.hold(2)
		if finished, _ := l.finish(10); finished != 2 {
			t.Errorf("%d events finished beside a locked row, want 2", finished)
		}
		l.want(map[outbox.OnSent]string{outbox.Mark: "1=SENT 2=NEW 3=SENT", outbox.Delete: "2=NEW"}[onSent], "2@d=done")
	}
}

// Events that must stay for long do not keep a Finish from those behind them.
func TestFinishComesPastEventsThatStay(t *testing.T) {
	l := setupLaneOf(t, "uuid", outbox.Config{})
	for n := 1; n <= 100; n++ {
		l.park(n, at{destination: "d", state: "done"}, at{destination: "e", state: "waiting"})
	}
	for n := 101; n <= 110; n++ {
		l.row(n, "NEW")
		l.park(n, at{destination: "d", state: "done"})
	}
	total, calls := 0, 0
	for more := false; total < 10 && calls < 100 || more; calls++ {
		var finished int
		finished, more = l.finish(4)
		if finished > 4 {
			t.Fatalf("%d events finished by one call, want 4 at most", finished)
		}
		total += finished
	}
	if total != 10 || calls > 10 {
		t.Errorf("%d events finished by %d calls, want all 10 within 10", total, calls)
	}
	if got := l.count(`SELECT count(*) FROM t WHERE status = 'SENT'`); got != 10 {
		t.Errorf("%d rows are SENT, want 10", got)
	}
}

// Where a walk stops is the same at each of them, as long as the rows before stand still.
func TestWalkThatStopsBetweenTheRowsOfAnEventLooksAtAllOfThem(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	for n := 1; n <= 3; n++ {
		l.row(n, "NEW")
	}
	l.park(1, at{destination: "d", state: "waiting"})
	l.park(2, at{destination: "a", state: "done"}, at{destination: "b", state: "dead", attempts: 5})
	l.park(3, at{destination: "d", state: "waiting"})
	walk := func(step func(ctx context.Context, conn *pgx.Conn, lease lease.Lease, after string, limit int) (string, int, error)) (total int) {
		for after, walked := "", false; !walked || after != ""; walked = true {
			last, n, err := step(t.Context(), l.conn, l.lease, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			after, total = last, total+n
		}
		return total
	}
	repaired := walk(l.table.RepairMirrors)
	l.want("1=NEW 2=DEAD 3=NEW", "1@d=waiting 2@a=done 2@b=dead 3@d=waiting")
	l.exec(`UPDATE t SET status = 'SENT' WHERE status = 'DEAD'`)
	skipped := walk(l.table.SkipSent)
	l.want("1=NEW 2=SENT 3=NEW", "1@d=waiting 2@a=done 2@b=skipped 3@d=waiting")
	if repaired != 1 || skipped != 1 {
		t.Errorf("%d mirrors were repaired and %d rows skipped, want 1 and 1", repaired, skipped)
	}
}

func TestKeepWritesNothingToTheOutbox(t *testing.T) {
	l := setupLane(t, outbox.Config{OnSent: outbox.Keep})
	for n := 1; n <= 4; n++ {
		l.row(n, "NEW")
	}
	l.row(5, "SENT")
	l.park(1, at{destination: "d", state: "waiting"})
	l.park(2, at{destination: "d", state: "done"})
	l.park(3, at{destination: "d", state: "dead", attempts: 5})
	l.park(5, at{destination: "d", state: "waiting"})
	l.exec(`CREATE RULE no_update AS ON UPDATE TO t DO INSTEAD SELECT 1 / 0; CREATE RULE no_delete AS ON DELETE TO t DO INSTEAD SELECT 1 / 0`)
	l.deliver("d", l.refs(1)...)
	l.finish(10)
	changed, mirrorErr := l.table.Mirror(t.Context(), l.conn, l.lease, []outbox.Mirror{{ID: "3", Status: "DEAD"}})
	_, repaired, repairErr := l.table.RepairMirrors(t.Context(), l.conn, l.lease, "", 10)
	_, skipped, skipErr := l.table.SkipSent(t.Context(), l.conn, l.lease, "", 10)
	if got := fmt.Sprint(changed, repaired, skipped, mirrorErr, repairErr, skipErr); got != "0 0 0 <nil> <nil> <nil>" {
		t.Errorf("mirror, repair and skip answered %s, want nothing", got)
	}
	l.want("1=NEW 2=NEW 3=NEW 4=NEW 5=SENT", "3@d=dead 5@d=waiting")
}

func TestTableLaneWorksOnAPartitionedTable(t *testing.T) {
	l := &lane{fixture: setupPlain(t), kind: "bigint"}
	l.createTable(`, day int NOT NULL DEFAULT 1, PRIMARY KEY (id, day)) PARTITION BY RANGE (day`)
	l.exec(`CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (1) TO (2); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (2) TO (3)`)
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Delete} {
		l.exec(`DELETE FROM t; DELETE FROM outboxd.parked`)
		l.exec(`INSERT INTO t (id, day) VALUES (1, 1), (2, 2), (3, 1), (4, 2)`)
		l.table = l.describe(outbox.Config{Table: "t", OnSent: onSent})
		l.park(1, at{destination: "d", state: "waiting"})
		l.park(2, at{destination: "d", state: "done"})
		l.park(3, at{destination: "d", state: "dead"})
		l.deliver("d", l.refs(1)...)
		l.finish(10)
		if _, repaired, err := l.table.RepairMirrors(t.Context(), l.conn, l.lease, "", 10); err != nil || repaired != 1 {
			t.Errorf("repair: %d rows, %v; want 1", repaired, err)
		}
		rows, _, end, err := adopt(t.Context(), l.table, l.conn, "", 10)
		if err != nil || len(rows) != 1 || string(rows[0].Event.ID) != "4" || !end {
			t.Errorf("adopt: %d rows, end %v, %v; want the one with id 4", len(rows), end, err)
		}
		l.want(map[outbox.OnSent]string{outbox.Mark: "1=SENT 2=SENT 3=DEAD 4=NEW", outbox.Delete: "3=DEAD 4=NEW"}[onSent], "3@d=dead")
	}
}

// A table of Debezium's shape has no status, and nothing that could be shown.
func TestTableLaneWorksWithoutAStatus(t *testing.T) {
	f := setupPlain(t)
	f.exec(`CREATE TABLE t (id bigint PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload jsonb)`)
	f.exec(`INSERT INTO t SELECT i, 'order', 'a', 'created', '{}' FROM generate_series(1, 4) i`)
	l := &lane{fixture: f, kind: "bigint"}
	l.table = l.describe(outbox.Config{Table: "t", OnSent: outbox.Delete, Columns: outbox.Columns{
		ID: "id", TenantID: "aggregatetype", Topic: "type", AggregateType: "aggregatetype", AggregateID: "aggregateid", Payload: "payload",
	}})
	l.park(1, at{destination: "d", state: "waiting"})
	l.park(2, at{destination: "d", state: "done"})
	l.park(3, at{destination: "d", state: "waiting", attempts: 2})
	l.deliver("d", l.refs(1)...)
	l.finish(10)
	ctx := t.Context()
	changed, mirrorErr := l.table.Mirror(ctx, l.conn, l.lease, []outbox.Mirror{{ID: "3", Status: "FAILED"}})
	_, repaired, repairErr := l.table.RepairMirrors(ctx, l.conn, l.lease, "", 10)
	_, skipped, skipErr := l.table.SkipSent(ctx, l.conn, l.lease, "", 10)
	failed, failedErr := l.table.DueFailed(ctx, l.conn, l.lease, 0, 10)
	fresh, newErr := l.table.New(ctx, l.conn, l.lease, 0, 10)
	rows, _, _, adoptErr := adopt(ctx, l.table, l.conn, "", 10)
	got := fmt.Sprint(changed, repaired, skipped, len(failed), fresh, len(rows), mirrorErr, repairErr, skipErr, failedErr, newErr, adoptErr)
	if want := "0 0 0 0 [4] 2 <nil> <nil> <nil> <nil> <nil> <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := f.count(`SELECT count(*) FROM t`); got != 2 {
		t.Errorf("%d rows are left, want 2", got)
	}
}
