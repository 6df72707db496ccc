package relay_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
)

func TestKeysThatDoNotFitIntoOneLoadWaitNoLongerThanTheOthers(t *testing.T) {
	const keys, blocked = 12, 100
	r := newRig(t, "", "")
	limited := r.limit(smallLimit)
	blocks := func(c *relay.Config) {
		c.Router = r.routes(route.Rule{Blocks: true, To: []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}:{topic}"}}})
	}
	run := r.start(func(c *relay.Config) { limited(c); blocks(c); c.Table.DeadAtOnce = true })
	r.insertLarge("acme", "blocked", blocked)
	r.eventually("a key is blocked", func() bool { return r.parked(`state = 'dead' AND blocks`) == 1 })
	run.crash()
	run = r.start(func(c *relay.Config) { limited(c); blocks(c) })
	r.insertLarge("acme", "blocked", blocked+1)
	for i := range keys {
		r.insertLarge("acme", fmt.Sprint(i), i)
	}
	r.eventually("all wait", func() bool { return r.parked(`state = 'waiting'`) == keys+1 })
	run.crash()
	r.start(func(c *relay.Config) { blocks(c); c.BatchBytes = 20_000 }) // two events
	r.eventually("the keys that are not blocked", func() bool { return r.length("acme:orders") >= keys && r.parked(`state = 'waiting'`) == 1 })
	if n, err := park.Retry(t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, park.Filter{States: []park.State{park.Dead}}, "test"); n != 1 || err != nil {
		t.Fatalf("%d events retried, %v", n, err)
	}
	r.settled()
	got := r.seqs("acme:orders")
	if len(got) != keys+2 || !slices.Equal(got[keys:], []int{blocked, blocked + 1}) {
		t.Errorf("the stream holds %v, want the %d others and then %d and %d", got, keys, blocked, blocked+1)
	}
}

// A destination that rejects one event after the other costs neither a load nor a settle for each of them.
func TestRejectionsOfOneTurnAreSettledTogether(t *testing.T) {
	const events = 200
	r := newRig(t, "", "")
	limited := r.limit(smallLimit)
	run := r.start(func(c *relay.Config) { limited(c); c.Table.BackoffBase = time.Hour })
	for i := range events {
		r.insertLarge("acme", fmt.Sprint(i), i)
	}
	rejected := func() bool { return r.parked(`attempts = 1 AND due_at > now() + interval '1 minute'`) == events }
	r.eventually("all are rejected", rejected)
	statements := func() float64 {
		all := run.metrics(t)
		return all[`outboxd_database_query_seconds{statement="load"}`] + all[`outboxd_database_query_seconds{statement="deliver"}`]
	}
	before, began := statements(), time.Now()
	if n, err := park.Retry(t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, park.Filter{}, "test"); n != events || err != nil {
		t.Fatalf("%d events retried, %v", n, err)
	}
	r.eventually("all are rejected once more", rejected)
	slow := time.Since(began) / (250 * time.Millisecond) // turns that a slow machine can have ended by their time, each of which is loaded and settled
	if n := statements() - before; n == 0 || n > events/8+2*float64(slow) {
		t.Errorf("%v statements for %d rejected events, and %d turns at most took too long", n, events, slow)
	}
}

// gated is a sink that takes so many batches, and then waits until it is opened.
type gated struct {
	sink.Sink
	batches atomic.Int64
	waiting atomic.Bool
	open    chan struct{}
}

func (g *gated) Publish(ctx context.Context, batch []sink.Message) []error {
	if g.batches.Add(-1) < 0 {
		g.waiting.Store(true)
		<-g.open
	}
	return g.Sink.Publish(ctx, batch)
}

func TestRowsParkedBeforeAndBehindAScanAreDeliveredInOrder(t *testing.T) {
	const backlog, later = 400, 200
	r := newRig(t, "", "")
	r.insert("acme", 0, backlog, 7)
	r.setString("acme:orders")
	g := &gated{Sink: r.cfg.Sinks["redis"], open: make(chan struct{})}
	g.batches.Store(1000)
	run := r.start(func(c *relay.Config) {
		c.Sinks, c.BatchMessages = map[string]sink.Sink{"redis": g}, 50
	})
	r.eventually("all are parked", func() bool { return r.parked(`state = 'waiting'`) == backlog })
	g.batches.Store(3)
	r.remove("acme:orders")
	r.eventually("the scan is under way", g.waiting.Load)
	r.parkReplays("acme:orders", 3) // before everything
	r.insert("acme", backlog, later, 7)
	r.eventually("later events are parked behind it", func() bool { return r.parked(`replay = 0 AND state = 'waiting'`) > later })
	close(g.open)
	r.settled()
	r.eventually("the log lane has it again", func() bool { return run.Status().Parked.WholeBacklogs == 0 })
	if n := r.removeReplays("acme:orders"); n != 1 {
		t.Errorf("%d replays arrived, want 1", n)
	}
	r.keysInOrder("acme:orders", backlog+later, 7)
}

// removeReplays deletes replays from the stream and returns how many there were.
func (r *rig) removeReplays(name string) (n int) {
	r.t.Helper()
	entries, err := r.redis.XRange(r.t.Context(), r.stream(name), "-", "+").Result()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := e.Values[sink.HeaderReplay]; !ok {
			continue
		}
		n++
		if err := r.redis.XDel(r.t.Context(), r.stream(name), e.ID).Err(); err != nil {
			r.t.Fatal(err)
		}
	}
	return n
}

