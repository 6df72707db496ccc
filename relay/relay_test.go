package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/route"
)

func TestCommittedInsertsArriveInCommitOrderAndAreMarked(t *testing.T) {
	r := newRig(t, "", "")
	r.start(nil)
	for i := range 20 {
		r.insert("acme", i*10, 10, 3)
	}
	r.eventually("200 entries", func() bool { return r.length("acme:orders") == 200 })
	r.sequence("acme:orders", 200)
	r.eventually("every row is SENT", func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 200
	})
}

// sequence checks that the stream holds the events 0 to n-1 in order.
func (r *rig) sequence(name string, n int) {
	r.t.Helper()
	entries, err := r.redis.XRange(r.t.Context(), r.stream(name), "-", "+").Result()
	if err != nil {
		r.t.Fatal(err)
	}
	if len(entries) != n {
		r.t.Fatalf("%s holds %d entries, want %d", name, len(entries), n)
	}
	for i, e := range entries {
		var body struct{ Seq int }
		text, _ := e.Values["payload"].(string)
		if err := json.Unmarshal([]byte(text), &body); err != nil || body.Seq != i {
			r.t.Fatalf("entry %d of %s is %q", i, name, text)
		}
	}
}

func TestRolledBackInsertsAreNotPublished(t *testing.T) {
	r := newRig(t, "", "")
	r.start(nil)
	tx, err := r.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO outbox (tenant_id, topic, occurred_at, payload) VALUES ('acme', 'orders', now(), '{}')`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.insert("acme", 0, 1, 1)
	r.eventually("the later event", func() bool { return r.length("acme:orders") > 0 })
	r.sequence("acme:orders", 1)
}

func TestDeletedAndKeptRows(t *testing.T) {
	for _, test := range []struct {
		onSent outbox.OnSent
		left   int
	}{{outbox.Delete, 0}, {outbox.Keep, 5}} {
		t.Run(string(test.onSent), func(t *testing.T) {
			r := newRig(t, "", "")
			run := r.start(func(c *relay.Config) { c.Outbox.OnSent = test.onSent })
			r.insert("acme", 0, 5, 1)
			r.eventually("5 entries", func() bool { return r.length("acme:orders") == 5 })
			if err := run.stop(); err != nil {
				t.Fatal(err)
			}
			if n := r.count(`SELECT count(*) FROM outbox WHERE status = 'NEW'`); n != test.left {
				t.Errorf("%d rows are left, want %d", n, test.left)
			}
		})
	}
}

func TestRowsThatAreNotNewAreIgnored(t *testing.T) {
	r := newRig(t, "", "")
	r.start(nil)
	r.exec(`INSERT INTO outbox (tenant_id, topic, occurred_at, payload, status) VALUES ('acme', 'orders', now(), '{}', 'SENT')`)
	r.insert("acme", 0, 1, 1)
	r.eventually("the fresh event", func() bool { return r.length("acme:orders") > 0 })
	r.sequence("acme:orders", 1)
}

func TestRestartRepeatsNothing(t *testing.T) {
	r := newRig(t, "", "")
	for round := range 5 {
		run := r.start(nil)
		r.insert("acme", round*50, 50, 7)
		if round%2 == 0 {
			r.eventually("some entries", func() bool { return r.length("acme:orders") > int64(round*50) })
			run.crash()
			continue
		}
		if err := run.stop(); err != nil {
			t.Fatal(err)
		}
	}
	r.start(nil)
	r.eventually("250 entries", func() bool { return r.length("acme:orders") >= 250 })
	r.sequence("acme:orders", 250)
}

func TestUnroutedEventIsDroppedWhereConfigured(t *testing.T) {
	r := newRig(t, "", "")
	only := route.Rule{
		Match: route.Match{Tenant: "acme"},
		To:    []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}:{topic}"}},
	}
	run := r.start(func(c *relay.Config) { c.Router, c.DropUnrouted = r.routes(only), true })
	r.insert("stranger", 0, 1, 1)
	r.insert("acme", 0, 1, 1)
	r.eventually("the other event", func() bool { return r.length("acme:orders") == 1 })
	if n := run.Status().DroppedUnrouted; n != 1 {
		t.Errorf("%d events counted as dropped, want 1", n)
	}
}

func TestEventGoesToEveryDestinationOfItsRoute(t *testing.T) {
	r := newRig(t, "", "")
	both := route.Rule{To: []route.Target{
		{Sink: "redis", Destination: r.prefix + ":one:{topic}"}, {Sink: "redis", Destination: r.prefix + ":two:{topic}"},
	}}
	run := r.start(func(c *relay.Config) { c.Router = r.routes(both) })
	r.insert("acme", 0, 100, 5)
	r.eventually("both streams", func() bool { return r.length("one:orders") == 100 && r.length("two:orders") == 100 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.sequence("one:orders", 100)
	r.sequence("two:orders", 100)
	if n := r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`); n != 0 {
		t.Errorf("%d rows are not SENT after a clean stop", n)
	}
}

