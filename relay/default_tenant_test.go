package relay_test

import (
	"fmt"
	"testing"

	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
)

// A NULL tenant and the default one are the same tenant, with one order per key: in rows older than the slot, in the log, parked, and set back to
// NEW.
func TestRowsWithoutATenantHaveTheDefaultOneInBothLanes(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	r.exec(`ALTER TABLE outbox ALTER tenant_id DROP NOT NULL`)
	limited := r.limit(smallLimit)
	defaulted := func(c *relay.Config) {
		c.Columns.DefaultTenant, c.Outbox.DefaultTenant = "acme", "acme"
	}
	anonymous := func() { r.exec(`UPDATE outbox SET tenant_id = NULL WHERE (payload->>'seq')::int % 2 = 1`) }
	r.insert("acme", 0, 20, 1)
	anonymous()
	r.exec(`UPDATE outbox SET created_at = now() - interval '1 hour' + (payload->>'seq')::int * interval '1 microsecond'`)
	run := r.start(func(c *relay.Config) { limited(c); defaulted(c) })
	r.eventually("the older rows", func() bool { return r.length("acme:orders") == 20 })

	r.exec(`ALTER TABLE outbox ALTER tenant_id SET DEFAULT NULL`)
	insert := func(seq int, blob int) {
		r.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, topic, occurred_at, payload)
			VALUES ('order', '0', 'orders', now(), jsonb_build_object('seq', $1::int, 'blob', repeat('x', $2)))`, seq, blob)
	}
	insert(20, 0)
	r.eventually("a fresh row", func() bool { return r.length("acme:orders") == 21 })
	insert(21, 8000) // refused
	r.insert("acme", 22, 1, 1)
	insert(23, 0)
	r.eventually("later events of the key wait", func() bool { return r.parked(`state = 'waiting' AND tenant_id = 'acme'`) == 3 })
	run.crash()
	r.start(defaulted)
	r.settled()
	want := make([]int, 24)
	for i := range want {
		want[i] = i
	}
	if got := fmt.Sprint(r.seqs("acme:orders")); got != fmt.Sprint(want) {
		t.Fatalf("the stream holds %s, want %v", got, want)
	}
	r.exec(`UPDATE outbox SET status = 'NEW' WHERE (payload->>'seq')::int = 23`)
	r.eventually("a row that was set back to NEW", func() bool { return r.length("acme:orders") == 25 })
	r.settled()
}

func TestATableWithoutATenantHasTheDefaultOne(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	r.exec(`ALTER TABLE outbox DROP tenant_id`)
	insert := func(seq int) {
		r.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, topic, occurred_at, payload) VALUES ('order', '0', 'orders', now(), jsonb_build_object('seq', $1::int))`, seq)
	}
	insert(0)
	r.start(func(c *relay.Config) {
		c.Columns.TenantID, c.Columns.DefaultTenant = "", "acme"
		c.WAL.Columns = c.Columns.Names()
		c.Outbox.Columns.TenantID, c.Outbox.DefaultTenant = "", "acme"
	})
	r.eventually("the older row", func() bool { return r.length("acme:orders") == 1 })
	insert(1)
	r.eventually("the fresh row", func() bool { return r.length("acme:orders") == 2 })
	r.settled()
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[0 1]" {
		t.Errorf("the stream holds %s", got)
	}
}

func TestEventWithoutATenantIsDeliveredWhereItIsRetriedWithADefault(t *testing.T) {
	r := newRig(t, "", "")
	r.exec(`ALTER TABLE outbox ALTER tenant_id DROP NOT NULL`)
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload) VALUES (NULL, 'order', '0', 'orders', now(), '{"seq": 1}')`)
	r.eventually("it is dead", func() bool { return r.parked(`state = 'dead' AND reason LIKE '%database.default_tenant%'`) == 1 })
	run.crash()
	r.start(func(c *relay.Config) { c.Columns.DefaultTenant, c.Outbox.DefaultTenant = "acme", "acme" })
	if n, err := park.Retry(t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, park.Filter{}, "test"); n != 1 || err != nil {
		t.Fatalf("%d events retried, %v", n, err)
	}
	r.settled()
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[0 1]" {
		t.Errorf("the stream holds %s", got)
	}
}