// What had no route waits for a person, whatever the routes say after a restart; and then for the checkpoint, because events before it may be in
// the log alone.
func TestEventWithoutARouteIsDeliveredWhenItHasOneAndAPersonRetriesIt(t *testing.T) {
	r := newRig(t, "", "")
	only := route.Rule{
		Match: route.Match{Tenant: "acme"},
		To:    []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}:{topic}"}},
	}
	retry := func(seq int) {
		t.Helper()
		filter := park.Filter{AggregateID: fmt.Sprint(seq)}
		if n, err := park.Retry(t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, filter, "test"); n != 1 || err != nil {
			t.Fatalf("%d events retried, %v", n, err)
		}
	}
	r.insert("acme", 0, 1, 1)
	lock := r.begin(`SELECT FROM outbox FOR UPDATE`) // so that the checkpoint passes nothing
	run := r.start(func(c *relay.Config) { c.Router = r.routes(only) })
	r.insert("stranger", 0, 3, 3)
	r.eventually("they are parked", func() bool { return r.parked(`state = 'dead' AND sink = ''`) == 3 })
	run.crash()
	retry(0)

	run = r.start(nil)
	r.insert("stranger", 3, 1, 4)
	r.eventually("a later event", func() bool { return r.length("stranger:orders") == 1 })
	retry(1)
	r.sweeps(2)
	if got := fmt.Sprint(r.seqs("stranger:orders")); got != "[3]" {
		t.Errorf("the stream holds %s before the checkpoint has passed, want [3]", got)
	}
	r.commit(lock)
	r.eventually("those that were retried", func() bool { return r.length("stranger:orders") == 3 })
	retry(2)
	r.settled()
	got := r.seqs("stranger:orders")
	slices.Sort(got)
	if fmt.Sprint(got) != "[0 1 2 3]" || run.Status().Sessions != 1 {
		t.Errorf("the stream holds %v after %d sessions, want each of 0 to 3 once", got, run.Status().Sessions)
	}
	r.sequence("acme:orders", 1)
}

func TestMoreEventsWithoutARouteThanOneLoadTakesGetTheirDestinations(t *testing.T) {
	const events, size = 6, 1 << 20
	r := newRig(t, "", "")
	run := r.start(func(c *relay.Config) {
		c.Router = r.routes(route.Rule{Match: route.Match{Tenant: "other"}, To: []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}"}}})
	})
	r.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
		SELECT 'acme', 'order', '0', 'orders', now(), jsonb_build_object('seq', i, 'blob', repeat('x', $2)) FROM generate_series(0, $1::int - 1) i`, events, size)
	r.eventually("they are parked", func() bool { return r.parked(`state = 'dead' AND sink = ''`) == events })
	run.crash()
	r.start(nil)
	if n, err := park.Retry(t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, park.Filter{}, "test"); n != events || err != nil {
		t.Fatalf("%d events retried, %v", n, err)
	}
	r.settled()
	r.sequence("acme:orders", events)
}

func TestLargeOldRowsAreParkedBySeveralStatements(t *testing.T) {
	const rows, size, most = 300, 20_000, 4<<20 + 2*20_000
	r := newRig(t, "", "")
	r.unrecord()
	r.exec(`CREATE TABLE statements (bytes bigint)`)
	r.exec(`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO public.statements SELECT sum(length(payload::text)) FROM added; RETURN NULL; END $$`)
	r.exec(`CREATE TRIGGER note AFTER INSERT ON outboxd.parked REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION note()`)
	r.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
		SELECT 'acme', 'order', '0', 'orders', now(), jsonb_build_object('seq', i, 'blob', repeat('x', $2)) FROM generate_series(0, $1::int - 1) i`, rows, size)
	r.start(func(c *relay.Config) {
		c.Router = r.routes(route.Rule{To: []route.Target{
			{Sink: "redis", Destination: r.prefix + ":one:{topic}"}, {Sink: "redis", Destination: r.prefix + ":two:{topic}"},
		}})
	})
	r.settled()
	r.sequence("one:orders", rows)
	r.sequence("two:orders", rows)
	if n := r.count(`SELECT max(bytes) FROM statements`); n > most {
		t.Errorf("one statement parked %d bytes, want %d at most", n, most)
	}
}
