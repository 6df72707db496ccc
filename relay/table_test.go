package relay_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

// limit makes the rig's broker refuse larger messages.
func (r *rig) limit(bytes int) func(*relay.Config) {
	r.t.Helper()
	broker, err := redis.New(redis.Config{URL: r.redisURL, MaxMessageBytes: bytes})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = broker.Close(context.Background()) })
	return func(c *relay.Config) { c.Sinks = map[string]sink.Sink{"redis": broker} }
}

const smallLimit = 4096

// insertLarge commits one event that smallLimit refuses.
func (r *rig) insertLarge(tenant, key string, seq int) {
	r.t.Helper()
	r.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
		VALUES ($1, 'order', $2, 'orders', now(), jsonb_build_object('seq', $3::int, 'blob', repeat('x', 8000)))`, tenant, key, seq)
}

func (r *rig) parked(where string) int {
	r.t.Helper()
	return r.count(`SELECT count(*) FROM outboxd.parked WHERE slot = $1 AND `+where, r.cfg.WAL.Slot)
}

// settled waits until every row is SENT and nothing is parked.
func (r *rig) settled() {
	r.t.Helper()
	r.eventually("every row is SENT and nothing is parked", func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 && r.parked(`true`) == 0
	})
}

func TestLaterEventsOfAKeyWaitBehindARefusedOneAndOthersFlow(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(r.limit(smallLimit))
	r.insert("acme", 0, 1, 1) // key 0
	r.insertLarge("acme", "0", 1)
	r.insert("acme", 2, 1, 1)
	r.insert("acme", 3, 1, 2) // key 1
	end := r.inserted
	r.eventually("the other key's event is there", func() bool { return len(r.seqs("acme:orders")) == 2 })
	r.eventually("two events wait", func() bool { return r.parked(`state = 'waiting'`) == 2 })
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[0 3]" {
		t.Fatalf("the stream holds %s, want [0 3]", got)
	}
	r.eventually("the row says FAILED and why", func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status = 'FAILED' AND retry_count > 0 AND retry_after IS NOT NULL
			AND error_message LIKE '%max_message_bytes%'`) == 1
	})
	r.eventually("the slot is confirmed past it", func() bool { return r.confirmed(end) })
	run.crash()

	r.start(nil)
	r.settled()
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[0 3 1 2]" {
		t.Fatalf("the stream holds %s, want [0 3 1 2]", got)
	}
}

