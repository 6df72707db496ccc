package relay_test

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/relay"
)

// A sweep may read a large table for minutes.
func TestStopDoesNotWaitForASweep(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(func(c *relay.Config) { c.ShutdownTimeout = time.Hour })
	r.insert("acme", 0, 1, 1)
	r.settled()
	const waiters = `SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation = 'outbox'::regclass AND NOT l.granted AND a.query LIKE $1`
	lock := r.begin(`LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE`)
	r.eventually("a sweep waits", func() bool {
		if r.count(waiters, "%'done', 'skipped'%") > 0 { // it is what follows a sweep
			r.commit(lock)
			lock = r.begin(`LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE`)
		}
		return r.count(waiters, "%") == 1 && r.count(waiters, "%'done', 'skipped'%") == 0
	})
	r.stopsAtOnce(run)
	r.eventually("the server has ended its statement", func() bool { return r.count(waiters, "%") == 0 })
	r.commit(lock)
}

func TestSweepThatTheServerEndsIsGivenUpAndForgetsNothing(t *testing.T) {
	const events = 10
	r := newRig(t, "", "")
	r.setString("acme:orders")
	r.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''1s''', current_database()); END $$`)
	log := &lines{}
	run := r.start(func(c *relay.Config) { c.Log = zerolog.New(log) })
	r.insert("acme", 0, events, 3)
	end := r.inserted
	r.eventually("a sweep has counted", func() bool { return run.Status().Parked.Waiting == events })
	r.eventually("the slot is confirmed past them", func() bool { return r.confirmed(end) })
	lock := r.begin(`LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE`)
	r.eventually("two sweeps are given up", func() bool { return log.count("given up for now") >= 2 })
	if n := run.Status().Parked.Waiting; n != events {
		t.Errorf("%d events wait, says the status", n)
	}
	r.commit(lock)
	r.remove("acme:orders")
	r.settled()
	r.eventually("a sweep has counted", func() bool { return run.Status().Parked.Waiting == 0 })
}
