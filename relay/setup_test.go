package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

func TestWrongSettingEndsTheFirstSession(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(func(c *relay.Config) { c.WAL.URL = strings.Replace(c.WAL.URL, "?", "_missing?", 1) })
	<-run.done
	if run.err == nil || !strings.Contains(run.err.Error(), "does not exist") {
		t.Fatalf("with a database that does not exist Run returned %v", run.err)
	}
}

func TestServerThatIsNotThereYetIsWaitedFor(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(func(c *relay.Config) { c.WAL.URL = "postgres://postgres@127.0.0.1:1/none?sslmode=disable" })
	r.eventually("a second attempt", func() bool {
		s := run.Status()
		return s.State == relay.StateConnecting && strings.Contains(s.Reason, "refused")
	})
	select {
	case <-run.done:
		t.Fatalf("Run ended with %v", run.err)
	default:
	}
}

func TestFirstSlotWaitsForTheTransactionsThatAreOpen(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	open := r.connect()
	tx, err := open.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT txid_current()`); err != nil {
		t.Fatal(err)
	}
	run := r.start(nil)
	r.eventually("the slot is being made", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%' AND state = 'active'
			AND query LIKE '%' || $1 || '%'`, r.cfg.WAL.Slot) == 1
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.eventually("it is active", func() bool { return run.Status().State == relay.StateActive })
	r.insert("acme", 0, 1, 1)
	r.eventually("the event", func() bool { return r.length("acme:orders") == 1 })
}

// Each of two instances looks for the other before either has made its slot.
func TestLayoutsThatStartAtTheSameTimeDoNotBothRun(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	other := wal.Names{Slot: r.cfg.WAL.Slot + "_2t_1", Schema: "outboxd_2t_1", Layout: "shards.count: 2"}
	r.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, other.Slot)
	open := r.begin(`SELECT txid_current()`) // a new slot waits for it
	run := r.start(func(c *relay.Config) { c.WAL.Others = []wal.Names{other} })
	r.eventually("the slot is being made", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%' AND state = 'active'
			AND query LIKE '%' || $1 || '%'`, r.cfg.WAL.Slot) == 1
	})
	r.exec(`CREATE SCHEMA outboxd_2t_1`) // now the other one is there
	r.commit(open)
	<-run.done
	if failed := wal.CheckErrors(run.err); len(failed) != 1 || failed[0].Check != wal.CheckLayout {
		t.Errorf("Run returned %v, want the check of the layout", run.err)
	}
	if n := r.count(`SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1`, r.cfg.WAL.Slot); n != 0 {
		t.Error("its own slot is left, which keeps the other layout from running")
	}
}

// Limits that a role or a database has for its ordinary work end neither a slot that is being made nor connections that wait.
func TestTimeLimitsOfTheDatabaseEndNoSession(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	open := r.begin(`SELECT txid_current()`)
	for name, milliseconds := range map[string]int{"lock_timeout": 300, "statement_timeout": 2000, "idle_session_timeout": 1000, "transaction_timeout": 1000} {
		if r.count(`SELECT count(*) FROM pg_settings WHERE name = $1`, name) == 1 { // not every server has all of them
			r.exec(fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET %s = %d', current_database()); END $$`, name, milliseconds))
		}
	}
	run := r.start(nil)
	r.eventually("the slot is made for longer than the limits", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%' AND state = 'active'
			AND query LIKE '%' || $1 || '%' AND now() - query_start > '3s'`, r.cfg.WAL.Slot) == 1
	})
	r.commit(open)
	r.eventually("a connection is idle for longer than the limit", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'outboxd'
			AND query LIKE 'LISTEN%' AND state = 'idle' AND now() - state_change > '3s'`) == 1
	})
	if s := run.Status(); s.State != relay.StateActive || s.Sessions != 1 {
		t.Errorf("it is %s after %d sessions", s.State, s.Sessions)
	}
}
