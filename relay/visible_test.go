package relay_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/sink"
)

// confirmed returns whether the slot is confirmed up to an LSN.
func (r *rig) confirmed(lsn string) bool {
	r.t.Helper()
	return r.count(`SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn >= $2::text::pg_lsn`,
		r.cfg.WAL.Slot, lsn) == 1
}

// logEnd returns where the log ends now: what commits later lies behind it.
func (r *rig) logEnd() (lsn string) {
	r.t.Helper()
	if err := r.conn.QueryRow(r.t.Context(), `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn); err != nil {
		r.t.Fatal(err)
	}
	return lsn
}

// begin opens a transaction on a connection of its own and runs a statement in it.
func (r *rig) begin(sql string, args ...any) pgx.Tx {
	r.t.Helper()
	tx, err := r.connect().Begin(r.t.Context())
	if err == nil {
		_, err = tx.Exec(r.t.Context(), sql, args...)
	}
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	return tx
}

func (r *rig) commit(tx pgx.Tx) {
	r.t.Helper()
	if err := tx.Commit(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// With synchronous replication a commit is in the log, and sent, long before its row is visible.
func TestEventBeforeItsRowIsVisibleIsMarkedWhenItIs(t *testing.T) {
	const events = 1500 // more than are settled without waiting
	r := newRig(t, testenv.NewPostgres(t, testenv.PostgresOptions{}).Database(t), "")
	r.commitAlone()
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("the first is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 1 })

	held := r.insertUnseen(1, events)
	r.eventually("the events, whose commit still waits", func() bool { return r.length("acme:orders") == events+1 })

	// They are named again and again, at a pace.
	const rounds = 10
	settled := func() uint64 { return r.settleRounds(run) }
	from, started := settled(), time.Now()
	r.eventually("the settler tries", func() bool { return settled() >= from+rounds })
	if took := time.Since(started); took < rounds*30*time.Millisecond {
		t.Errorf("%d rounds of settling took %s: it runs without a pause", rounds, took)
	}
	if n := r.count(`SELECT count(*) FROM outbox`); n != 1 {
		t.Errorf("%d rows are visible, want the first only", n)
	}
	commit := r.lastCommit("acme:orders")
	if at := run.Status().SafeLSN; r.count(`SELECT ($1::text::pg_lsn > $2::text::pg_lsn)::int`, at, commit) != 0 || run.Status().LagBytes == 0 {
		t.Errorf("%s is safe although the rows, committed at %s, are not settled", at, commit)
	}
	if r.count(`SELECT count(*) FROM outboxd.checkpoint WHERE confirmed_lsn > $1::text::pg_lsn`, commit) != 0 {
		t.Error("the checkpoint has passed events that are not settled")
	}

	r.forgetStandby()
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == events+1 })
	end := r.logEnd()
	r.insert("acme", events+1, 1, 1)
	r.eventually("all is confirmed", func() bool { return r.confirmed(end) })
	r.sequence("acme:orders", events+2)
}

// lastCommit returns where the log holds the commit of a stream's last event.
func (r *rig) lastCommit(name string) (lsn string) {
	r.t.Helper()
	last, err := r.redis.XRevRangeN(r.t.Context(), r.stream(name), "+", "-", 1).Result()
	if err != nil || len(last) != 1 {
		r.t.Fatalf("the last entry of %s: %v, %v", name, last, err)
	}
	text, _ := last[0].Values[sink.HeaderPosition].(string)
	position, err := event.ParsePosition(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return position.Commit.String()
}

// insertUnseen commits events of one key on a server of the test's own. The commit waits for a standby that does not exist, until
// forgetStandby: the events are in the log, and nobody sees their rows. It goes with commitAlone.
func (r *rig) insertUnseen(first, n int) (committed <-chan error) {
	r.t.Helper()
	r.exec(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
	r.exec(`SELECT pg_reload_conf()`)
	r.eventually("the setting counts", func() bool {
		return r.count(`SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'nobody'`) == 1
	})
	r.t.Cleanup(r.forgetStandby)
	writer, done := r.connect(), make(chan error, 1)
	if _, err := writer.Exec(r.t.Context(), `SET synchronous_commit = on`); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		_, err := writer.Exec(context.Background(), `INSERT INTO outbox (tenant_id, aggregate_id, topic, occurred_at, payload)
			SELECT 'acme', 'k', 'orders', now(), jsonb_build_object('seq', i) FROM generate_series($1::int, $1::int + $2::int - 1) i`, first, n)
		done <- err
	}()
	return done
}

// commitAlone lets everybody commit without waiting for a standby, but who asks for it.
func (r *rig) commitAlone() {
	r.t.Helper()
	r.exec(`ALTER ROLE postgres SET synchronous_commit = local`)
	r.conn = r.connect()
}

// forgetStandby ends every wait for the standby that does not exist.
func (r *rig) forgetStandby() {
	r.t.Helper()
	ctx := context.Background() // as the last thing too, else nothing can be dropped
	for _, sql := range []string{`ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`} {
		if _, err := r.conn.Exec(ctx, sql); err != nil {
			r.t.Errorf("%s: %v", sql, err)
		}
	}
}

// settleRounds returns how many rounds of settling the relay has done.
func (r *rig) settleRounds(run *running) uint64 {
	r.t.Helper()
	families, err := run.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "outboxd_settle_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	r.t.Fatal("there is no metric of settling")
	return 0
}

// History 20 of the protocol.
func TestRowDeletedInItsTransactionIsConfirmedBesideALongOne(t *testing.T) {
	r := newRig(t, "", "")
	r.start(nil)
	long := r.begin(`CREATE TABLE held ()`) // has an id, and is open until the test ends
	tx := r.begin(`INSERT INTO outbox (id, tenant_id, topic, occurred_at, payload)
		VALUES ('00000000-0000-0000-0000-000000000001', 'acme', 'orders', now(), '{"seq": 0}')`)
	if _, err := tx.Exec(t.Context(), `DELETE FROM outbox`); err != nil {
		t.Fatal(err)
	}
	r.commit(tx)
	end := r.logEnd()
	r.eventually("the event", func() bool { return r.length("acme:orders") == 1 })
	r.insert("acme", 1, 1, 1)
	r.eventually("it is confirmed", func() bool { return r.confirmed(end) })
	r.sequence("acme:orders", 2)
	if err := long.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// waitsForLock tells whether outboxd waits for a lock.
func (r *rig) waitsForLock() bool {
	r.t.Helper()
	return r.count(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'outboxd' AND datname = current_database()`) > 0
}

