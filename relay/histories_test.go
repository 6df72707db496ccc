package relay_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
)

// silent is a sink that publishes and never answers.
type silent struct{ sink.Sink }

func (s silent) Publish(ctx context.Context, batch []sink.Message) []error {
	s.Sink.Publish(ctx, batch)
	<-ctx.Done()
	results := make([]error, len(batch))
	for i := range results {
		results[i] = errors.New("no answer")
	}
	return results
}

// History 5 of the protocol: the table lane delivers events whose rows nobody sees yet. They stay in the table until the rows are seen and marked;
// else the sweep would find them NEW and deliver them again.
func TestParkedEventThatIsDeliveredBeforeItsRowIsVisibleIsMarkedWhenItIs(t *testing.T) {
	const events = 20
	r := newRig(t, testenv.NewPostgres(t, testenv.PostgresOptions{}).Database(t), "")
	r.commitAlone()
	r.setString("acme:orders")
	r.start(nil)
	held := r.insertUnseen(0, events)
	r.eventually("the events are parked", func() bool { return r.parked(`state = 'waiting'`) == events })
	r.remove("acme:orders")
	r.eventually("they are delivered", func() bool { return r.length("acme:orders") == events && r.parked(`state = 'done'`) == events })
	r.sweeps(2)
	if n := r.parked(`tenant_id = 'acme' AND state = 'done'`); n != events {
		t.Errorf("%d events are left in the table, want all until their rows are marked", n)
	}
	r.forgetStandby()
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	r.settled()
	r.sweeps(2)
	r.sequence("acme:orders", events)
}

// remove deletes a stream, or what stands in its place.
func (r *rig) remove(name string) {
	r.t.Helper()
	if err := r.redis.Del(r.t.Context(), r.stream(name)).Err(); err != nil {
		r.t.Fatal(err)
	}
}

// History 8 of the protocol: the slot is lost with more events that landed and are not settled than a batch holds.
func TestLostSlotWithMoreUnsettledEventsThanABatchDoublesNothing(t *testing.T) {
	const events = 2*sink.MaxBatch + 500
	r := newRig(t, "", "")
	r.insert("acme", 0, events, 7)
	lock := r.begin(`SELECT FROM outbox FOR UPDATE`)
	run := r.start(nil)
	r.eventually("all have landed", func() bool { return r.length("acme:orders") == events })
	run.crash()
	r.dropSlot()
	r.commit(lock)
	r.start(nil)
	r.insert("acme", events, 1, 7)
	r.eventually("the event behind them", func() bool { return r.length("acme:orders") > events })
	r.settled()
	r.keysInOrder("acme:orders", events+1, 7)
}

// What landed is adopted without a route after a lost slot, and retried when it has one: it is looked for where it may stand.
func TestRetriedEventThatLandedBeforeItLostItsRouteIsNotDoubled(t *testing.T) {
	r := newRig(t, "", "")
	others := func(c *relay.Config) {
		c.Router = r.routes(route.Rule{Match: route.Match{Tenant: "other"}, To: []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}"}}})
	}
	r.insert("acme", 0, 3, 3)
	lock := r.begin(`SELECT FROM outbox FOR UPDATE`)
	run := r.start(nil)
	r.eventually("all have landed", func() bool { return r.length("acme:orders") == 3 })
	run.crash()
	r.dropSlot()
	r.commit(lock)
	run = r.start(others)
	r.eventually("they are adopted without a route", func() bool {
		return run.Status().State == relay.StateActive && r.parked(`state = 'dead' AND sink = ''`) == 3
	})
	run.crash()
	run = r.start(nil)
	r.insert("acme", 3, 1, 1)
	r.eventually("a later event", func() bool { return r.length("acme:orders") == 4 })
	if n, err := park.Retry(t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, park.Filter{}, "test"); n != 3 || err != nil {
		t.Fatalf("%d events retried, %v", n, err)
	}
	r.eventually("nothing waits", func() bool { return r.parked(`true`) == 0 })
	r.settled()
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[0 1 2 3]" {
		t.Errorf("the stream holds %s, want [0 1 2 3]", got)
	}
	if n := run.Status().Sessions; n != 2 {
		t.Errorf("there were %d sessions, want one more for all of them", n)
	}
}

// settledBySnapshot is how many rows the stored snapshot sees.
func (r *rig) settledBySnapshot() int {
	r.t.Helper()
	return r.count(`SELECT count(*) FROM outbox o, outboxd.checkpoint c WHERE c.slot = $1
		AND txid_visible_in_snapshot(o.xmin::text::bigint, c.settled_snapshot::txid_snapshot)`, r.cfg.WAL.Slot)
}

// History 9 of the protocol: with `keep` no row says that it was delivered, and here no tail does. A stored snapshot does.
func TestLostSlotOfKeptRowsAdoptsOnlyWhatIsBehindTheStoredSnapshot(t *testing.T) {
	r := newRig(t, "", "")
	keep := func(c *relay.Config) { c.Outbox.OnSent = outbox.Keep }
	run := r.start(keep)
	r.insert("acme", 0, 50, 1)
	r.eventually("a snapshot that sees them is stored", func() bool { return r.settledBySnapshot() == 50 })
	run.crash()
	r.remove("acme:orders")
	r.dropSlot()
	r.insert("acme", 50, 5, 1)
	run = r.start(keep)
	r.eventually("it is active", func() bool { return run.Status().State == relay.StateActive })
	r.insert("acme", 55, 1, 1)
	r.eventually("the last event", func() bool { return r.length("acme:orders") > 5 })
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[50 51 52 53 54 55]" {
		t.Errorf("the stream holds %s, want 50 to 55", got)
	}
}