func TestSecondInstanceStandsByAndTakesOver(t *testing.T) {
	r := newRig(t, "", "")
	first := r.start(nil)
	r.eventually("the first is active", func() bool { return first.Status().State == relay.StateActive })
	var looks atomic.Int32
	second := r.start(func(c *relay.Config) {
		c.Admit = func(context.Context, *pgx.Conn) error { looks.Add(1); return nil }
	})
	r.eventually("the second stands by", func() bool { return second.Status().State == relay.StateStandby })
	if err := second.Ready(); err != nil {
		t.Errorf("a standby is not ready: %v", err)
	}
	r.insert("acme", 0, 10, 1)
	before := looks.Load()
	first.crash()
	r.insert("acme", 10, 10, 1)
	r.eventually("20 entries", func() bool { return r.length("acme:orders") >= 20 })
	r.sequence("acme:orders", 20)
	if looks.Load() == before {
		t.Error("the schema was not looked at again after the wait")
	}
}

func stopWhenLost(c *relay.Config) { c.StopWhenLost = true }

func TestSlotThatSomebodyElseMadeAnewIsAnErrorWhereConfigured(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("the event", func() bool { return r.length("acme:orders") == 1 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.dropSlot()
	lost := r.start(stopWhenLost)
	<-lost.done
	if !errors.Is(lost.err, relay.ErrLogLost) {
		t.Fatalf("with the slot dropped Run returned %v, want ErrLogLost", lost.err)
	}
	r.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, r.cfg.WAL.Slot)
	moved := r.start(stopWhenLost)
	<-moved.done
	if !errors.Is(moved.err, relay.ErrLogLost) {
		t.Fatalf("with the slot made anew Run returned %v, want ErrLogLost", moved.err)
	}
}

func TestLargePayloadPassesAlone(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(func(c *relay.Config) { c.MemoryBudget = 1 << 20 })
	r.insert("acme", 0, 1, 1)
	r.exec(`INSERT INTO outbox (tenant_id, aggregate_id, topic, occurred_at, payload)
		VALUES ('acme', '0', 'orders', now(), jsonb_build_object('seq', 1, 'blob', repeat('x', 50 * 1024 * 1024)))`)
	r.insert("acme", 2, 1, 1)
	r.eventually("3 entries", func() bool { return r.length("acme:orders") == 3 })
	r.sequence("acme:orders", 3)
	r.eventually("the memory is given back", func() bool { return run.Status().InFlightBytes <= 1<<20 })
}

func TestLargeTransactionPassesInsideTheBudget(t *testing.T) {
	const events, budget = 100_000, 2 << 20
	r := newRig(t, "", "")
	run := r.start(func(c *relay.Config) { c.MemoryBudget = budget })
	r.eventually("it is active", func() bool { return run.Status().State == relay.StateActive })
	r.insert("acme", 0, events, 1000)
	most := int64(0)
	r.eventually("all entries", func() bool {
		most = max(most, run.Status().InFlightBytes)
		return r.length("acme:orders") == events
	})
	if most == 0 || most > budget {
		t.Errorf("up to %d bytes were in flight, the budget is %d", most, budget)
	}
	r.sequence("acme:orders", events)
	r.eventually("every row is SENT", func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status = 'NEW'`) == 0
	})
}