func TestLockedRowHoldsUpConfirmingOnly(t *testing.T) {
	r := newRig(t, "", "")
	r.insert("acme", 0, 1, 1) // locked before anybody can settle it
	lock := r.begin(`SELECT FROM outbox FOR UPDATE`)
	first := r.start(nil)
	r.insert("acme", 1, 50, 3)
	end := r.logEnd()
	r.eventually("events flow on", func() bool { return r.length("acme:orders") == 51 })
	r.eventually("a settlement waits for the lock", r.waitsForLock)
	if r.confirmed(end) {
		t.Error("the slot is confirmed past an event whose row is not settled")
	}
	// Another session takes over although that one waits.
	term := first.Status().Term
	first.crash()
	second := r.start(nil)
	r.eventually("the next session", func() bool { return second.Status().State == relay.StateActive && second.Status().Term > term })
	r.insert("acme", 51, 1, 1)
	r.eventually("its events", func() bool { return r.length("acme:orders") == 52 })
	r.commit(lock)
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
	r.eventually("all is confirmed", func() bool { return r.confirmed(end) })
	r.sequence("acme:orders", 52)
}

func TestRowsAreSettledBesideAStatementThatIsHeldUp(t *testing.T) {
	const events = 5000 // as many as one statement settles: fewer would wait for the settler
	r := newRig(t, "", "")
	r.insert("acme", 0, 1, 1) // locked before anybody can settle it
	lock := r.begin(`SELECT FROM outbox FOR UPDATE`)
	r.start(nil)
	r.eventually("a settlement waits for the lock", r.waitsForLock)
	r.insert("acme", 1, events, 7)
	end := r.logEnd()
	r.eventually("the others are SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == events })
	if r.confirmed(end) {
		t.Error("the slot is confirmed past an event whose row is locked")
	}
	r.commit(lock)
	r.settled()
	r.insert("acme", events+1, 1, 1) // what outboxd has written itself is not confirmed before an event is
	r.eventually("all is confirmed", func() bool { return r.confirmed(end) })
	r.sequence("acme:orders", events+2)
}

func TestInterleavedTransactionsArriveInCommitOrder(t *testing.T) {
	postgres := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"max_prepared_transactions = 10"}})
	r := newRig(t, postgres.Database(t), "")
	r.start(nil)
	insert := func(seq int) string {
		return `INSERT INTO outbox (tenant_id, aggregate_id, topic, occurred_at, payload)
			VALUES ('acme', 'k', 'orders', now(), jsonb_build_object('seq', ` + string(rune('0'+seq)) + `))`
	}
	more := func(tx pgx.Tx, statements ...string) {
		t.Helper()
		for _, sql := range statements {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	last := r.begin(insert(8))
	second := r.begin(insert(3))
	prepared := r.begin(insert(6))
	first := r.begin(insert(0))
	more(second, `SAVEPOINT a`, insert(9), `ROLLBACK TO a`, insert(4), `SAVEPOINT b`, insert(5), `RELEASE b`)
	more(first, insert(1))
	more(prepared, `PREPARE TRANSACTION 'outbox'`)
	more(first, insert(2))
	r.commit(first)
	r.commit(second)
	r.exec(`COMMIT PREPARED 'outbox'`)
	r.exec(insert(7))
	r.commit(last)
	r.eventually("all events", func() bool { return r.length("acme:orders") == 9 })
	r.sequence("acme:orders", 9)
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
}
