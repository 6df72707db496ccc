package relay_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

// A standby was promoted, and its old primary goes on. The checkpoint there is far ahead of the new primary's, where those positions belong to other transactions. While an
// address changes over, the first connections of a session lead to the old one, and the others to the new one.
func TestSessionHasAllItsConnectionsToOneServer(t *testing.T) {
	old := testenv.NewPostgres(t, testenv.PostgresOptions{})
	r := newRig(t, old.URL, "")
	keep := func(c *relay.Config) { c.Outbox.OnSent = outbox.Keep } // by which no row tells that it was delivered
	run := r.startWithOne(keep)
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	promoted := r.promotedBeside(old)
	r.exec(`SELECT pg_switch_wal()`)
	run = r.start(keep)
	r.insert("old", 0, 10, 1)
	r.eventually("the old primary's events", func() bool { return r.length("old:orders") == 10 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}

	r.url = promoted.URL
	r.conn = r.connect()
	r.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, r.cfg.WAL.Slot)
	r.exec(`UPDATE outboxd.checkpoint SET confirmed_lsn = (SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1)`, r.cfg.WAL.Slot)
	epoch := r.count(`SELECT epoch FROM outboxd.checkpoint`)
	const events = 5
	for i, first := range []string{"control", "control and replication", "all with which a session opens"} {
		t.Run(first, func(t *testing.T) {
			r.insert("acme", 1+i*events, events, 1)
			_, through := newGateway(t, old.URL, func(n int) string {
				if n <= i+1 {
					return old.URL
				}
				return promoted.URL
			})
			log := &lines{}
			run := r.start(func(c *relay.Config) {
				keep(c)
				c.WAL.URL, c.Log = through, zerolog.New(log)
			})
			r.eventually("the new primary's events", func() bool { return r.length("acme:orders") >= int64(1+(i+1)*events) })
			if err := run.stop(); err != nil {
				t.Fatal(err)
			}
			r.sequence("acme:orders", 1+(i+1)*events)
			if now := r.count(`SELECT epoch FROM outboxd.checkpoint`); now != epoch || log.count(fmt.Sprint(wal.ErrOtherServer)) == 0 {
				t.Errorf("the epoch is %d, want %d; the log:\n%s", now, epoch, &log.text)
			}
		})
	}
}

// promotedBeside makes a standby of the server, and promotes it while that goes on.
func (r *rig) promotedBeside(server *testenv.PostgresServer) *testenv.PostgresServer {
	r.t.Helper()
	standby, err := server.Standby(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := standby.Close(context.Background()); err != nil {
			r.t.Error(err)
		}
	})
	r.exec(`ALTER SYSTEM SET synchronous_standby_names = ''`)
	r.exec(`SELECT pg_reload_conf()`)
	if err := standby.Promote(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return standby
}