func TestDeadEventLetsLaterOnesPassOrBlocksThem(t *testing.T) {
	for _, blocks := range []bool{false, true} {
		t.Run(fmt.Sprintf("blocks %v", blocks), func(t *testing.T) {
			r := newRig(t, "", "")
			limited := r.limit(smallLimit)
			r.start(func(c *relay.Config) {
				limited(c)
				c.Table.MaxAttempts = 2
				c.Router = r.routes(route.Rule{Blocks: blocks, To: []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}:{topic}"}}})
			})
			r.insertLarge("acme", "0", 0)
			r.insert("acme", 1, 1, 1)
			r.eventually("the event is dead", func() bool { return r.parked(`state = 'dead' AND attempts = 2`) == 1 })
			r.eventually("its row is DEAD", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'DEAD'`) == 1 })
			r.insert("acme", 2, 1, 1)
			r.insert("acme", 3, 1, 2)
			if !blocks {
				r.eventually("later events passed, those of its key in order", func() bool {
					got := r.seqs("acme:orders")
					return len(got) == 3 && slices.Contains(got, 3) && slices.Index(got, 1) < slices.Index(got, 2)
				})
				return
			}
			r.eventually("the other key's event passed", func() bool { return fmt.Sprint(r.seqs("acme:orders")) == "[3]" })
			r.eventually("the later ones wait", func() bool { return r.parked(`state = 'waiting'`) == 2 })
		})
	}
}

func TestDestinationThatRefusesEverythingIsParkedAndOthersFlow(t *testing.T) {
	r := newRig(t, "", "")
	broken := r.stream("broken:orders")
	if err := r.redis.Set(t.Context(), broken, "no stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.start(nil)
	const events = 5000
	for i := range 10 {
		r.insert("broken", i*events/10, events/10, 7)
		r.insert("acme", i*events/10, events/10, 7)
	}
	end := r.inserted
	r.eventually("the other tenant's events", func() bool { return r.length("acme:orders") == events })
	r.eventually("the broken one's are parked", func() bool { return r.parked(`state = 'waiting'`) == events })
	r.eventually("the slot is confirmed past them", func() bool { return r.confirmed(end) })
	if err := r.redis.Del(t.Context(), broken).Err(); err != nil {
		t.Fatal(err)
	}
	r.insert("broken", events, events/10, 7)
	r.eventually("all of them are there", func() bool { return r.length("broken:orders") >= events+events/10 })
	r.keysInOrder("broken:orders", events+events/10, 7)
	r.settled()
}

// keysInOrder checks that the stream holds the events 0 to n-1 once, those of each of so many keys in order.
func (r *rig) keysInOrder(name string, n, keys int) {
	r.t.Helper()
	got := r.seqs(name)
	last, seen := map[int]int{}, map[int]bool{}
	for _, seq := range got {
		if before, ok := last[seq%keys]; ok && seq < before {
			r.t.Fatalf("event %d of key %d comes behind %d", seq, seq%keys, before)
		}
		if seen[seq] {
			r.t.Fatalf("event %d is doubled", seq)
		}
		last[seq%keys], seen[seq] = seq, true
	}
	if len(seen) != n {
		r.t.Fatalf("%s holds %d events, want %d", name, len(seen), n)
	}
}

// held is how many bytes of log lie behind what the slot is confirmed to.
func (r *rig) held() int {
	r.t.Helper()
	return r.count(`SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1`, r.cfg.WAL.Slot)
}

func TestBrokerThatIsDownHoldsTheLogAndIsSpilledPastTheLimit(t *testing.T) {
	const limit, enough = 4 << 20, 40_000 // bytes of log, and events that make more
	redis := durableRedis(t)
	r := newRig(t, "", redis.URL)
	run := r.start(func(c *relay.Config) { c.MaxRetainedWAL = limit })
	r.insert("acme", 0, 100, 7)
	end := r.inserted
	r.eventually("the first events are delivered and confirmed", func() bool { return r.length("acme:orders") == 100 && r.confirmed(end) })
	redis.Kill()
	next := 100
	for ; r.held() < limit/2 && next < enough; next += 500 {
		r.insert("acme", next, 500, 7)
	}
	end = r.inserted
	r.eventually("the broker counts as down", func() bool { return r.down(run, "redis") })
	const measurements = `outboxd_database_query_seconds{statement="measure"}`
	before := run.metrics(t)[measurements]
	r.eventually("the log that is held is measured", func() bool { return run.metrics(t)[measurements] >= before+2 || r.parked(`true`) > 0 })
	if n := r.parked(`true`); n > 0 || r.confirmed(end) {
		t.Errorf("inside the limit %d events are parked, and the log up to %s is confirmed: %v; want it held", n, end, r.confirmed(end))
	}
	for ; r.held() <= limit && next < enough; next += 500 {
		r.insert("acme", next, 500, 7)
	}
	end = r.inserted
	r.eventually("beyond it all are parked, and the slot moves on while the broker is down", func() bool {
		return r.parked(`state = 'waiting'`) == next-100 && r.confirmed(end)
	})
	run.crash()
	run = r.start(func(c *relay.Config) { c.MaxRetainedWAL = 1 })
	r.insert("acme", next, 3000, 7)
	next += 3000
	r.eventually("what was committed is parked", func() bool { return r.parked(`state = 'waiting'`) >= next-100 })
	redis.Start()
	r.insert("acme", next, 1000, 7)
	next += 1000
	r.eventually("all of them are there", func() bool { return r.length("acme:orders") >= int64(next) })
	r.keysInOrder("acme:orders", next, 7)
	r.settled()
	r.insert("acme", next, 1, 7)
	r.eventually("the log lane has it again", func() bool { return r.length("acme:orders") == int64(next+1) && run.Status().Parked.WholeBacklogs == 0 })
}

func TestCrashesWithARefusingDestinationLoseAndDoubleNothing(t *testing.T) {
	r := newRig(t, "", "")
	limited := r.limit(smallLimit)
	w := r.write(2 * time.Millisecond)
	for i := range 12 {
		run := r.start(func(c *relay.Config) {
			if i%3 == 0 {
				limited(c)
			}
		})
		if i%3 == 0 {
			r.insertLarge("acme", fmt.Sprint("large", i), 1_000_000+i)
		}
		before := r.length("acme:orders")
		r.eventually("the stream grows", func() bool { return r.length("acme:orders") > before+20 })
		run.crash()
	}
	r.start(nil)
	w.end()
	want := r.count(`SELECT count(*) FROM outbox`)
	r.eventually("every event", func() bool { return r.length("acme:orders") >= int64(want) })
	r.settled()
	seen, last := map[int]bool{}, -1
	for _, seq := range r.seqs("acme:orders") {
		if seen[seq] {
			t.Fatalf("event %d is doubled", seq)
		}
		seen[seq] = true
		if seq < 1_000_000 {
			if seq < last {
				t.Fatalf("event %d comes behind %d", seq, last)
			}
			last = seq
		}
	}
	if len(seen) != want {
		t.Fatalf("%d events arrived, %d were committed", len(seen), want)
	}
}

func TestEventWithoutARouteIsParkedForAPerson(t *testing.T) {
	r := newRig(t, "", "")
	only := route.Rule{
		Match: route.Match{Tenant: "acme"},
		To:    []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}:{topic}"}},
	}
	run := r.start(func(c *relay.Config) { c.Router = r.routes(only) })
	r.insert("stranger", 0, 1, 1)
	r.insert("acme", 0, 1, 1)
	end := r.inserted
	r.eventually("the other tenant's event", func() bool { return r.length("acme:orders") == 1 })
	r.eventually("the event is parked dead", func() bool { return r.parked(`state = 'dead' AND sink = '' AND reason LIKE '%no route%'`) == 1 })
	r.eventually("the slot is confirmed past it", func() bool { return r.confirmed(end) })
	if err := run.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
}

func TestNameThatLeavesItsPlaceIsParkedForAPerson(t *testing.T) {
	r := newRig(t, "", "")
	r.start(nil)
	r.insert("acme:evil", 0, 1, 1)
	r.eventually("the event is parked dead", func() bool { return r.parked(`state = 'dead' AND reason LIKE '%separator%'`) == 1 })
}

func TestRowWithoutATenantIsParkedForAPerson(t *testing.T) {
	r := newRig(t, "", "")
	r.exec(`ALTER TABLE outbox ALTER tenant_id DROP NOT NULL`)
	r.start(nil)
	r.exec(`INSERT INTO outbox (topic, occurred_at, payload) VALUES ('orders', now(), '{}')`)
	r.insert("acme", 0, 1, 1)
	r.eventually("the valid event", func() bool { return r.length("acme:orders") == 1 })
	r.eventually("the row is parked dead", func() bool { return r.parked(`state = 'dead' AND reason LIKE '%tenant_id%NULL%'`) == 1 })
}

func TestKeysThatAreTooManyToRememberWaitAsOneBacklogAndBlockedOnesStayBlocked(t *testing.T) {
	r := newRig(t, "", "")
	broken := r.stream("acme:orders")
	route := r.routes(route.Rule{Blocks: true, To: []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}:{topic}"}}})
	limited := r.limit(smallLimit)
	run := r.start(func(c *relay.Config) { limited(c); c.Router, c.Table.DeadAtOnce = route, true })
	r.insertLarge("acme", "0", 0)
	r.eventually("key 0 is blocked", func() bool { return r.parked(`state = 'dead' AND blocks`) == 1 })
	run.crash()
	if err := r.redis.Set(t.Context(), broken, "no stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	run = r.start(func(c *relay.Config) { limited(c); c.Router = route })
	r.insert("acme", 1, 50, 5)
	r.eventually("the others wait", func() bool { return r.parked(`state = 'waiting'`) == 50 })
	run.crash()
	if err := r.redis.Del(t.Context(), broken).Err(); err != nil {
		t.Fatal(err)
	}
	run = r.start(func(c *relay.Config) { limited(c); c.Router, c.Table.MaxKeys = route, 2 })
	r.eventually("the other keys' events are there", func() bool { return r.length("acme:orders") == 40 })
	r.insert("acme", 51, 1, 5)
	r.eventually("the log lane has it again", func() bool { return r.length("acme:orders") == 41 && run.Status().Parked.WholeBacklogs == 0 })
	for _, seq := range r.seqs("acme:orders") {
		if seq%5 == 0 {
			t.Errorf("event %d passed the dead one of its key", seq)
		}
	}
}
