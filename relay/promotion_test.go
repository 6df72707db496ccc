package relay_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/relay"
)

// A standby is promoted that lacks what the primary committed last, and outboxd had published that. The new timeline uses the
// same log positions again, for other events.
func TestEventsOfANewTimelineAreNotTakenForThoseTheOldOneLost(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	r := newRig(t, server.URL, "")
	run := r.start(nil)
	r.insert("acme", 1, 5, 2)
	r.eventually("the first events are delivered", func() bool { return r.length("acme:orders") == 5 })
	if err := run.stop(); err != nil { // so that nothing of them comes again: to settle it would be worth the checkpoint of the next session
		t.Fatal(err)
	}

	// Delivered and in the standby, but not in the checkpoint: its first is written at once, the next never.
	r.insert("acme", 6, 1, 2)
	run = r.start(func(cfg *relay.Config) { cfg.CheckpointInterval = time.Hour })
	r.eventually("a checkpoint is written", func() bool { return r.savedBehind("acme", 6) })
	r.insert("acme", 7, 4, 2)
	r.eventually("events behind the checkpoint are delivered", func() bool { return r.length("acme:orders") == 10 })
	run.crash()
	standby := r.copyOf(server)
	r.conn = r.connect()

	run = r.start(nil)
	r.insert("acme", 100, 2000, 2)
	r.eventually("the events that the standby lacks are delivered", func() bool { return r.length("acme:orders") == 2010 })
	run.crash()
	r.promote(server, standby)
	r.conn = r.connect()
	if n := r.count(`SELECT count(*) FROM outbox`); n != 10 {
		t.Fatalf("the promoted standby holds %d events, want 10", n)
	}

	run = r.start(nil)
	r.insert("acme", 3000, 5, 2)
	r.eventually("the new events are settled", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 15 })
	if n := r.length("acme:orders"); n != 2015 {
		t.Fatalf("%d events arrived, want 2015: new ones were taken for lost ones, or ones that are in the standby are doubled", n)
	}

	// The same again after a restart: the tail is at the new timeline, the record was made on the old one.
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	run = r.start(nil)
	r.insert("acme", 4000, 5, 2)
	r.eventually("events behind the restart are delivered", func() bool { return r.length("acme:orders") == 2020 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}

	// What is adopted after a lost slot may have landed behind the checkpoint as the events there were called: by the promotion's epoch.
	first := r.count(`SELECT epoch FROM outboxd.checkpoint`)
	r.setString("globex:orders")
	r.insert("globex", 1, 1, 2)
	r.dropSlot()
	run = r.start(nil)
	r.eventually("the new event waits", func() bool { return r.count(`SELECT count(*) FROM outboxd.parked WHERE tenant_id = 'globex'`) == 1 })
	if n := r.count(`SELECT landed_epoch FROM outboxd.parked WHERE tenant_id = 'globex'`); n != first+1 {
		t.Fatalf("the adopted event may have landed in epoch %d, want %d", n, first+1)
	}
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
}

// The history of timelines is asked for over the connections that stream, or make the slot, anyway.
func TestSessionsBehindAPromotionNeedNoSecondSender(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	r := newRig(t, server.URL, "")
	run := r.start(nil)
	r.insert("acme", 1, 5, 2)
	r.eventually("the first events are settled", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 5 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	standby := r.copyOf(server)
	r.conn = r.connect()
	r.promote(server, standby)
	r.exec(`ALTER SYSTEM SET max_wal_senders = 1`)
	server.Stop()
	server.Start()
	r.conn = r.connect()

	run = r.start(nil)
	r.insert("acme", 6, 5, 2)
	r.eventually("events behind the promotion are delivered", func() bool { return r.length("acme:orders") == 10 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}

	r.dropSlot()
	r.insert("acme", 11, 5, 2)
	r.start(nil)
	r.eventually("events of a slot that is lost behind it are delivered", func() bool { return r.length("acme:orders") == 15 })
}

// A failover leads outboxd to the standby before that is promoted.
func TestStandbyThatIsNotPromotedYetIsWaitedFor(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	r := newRig(t, server.URL, "")
	data := r.dataOf()
	run := r.start(nil)
	r.insert("acme", 1, 5, 2)
	r.eventually("the first events are delivered", func() bool { return r.length("acme:orders") == 5 })

	server.Stop()
	r.recover(data, "standby.signal")
	slots := filepath.Join(data, "pg_replslot")
	r.command("cp", "-a", slots, slots+".kept")
	r.command("rm", "-r", filepath.Join(slots, r.cfg.WAL.Slot)) // most standbys have no slot of the primary
	server.Start()
	metStandby := func() bool { return run.ended() || strings.Contains(run.Status().Reason, "standby") }
	r.eventually("the relay has met a standby without the slot", metStandby)
	server.Stop()
	r.command("rm", "-r", slots)
	r.command("mv", slots+".kept", slots)
	r.eventually("the relay knows that it is gone", func() bool { return !metStandby() || run.ended() })
	server.Start()
	r.eventually("the relay has met a standby with the slot", metStandby)
	r.conn = r.connect()
	r.exec(`SELECT pg_promote()`)
	r.insert("acme", 6, 5, 2)
	r.eventually("events behind the promotion are delivered", func() bool { return run.ended() || r.length("acme:orders") == 10 })
	if run.ended() {
		t.Fatalf("Run ended with %v", run.err)
	}
}

// savedBehind tells whether the checkpoint has passed the event.
func (r *rig) savedBehind(tenant string, seq int) bool {
	return r.count(`SELECT count(*) FROM outboxd.checkpoint c, outbox o WHERE c.slot = $1 AND o.tenant_id = $2
		AND o.payload->>'seq' = $3::int::text AND o.status = 'SENT' AND c.confirmed_at > o.occurred_at`, r.cfg.WAL.Slot, tenant, seq) == 1
}

// copyOf returns a copy of the server's data as it is after a clean stop, and lets the server go on.
func (r *rig) copyOf(server *testenv.PostgresServer) string {
	r.t.Helper()
	data := r.dataOf()
	server.Stop()
	standby := data + ".standby"
	r.command("cp", "-a", data, standby)
	server.Start()
	return standby
}

// promote kills the server and lets the copy take its place, on a timeline of its own.
func (r *rig) promote(server *testenv.PostgresServer, standby string) {
	r.t.Helper()
	data := r.dataOf()
	server.Kill()
	if err := os.RemoveAll(data); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(standby, data); err != nil {
		r.t.Fatal(err)
	}
	r.recover(data, "recovery.signal") // which ends where the log does, on a new timeline
	server.Start()
	r.conn = r.connect()
	r.eventually("the standby is promoted", func() bool { return r.count(`SELECT pg_is_in_recovery()::int`) == 0 })
}

// recover makes the server's next start one from an archive, which is empty.
func (r *rig) recover(data, signal string) {
	r.t.Helper()
	settings, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := settings.WriteString("restore_command = 'false'\n"); err != nil {
		r.t.Fatal(err)
	}
	if err := settings.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.command("cp", "-a", filepath.Join(data, "PG_VERSION"), filepath.Join(data, signal)) // the server's user must own it
}

func (r *rig) dataOf() (folder string) {
	r.t.Helper()
	if err := r.conn.QueryRow(r.t.Context(), `SHOW data_directory`).Scan(&folder); err != nil {
		r.t.Fatal(err)
	}
	return folder
}

func (r *rig) command(name string, args ...string) {
	r.t.Helper()
	if out, err := exec.CommandContext(r.t.Context(), name, args...).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v: %s", name, err, out)
	}
}
