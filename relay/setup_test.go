package relay_test

import (
	"strings"
	"testing"

	"github.com/outboxd/outboxd/relay"
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