// History 10 of the protocol: an event is skipped, and nothing in the table tells any more; then a crash of PostgreSQL moves the slot back. The
// checkpoint does not move, and the stream begins there.
func TestSkipIsNotUndoneByASlotThatFallsBack(t *testing.T) {
	r := newRig(t, "", "")
	early := r.cfg.WAL.Slot + "_early"
	r.exec(`SELECT pg_copy_logical_replication_slot($1, $2)`, r.cfg.WAL.Slot, early)
	run := r.start(r.limit(smallLimit))
	r.insertLarge("acme", "0", 0)
	r.eventually("the event waits", func() bool { return r.parked(`state = 'waiting'`) == 1 })
	if n, err := park.Skip(t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, park.Filter{}, "test"); n != 1 || err != nil {
		t.Fatalf("%d events skipped, %v", n, err)
	}
	r.settled()
	run.crash()
	r.dropSlot()
	r.exec(`SELECT pg_copy_logical_replication_slot($1, $2)`, early, r.cfg.WAL.Slot)
	r.exec(`SELECT pg_drop_replication_slot($1)`, early)
	if r.count(`SELECT count(*) FROM outboxd.checkpoint c JOIN pg_replication_slots s ON s.slot_name = c.slot AND s.confirmed_flush_lsn < c.confirmed_lsn`) != 1 {
		t.Fatal("the slot has not fallen behind the checkpoint")
	}
	r.start(nil)
	r.insert("acme", 1, 1, 1)
	r.eventually("the later event", func() bool { return r.length("acme:orders") > 0 })
	r.settled()
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[1]" {
		t.Errorf("the stream holds %s, want [1]", got)
	}
}

// History 11 of the protocol: a replay is parked and the process restarts. The event's first delivery is in the tail, and is not that of the replay.
func TestReplayIsDeliveredThoughTheTailHoldsItsEvent(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 3, 1)
	r.settled()
	run.crash()
	r.parkReplays("acme:orders", 1)
	silenced := r.start(func(c *relay.Config) { c.Sinks = map[string]sink.Sink{"redis": silent{c.Sinks["redis"]}} })
	r.eventually("the replay", func() bool { return r.length("acme:orders") == 4 })
	silenced.crash()
	r.start(nil)
	r.settled()
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[0 1 2 1]" {
		t.Errorf("the stream holds %s, want [0 1 2 1]", got)
	}
}

// parkReplays parks the event with the seq once more, as `events replay` does.
func (r *rig) parkReplays(stream string, seq int) {
	r.t.Helper()
	var id string
	if err := r.conn.QueryRow(r.t.Context(), `SELECT id::text FROM outbox WHERE (payload->>'seq')::int = $1`, seq).Scan(&id); err != nil {
		r.t.Fatal(err)
	}
	table, err := outbox.Describe(r.t.Context(), r.conn, r.cfg.Outbox)
	if err != nil {
		r.t.Fatal(err)
	}
	found, err := table.Read(r.t.Context(), r.conn, []string{id})
	if err != nil || len(found) != 1 {
		r.t.Fatalf("%d rows, %v", len(found), err)
	}
	number, err := park.NextReplays(r.t.Context(), r.conn, "outboxd", 1)
	if err != nil {
		r.t.Fatal(err)
	}
	row := park.Row{
		Event: found[0].Event, Replay: number, Destination: park.Destination{Sink: "redis", Name: r.stream(stream)}, Target: r.stream(stream),
	}
	row.Event.Position.Epoch = 0
	row.Key, _ = park.KeyOf(&row.Event, number, nil)
	if n, err := park.InsertReplays(r.t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot, []park.Row{row}, "test"); n != 1 || err != nil {
		r.t.Fatalf("%d replays parked, %v", n, err)
	}
}

// History 17 of the protocol: a batch of the table lane landed and was not settled; the next process is configured for smaller batches.
func TestBatchThatLandedIsFoundByAProcessWithSmallerBatches(t *testing.T) {
	r := newRig(t, "", "")
	sized := func(n int) func(*relay.Config) {
		return func(c *relay.Config) { c.BatchMessages, c.Table.BatchSize = n, n }
	}
	r.setString("acme:orders")
	run := r.start(nil)
	r.insert("acme", 0, sink.MaxBatch, 1)
	r.eventually("all are parked", func() bool { return r.parked(`state = 'waiting'`) == sink.MaxBatch })
	run.crash()
	r.remove("acme:orders")
	run = r.start(func(c *relay.Config) {
		sized(sink.MaxBatch)(c)
		c.Sinks = map[string]sink.Sink{"redis": silent{c.Sinks["redis"]}}
	})
	r.eventually("they have landed", func() bool { return r.length("acme:orders") == sink.MaxBatch })
	run.crash()
	if n := r.parked(`state = 'waiting'`); n != sink.MaxBatch {
		t.Fatalf("%d rows wait, want all: the settle came before the crash", n)
	}
	r.start(sized(10))
	r.settled()
	r.sequence("acme:orders", sink.MaxBatch)
}
