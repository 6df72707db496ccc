package relay_test

import (
	"errors"
	"testing"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/relay"
)

// until lets the relay end at the position.
func (r *rig) until(lsn string) func(*relay.Config) {
	r.t.Helper()
	position, err := event.ParseLSN(lsn)
	if err != nil {
		r.t.Fatal(err)
	}
	return func(c *relay.Config) { c.Until = position }
}

// end waits until Run has returned.
func (r *rig) end(run *running) error {
	r.t.Helper()
	r.eventually("Run ends", run.ended)
	return run.err
}

func TestRunUntilAPositionDeliversWhatWasCommittedBeforeItAndNothingBehind(t *testing.T) {
	r := newRig(t, "", "")
	open := r.begin(`INSERT INTO outbox (tenant_id, aggregate_id, topic, occurred_at, payload) VALUES ('acme', 'k', 'orders', now(), '{"seq": 40}')`)
	for i := range 20 {
		r.insert("acme", i, 1, 3)
	}
	position := r.logEnd()
	r.insert("acme", 20, 20, 3)
	r.commit(open) // begun before the position
	if err := r.end(r.start(r.until(position))); err != nil {
		t.Fatal(err)
	}
	r.sequence("acme:orders", 20)
	if !r.confirmed(position) {
		t.Error("the slot is not confirmed up to the position")
	}
	if n := r.count(`SELECT count(*) FROM outboxd.checkpoint WHERE confirmed_lsn >= $1::text::pg_lsn`, position); n != 1 {
		t.Error("the checkpoint is before the position")
	}
	r.start(nil)
	r.settled()
	r.sequence("acme:orders", 41)
}

func TestRunUntilAPositionEndsWhereNoEventComes(t *testing.T) {
	r := newRig(t, "", "")
	r.exec(`CREATE TABLE other ()`) // the log goes on
	position := r.logEnd()
	r.exec(`DROP TABLE other`)
	if err := r.end(r.start(r.until(position))); err != nil {
		t.Fatal(err)
	}
	if n := r.count(`SELECT count(*) FROM outboxd.checkpoint WHERE confirmed_lsn >= $1::text::pg_lsn`, position); n != 1 {
		t.Error("the checkpoint is before the position")
	}
}

func TestRunUntilAPositionDoesNotWaitForAnotherInstance(t *testing.T) {
	r := newRig(t, "", "")
	active := r.start(nil)
	r.eventually("it is active", func() bool { return active.Status().State == relay.StateActive })
	if err := r.end(r.start(r.until(r.logEnd()))); !errors.Is(err, relay.ErrOtherActive) {
		t.Errorf("got %v, want %v", err, relay.ErrOtherActive)
	}
}
