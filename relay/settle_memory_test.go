package relay_test

import "testing"

// Events that are delivered keep their memory until their rows are settled. Those that are named with a locked row wait for it, and leave memory to others.
func TestLockedRowAmongLargeOnesHoldsUpNoDelivery(t *testing.T) {
	const events, size = 3000, 8000 // three times the memory
	r := newRig(t, "", "")
	insert := func(first, n int) {
		r.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
			SELECT 'acme', 'order', (i % 7)::text, 'orders', now(), jsonb_build_object('seq', i, 'blob', repeat('x', $3)) FROM generate_series($1::int, $1::int + $2::int - 1) i`,
			first, n, size)
	}
	insert(0, events)
	lock := r.begin(`SELECT FROM outbox WHERE payload->>'seq' = '0' FOR UPDATE`)
	r.start(nil)
	r.eventually("all events", func() bool { return r.length("acme:orders") == events })
	r.eventually("most of the others are SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) > events/2 })
	r.commit(lock)
	r.settled()
	r.sequence("acme:orders", events)
}
