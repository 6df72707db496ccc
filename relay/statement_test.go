package relay_test

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/relay"
)

// The server ends a statement that takes too long, in both lanes, and it is tried again until it succeeds.
func TestAStatementThatTakesTooLongIsEndedAndTriedAgain(t *testing.T) {
	r := newRig(t, "", "")
	log := &lines{}
	run := r.start(func(c *relay.Config) { c.StatementTimeout, c.Log = time.Second, zerolog.New(log) })
	r.insert("acme", 0, 1, 1)
	r.settled()
	held, err := r.connect().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Whatever a session writes waits for this row; lock_timeout, 5 s, would come later.
	if _, err := held.Exec(t.Context(), `SELECT FROM outboxd.lease FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	r.insert("acme", 1, 1, 1)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.text.String())
		}
	})
	r.eventually("the server ends a statement", func() bool { return log.count("canceling statement due to statement timeout") > 0 })
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.settled()
	if run.ended() {
		t.Errorf("it ended: %v", run.err)
	}
}
