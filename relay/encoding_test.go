package relay_test

import (
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
)

// Such a database takes any bytes, and one event that is not UTF-8 must hold up no other.
func TestEventThatIsNotUTF8IsParkedAndOthersAreDelivered(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	elsewhere := &rig{t: t, url: server.URL}
	elsewhere.conn = elsewhere.connect()
	elsewhere.exec(`CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII'`)
	r := newRig(t, server.DatabaseURL("bytes"), "")
	bad := func(key string) {
		r.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
			SELECT 'acme', 'order', $1, 'orders', now(), to_jsonb(E'caf\xe9'::text)`, key)
	}
	r.unrecord()
	bad("old")
	r.insert("acme", 1, 5, 2)
	run := r.start(nil)
	r.eventually("rows that are older than the slot are delivered", func() bool { return run.ended() || r.length("acme:orders") == 5 })
	if run.ended() {
		t.Fatalf("Run ended with %v", run.err)
	}
	bad("new")
	r.insert("acme", 6, 5, 2)
	r.eventually("events behind it in the log are delivered", func() bool { return r.length("acme:orders") == 10 })
	r.eventually("what is not UTF-8 is refused", func() bool { return r.parked(`reason LIKE '%payload: it is not UTF-8%' AND attempts > 0`) == 2 })
	if n := run.Status().Sessions; n != 1 {
		t.Errorf("it took %d sessions", n)
	}
}
