package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/relay"
)

// What is parked may take longer to read than the server bears a silent stream.
func TestStreamIsKeptAliveWhileItsSessionOpens(t *testing.T) {
	r := newRig(t, "", "")
	held := r.begin(`LOCK TABLE outboxd.parked`)
	run := r.start(func(c *relay.Config) {
		c.WAL.URL += "&wal_sender_timeout=2000"
		c.StatusInterval, c.WAL.StatusInterval = 200*time.Millisecond, 200*time.Millisecond
	})
	r.eventually("reading what is parked takes longer than that", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'outboxd'
			AND wait_event_type = 'Lock' AND now() - query_start > '3s'`) == 1
	})
	r.commit(held)
	r.insert("acme", 0, 1, 1)
	r.eventually("the event", func() bool { return r.length("acme:orders") == 1 })
	if n := run.Status().Sessions; n != 1 {
		t.Errorf("it took %d sessions", n)
	}
}

// The statement that waits has a connection of its own, which nothing happens to.
func TestSessionWhoseStreamBreaksWhileItOpensEndsAtOnce(t *testing.T) {
	r := newRig(t, "", "")
	held := r.begin(`LOCK TABLE outboxd.parked`)
	run := r.start(nil)
	r.eventually("it reads what is parked", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'outboxd' AND wait_event_type = 'Lock'`) == 1
	})
	r.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, r.cfg.WAL.Slot)
	r.eventually("the session has ended", func() bool {
		return run.Status().State == relay.StateConnecting && strings.Contains(run.Status().Reason, "confirm")
	})
	r.commit(held)
	r.insert("acme", 0, 1, 1)
	r.eventually("the event", func() bool { return r.length("acme:orders") == 1 })
}
