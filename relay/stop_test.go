package relay_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

func TestStopMayBeCalledAgain(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	run.Stop()
	if err := run.stop(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	run.Stop()
}

func TestDroppedColumnEndsTheRelayWithItsName(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("the first event is confirmed", func() bool { return r.confirmed(r.inserted) }) // so that outboxd writes nothing more
	r.exec(`ALTER TABLE outbox DROP COLUMN schema_id`)
	r.insert("acme", 1, 1, 1)
	end := r.logEnd() // what comes before the event may be confirmed
	r.eventually("Run returns", run.ended)
	if len(wal.CheckErrors(run.err)) == 0 || !strings.Contains(run.err.Error(), "schema_id") {
		t.Errorf("Run returned %v, want a failed check that names the column", run.err)
	}
	if n := r.length("acme:orders"); n != 1 || r.confirmed(end) {
		t.Errorf("%d events were published, or the slot passed the one without the column", n)
	}
}

func TestRenamedTableHoldsTheStreamAndIsNamed(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("the first row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 1 })
	r.exec(`ALTER TABLE outbox RENAME TO letterbox`)
	r.exec(`INSERT INTO letterbox (tenant_id, topic, occurred_at, payload) VALUES ('acme', 'orders', now(), '{"seq": 1}')`)
	end := r.logEnd()
	r.eventually("it is not ready, and says which table is missing", func() bool {
		err := run.Ready()
		return err != nil && strings.Contains(err.Error(), `"outbox"`) && strings.Contains(err.Error(), "no such table")
	})
	if r.length("acme:orders") != 1 || r.confirmed(end) {
		t.Errorf("the row of the renamed table was published, or the slot has passed it, to %s", end)
	}
}

// Of a table that takes the name of the published one the log says nothing. With keep, rows of it would count as settled. The publication is mended
// before the slot is dropped, which a program that is started again and again does not wait for.
func TestTableThatIsSwappedUnderTheStreamIsALostSlot(t *testing.T) {
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Keep} {
		t.Run(string(onSent), func(t *testing.T) {
			r := newRig(t, "", "")
			change := func(c *relay.Config) { c.Outbox.OnSent = onSent }
			run := r.startWithOne(change)
			r.exec(`ALTER TABLE outbox RENAME TO outbox_old; CREATE TABLE outbox (LIKE outbox_old INCLUDING ALL)`)
			r.insert("acme", 1, 5, 1)
			r.eventually("Run returns", run.ended)
			if failed := wal.CheckErrors(run.err); len(failed) != 1 || failed[0].Check != wal.CheckPublication {
				t.Fatalf("Run returned %v, want a failed check of the publication", run.err)
			}
			r.exec(`ALTER PUBLICATION outboxd ADD TABLE outbox`)
			r.start(change)
			r.eventually("what was inserted meanwhile", func() bool { return slices.Contains(r.seqs("acme:orders"), 5) })
			r.insert("acme", 6, 1, 1)
			r.eventually("a later event", func() bool { return slices.Contains(r.seqs("acme:orders"), 6) })
			for seq := range 7 {
				if !slices.Contains(r.seqs("acme:orders"), seq) {
					t.Errorf("event %d is missing", seq)
				}
			}
		})
	}
}

func TestPublicationThatLacksTheTableForAWhileIsALostSlot(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("the first event", func() bool { return r.length("acme:orders") == 1 })
	epoch := run.Status().Epoch
	tx := r.begin(`ALTER PUBLICATION outboxd DROP TABLE outbox`)
	if _, err := tx.Exec(t.Context(), `ALTER PUBLICATION outboxd ADD TABLE outbox`); err != nil {
		t.Fatal(err)
	}
	r.commit(tx)
	r.eventually("a new slot begins", func() bool { return run.Status().Epoch > epoch })
	r.insert("acme", 1, 5, 1)
	r.eventually("later events", func() bool { return r.length("acme:orders") >= 6 })
	r.settled()
	r.sequence("acme:orders", 6)
}

func TestTruncateAndAddedColumnsAreHarmless(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 10, 2)
	r.exec(`TRUNCATE outbox`)
	r.insert("acme", 10, 10, 2)
	r.exec(`ALTER TABLE outbox ADD COLUMN colour text DEFAULT 'red'`)
	r.insert("acme", 20, 10, 2)
	r.exec(`ALTER TABLE outbox DROP COLUMN colour`)
	r.insert("acme", 30, 10, 2)
	end := r.logEnd()
	r.insert("acme", 40, 1, 2)
	r.eventually("all is confirmed", func() bool { return r.confirmed(end) })
	r.eventually("all events", func() bool { return r.length("acme:orders") == 41 })
	r.sequence("acme:orders", 41)
	if n := run.Status().Sessions; n != 1 {
		t.Errorf("it took %d sessions", n)
	}
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
}

func TestSessionThatLostItsTermChangesNothing(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("the first row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 1 })
	term := run.Status().Term
	// Both at once: when the session settles the event its term is gone.
	tx := r.begin(`INSERT INTO outbox (tenant_id, topic, occurred_at, payload) VALUES ('acme', 'orders', now(), '{"seq": 1}')`)
	if _, err := park.Raise(t.Context(), tx, "outboxd", r.cfg.WAL.Slot, "somebody"); err != nil {
		t.Fatal(err)
	}
	r.commit(tx)
	r.eventually("a session with a later term", func() bool { return run.Status().Term >= term+2 })
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
	r.sequence("acme:orders", 2)
	if n := run.Status().Sessions; n != 2 {
		t.Errorf("%d sessions, want a second one that settled the event", n)
	}
}
