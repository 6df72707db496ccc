package relay_test

import (
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/relay"
)

// The server has no connection left for the first clerk that needs one. Whoever needs none is not disturbed, and the clerk has its own when there is one.
func TestClerkThatGetsNoConnectionEndsNoSession(t *testing.T) {
	const opening = 3 // connections with which a session opens
	r := newRig(t, "", "")
	var full atomic.Bool
	_, through := newGateway(t, r.url, func(n int) string {
		if n > opening && full.Load() {
			return ""
		}
		return r.url
	})
	full.Store(true)
	limited, log := r.limit(smallLimit), &lines{}
	run := r.start(func(c *relay.Config) {
		limited(c)
		c.WAL.URL, c.Log = through, zerolog.New(log)
	})
	r.eventually("it is active", func() bool { return run.Status().State == relay.StateActive })
	r.insertLarge("acme", "0", 0)
	r.eventually("a task waits for a connection", func() bool { return log.count("a task on the tables waits for a connection to the database") > 0 })
	r.insert("globex", 1, 1, 1)
	full.Store(false)
	r.eventually("the refused event is parked", func() bool { return r.parked(`state = 'waiting' AND attempts > 0`) == 1 })
	r.eventually("the other one is there", func() bool { return r.length("globex:orders") == 1 })
	if s := run.Status(); s.Sessions != 1 {
		t.Errorf("%d sessions were opened, want one: %s", s.Sessions, s.Reason)
	}
}
