package relay_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
)

func TestRowsOlderThanTheSlotComeBeforeLaterOnesOfTheirKey(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	r.insert("acme", 0, 12000, 7)
	r.exec(`UPDATE outbox SET created_at = now() - interval '1 hour' + (payload->>'seq')::int * interval '1 microsecond'`)
	r.exec(`UPDATE outbox SET status = 'FAILED', retry_count = 2 WHERE (payload->>'seq')::int % 10 = 3`)
	r.exec(`UPDATE outbox SET status = 'SENT' WHERE (payload->>'seq')::int = 11999`)
	first := r.start(nil)
	r.eventually("rows are adopted", func() bool { return r.parked("true") > 0 })
	first.crash()
	r.start(nil)
	r.insert("acme", 12000, 500, 7)
	r.eventually("every event that was not SENT", func() bool { return r.length("acme:orders") >= 12499 })
	r.exec(`DELETE FROM outbox WHERE (payload->>'seq')::int = 11999`)
	r.keysInOrder("acme:orders", 12499, 7)
	r.settled()
}

// What is adopted before and after the loss stands in one order, though ids say nothing of it.
func TestSlotThatIsLostInTheMiddleOfAdoptionKeepsTheOrder(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	r.insert("acme", 0, 3000, 7)
	r.exec(`UPDATE outbox SET created_at = now() - interval '1 hour' + (payload->>'seq')::int * interval '1 microsecond'`)
	r.exec(`CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF (SELECT count(*) FROM outboxd.parked) >= 1000 THEN RAISE ''no more''; END IF; RETURN NULL; END'`)
	r.exec(`CREATE TRIGGER full_up BEFORE INSERT ON outboxd.parked FOR EACH STATEMENT EXECUTE FUNCTION full_up()`)
	for range 2 {
		before := r.count(`SELECT coalesce(max(epoch), 0) FROM outboxd.checkpoint WHERE slot = $1`, r.cfg.WAL.Slot)
		run := r.start(nil)
		r.eventually("a slot is made and recorded, and the first rows are adopted", func() bool {
			return r.parked("true") >= 1000 && r.count(`SELECT count(*) FROM outboxd.checkpoint WHERE slot = $1 AND epoch > $2 AND adopt_snapshot IS NOT NULL`,
				r.cfg.WAL.Slot, before) == 1
		})
		run.crash()
		r.dropSlot()
	}
	if n := r.parked("true"); n >= 3000 {
		t.Fatalf("%d rows are parked, so this shows nothing", n)
	}
	r.exec(`DROP TRIGGER full_up ON outboxd.parked`)
	r.start(nil)
	r.insert("acme", 3000, 100, 7)
	r.eventually("every event", func() bool { return r.length("acme:orders") >= 3100 })
	r.keysInOrder("acme:orders", 3100, 7)
	r.settled()
}

func TestBacklogIsLeftAloneOnRequest(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	r.insert("acme", 0, 10, 1)
	r.exec(`UPDATE outbox SET status = 'FAILED', retry_after = now() WHERE payload->>'seq' = '9'`)
	r.onlyLaterIsDelivered(10, func(c *relay.Config) { c.SkipBacklog = true })
	r.eventually("the rows that are left alone are NEW or FAILED", func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status IN ('NEW', 'FAILED')`) == 10
	})
	r.exec(`UPDATE outbox SET status = 'NEW' WHERE payload->>'seq' = '3'`)
	r.eventually("a row that was set back", func() bool { return r.length("acme:orders") == 2 })
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[10 3]" {
		t.Errorf("the stream holds %s, want [10 3]", got)
	}
}

// onlyLaterIsDelivered starts the relay on rows with numbers below n, and looks that of them none is delivered, and a later one is.
func (r *rig) onlyLaterIsDelivered(n int, change func(*relay.Config)) {
	r.t.Helper()
	before := r.length("acme:orders")
	run := r.start(change)
	r.eventually("it is active", func() bool { return run.Status().State == relay.StateActive })
	r.insert("acme", n, 1, 1)
	r.eventually("the later event", func() bool { return r.length("acme:orders") > before })
	r.sweeps(3)
	if got := fmt.Sprint(r.seqs("acme:orders")[before:]); got != fmt.Sprintf("[%d]", n) {
		r.t.Fatalf("the stream has got %s, want %d alone", got, n)
	}
}

func TestRowsOlderThanASlotThatSomebodyMadeAreLeftAlone(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	r.insert("acme", 0, 10, 1)
	r.exec(`UPDATE outbox SET status = 'FAILED', retry_after = now() WHERE payload->>'seq' = '9'`)
	r.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, r.cfg.WAL.Slot)
	r.onlyLaterIsDelivered(10, func(c *relay.Config) { c.WAL.Create = false })
}

// What a slot carries is delivered, though the record is made later.
func TestSlotThatSomebodyMadeIsDeliveredFromItsBeginning(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	r.insert("acme", 0, 10, 1)
	r.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, r.cfg.WAL.Slot)
	r.insert("acme", 10, 20, 1)
	r.start(func(c *relay.Config) { c.WAL.Create = false })
	r.eventually("what is behind the slot", func() bool { return r.length("acme:orders") >= 20 })
	r.eventually("its rows are settled", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'NEW'`) == 10 })
}

// With keep no row says that it was delivered. A snapshot does, also when rows are marked from then on.
func TestRowsThatWereKeptAreNotDeliveredAgainByOneThatMarks(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(func(c *relay.Config) { c.Outbox.OnSent = outbox.Keep })
	r.insert("acme", 0, 50, 1)
	r.eventually("a snapshot that sees them is stored", func() bool { return r.settledBySnapshot() == 50 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.onlyLaterIsDelivered(50, nil)
	r.eventually("the slot is lost", func() bool { // the session that follows may have it before it is dropped
		r.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, r.cfg.WAL.Slot)
		_, err := r.conn.Exec(t.Context(), `SELECT pg_drop_replication_slot($1)`, r.cfg.WAL.Slot)
		return err == nil
	})
	r.insert("acme", 51, 1, 1)
	r.eventually("a new one brings what is behind it", func() bool { return slices.Contains(r.seqs("acme:orders"), 51) })
	r.sweeps(3)
	r.keysInOrder("acme:orders", 52, 1)
}

func TestUnroutedRowsOfTheTableAreSettledWhereTheyAreDropped(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	r.insert("stranger", 0, 10, 1)
	only := route.Rule{Match: route.Match{Tenant: "acme"}, To: []route.Target{{Sink: "redis", Destination: r.prefix + ":{tenant}:{topic}"}}}
	run := r.start(func(c *relay.Config) { c.Router, c.DropUnrouted = r.routes(only), true })
	settled := func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 10 && r.parked(`true`) == 0
	}
	r.eventually("rows that are older than the slot are settled", settled)
	r.exec(`UPDATE outbox SET status = 'NEW' WHERE payload->>'seq' = '3'`)
	r.eventually("the sweep has dropped it, too", func() bool { return run.Status().DroppedUnrouted == 11 })
	r.eventually("a row that was set back is settled", settled)
}

// sweeps waits until the sweep has begun and ended so many times: each commits a marker row's state.
func (r *rig) sweeps(n int) {
	r.t.Helper()
	for range n {
		before := r.length("marker:sweep")
		r.exec(`INSERT INTO outbox (tenant_id, topic, occurred_at, payload, status, retry_after)
			VALUES ('marker', 'sweep', now(), '{"seq": 0}', 'FAILED', now())`)
		r.eventually("a sweep delivers a row that is FAILED", func() bool { return r.length("marker:sweep") > before })
	}
}

func TestLostSlotIsMadeAnewAndNothingIsLostOrDoubled(t *testing.T) {
	r := newRig(t, "", "")
	limited := r.limit(smallLimit)
	run := r.start(limited)
	r.insert("acme", 0, 100, 7)
	r.insertLarge("acme", "0", 100)
	r.insert("acme", 101, 60, 7)
	r.eventually("the refused event waits", func() bool { return r.parked(`state = 'waiting' AND attempts > 0`) == 1 })
	r.eventually("the others", func() bool { return r.length("acme:orders") > 140 })
	run.crash()
	r.insert("acme", 161, 1000, 7)
	r.dropSlot()
	r.insert("acme", 1161, 1000, 7)
	r.start(nil)
	r.insert("acme", 2161, 100, 7)
	r.eventually("every event", func() bool { return r.length("acme:orders") >= 2261 })
	r.settled()
	seen := map[int]bool{}
	for _, seq := range r.seqs("acme:orders") {
		if seen[seq] {
			t.Fatalf("event %d is doubled", seq)
		}
		seen[seq] = true
	}
	if len(seen) != 2261 {
		t.Fatalf("%d events arrived, want 2261", len(seen))
	}
}

// The snapshots that a dump brought along see every id of the transactions of the cluster that it was restored into.
func TestRowsOfARestoredDumpAreAdopted(t *testing.T) {
	for name, change := range map[string]func(*relay.Config){
		"kept rows":   func(c *relay.Config) { c.Outbox.OnSent = outbox.Keep },
		"marked rows": nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "", "")
			r.exec(`UPDATE outboxd.checkpoint SET system_identifier = '1', skipped_snapshot = '4000000000:4000000000:', settled_snapshot = '4000000000:4000000000:'`)
			r.dropSlot()
			r.insert("acme", 0, 10, 1)
			r.start(change)
			r.eventually("the rows", func() bool { return r.length("acme:orders") == 10 })
			r.insert("acme", 10, 10, 1)
			r.eventually("those of the log", func() bool { return r.length("acme:orders") == 20 })
		})
	}
}

// Both instances find that the slot is lost. The one that comes second must not make another one when it takes over.
func TestSlotThatAnotherInstanceHasMadeAnewIsKept(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(often)
	r.insert("acme", 0, 10, 7)
	r.eventually("the first events", func() bool { return r.length("acme:orders") == 10 })
	run.crash()
	r.dropSlot()
	open := r.begin(`SELECT txid_current()`) // a new slot waits for it
	lost := func(run *running) func() bool {
		return func() bool { return run.metrics(t)["outboxd_slot_lost_timestamp_seconds"] > 0 }
	}
	first := r.start(often)
	r.eventually("the first finds that the slot is lost", lost(first))
	second := r.start(often)
	r.eventually("the second finds it, too", func() bool {
		r.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)`)
		return lost(second)()
	})
	r.commit(open)
	active := func(run *running) bool { return run.Status().State == "active" }
	r.eventually("one of them streams", func() bool { return active(first) || active(second) })
	if active(second) {
		first, second = second, first
	}
	epoch := r.count(`SELECT epoch FROM outboxd.checkpoint`)
	first.crash()
	r.eventually("the other one streams", func() bool { return active(second) })
	if now := r.count(`SELECT epoch FROM outboxd.checkpoint`); now != epoch {
		t.Errorf("it made another slot: epoch %d, then %d", epoch, now)
	}
}

// toTwo sends each event to two streams.
func (r *rig) toTwo(c *relay.Config) {
	c.Router = r.routes(route.Rule{To: []route.Target{
		{Sink: "redis", Destination: r.prefix + ":one:{topic}"}, {Sink: "redis", Destination: r.prefix + ":two:{topic}"},
	}})
}

// History 4 of the protocol: parked for one destination only, and the slot is lost before the other had its turn.
func TestLostSlotDeliversParkedEventsToTheirOtherDestinations(t *testing.T) {
	r := newRig(t, "", "")
	r.setString("one:orders")
	run := r.start(r.toTwo)
	r.insert("acme", 0, 50, 3)
	r.eventually("all are parked for the one", func() bool { return r.parked(`state = 'waiting'`) == 50 })
	r.eventually("all are at the other", func() bool { return r.length("two:orders") == 50 })
	run.crash()
	r.exec(`UPDATE outboxd.checkpoint SET confirmed_lsn = '0/1' WHERE slot = $1`, r.cfg.WAL.Slot)
	r.dropSlot()
	r.remove("one:orders")
	r.start(r.toTwo)
	r.insert("acme", 50, 1, 3)
	r.eventually("all are at both", func() bool { return r.length("one:orders") >= 51 && r.length("two:orders") >= 51 })
	r.settled()
	r.keysInOrder("one:orders", 51, 3)
	r.keysInOrder("two:orders", 51, 3)
}

// What the checkpoint has passed was delivered wherever it is not parked, and may be further back there than a tail is read.
func TestLostSlotDeliversAnOldParkedEventOnlyWhereItWaits(t *testing.T) {
	const events = 6000
	r := newRig(t, "", "")
	r.setString("one:orders")
	run := r.start(r.toTwo)
	r.insert("acme", 0, events, 3)
	end := r.inserted
	r.eventually("all are parked for the one", func() bool { return r.parked(`state = 'waiting'`) == events })
	r.eventually("all are at the other", func() bool { return r.length("two:orders") == events })
	r.eventually("the checkpoint has passed them", func() bool { return r.confirmed(end) })
	run.crash()
	r.dropSlot()
	r.remove("one:orders")
	r.start(r.toTwo)
	r.insert("acme", events, 1, 3)
	r.eventually("all are at both", func() bool { return r.length("one:orders") > events && r.length("two:orders") > events })
	r.settled()
	r.keysInOrder("one:orders", events+1, 3)
	r.keysInOrder("two:orders", events+1, 3)
}

func TestRowSetBackToNewIsDeliveredAgainAsAReplay(t *testing.T) {
	r := newRig(t, "", "")
	r.start(nil)
	r.insert("acme", 0, 3, 1)
	r.eventually("all rows are SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 3 })
	r.exec(`UPDATE outbox SET status = 'NEW' WHERE (payload->>'seq')::int = 1`)
	r.eventually("it came again", func() bool { return fmt.Sprint(r.seqs("acme:orders")) == "[0 1 2 1]" })
	r.settled()
	entries, err := r.redis.XRevRangeN(t.Context(), r.stream("acme:orders"), "+", "-", 1).Result()
	if err != nil {
		t.Fatal(err)
	}
	if replay, ok := entries[0].Values["replay"]; !ok || replay == "0" {
		t.Errorf("the second delivery has replay %v, want its number", replay)
	}
}

func TestRowThatAPersonSetToSentIsSkipped(t *testing.T) {
	r := newRig(t, "", "")
	r.start(r.limit(smallLimit))
	r.insertLarge("acme", "0", 0)
	r.insert("acme", 1, 1, 1)
	r.eventually("both wait", func() bool { return r.parked(`state = 'waiting'`) == 2 })
	r.exec(`UPDATE outbox SET status = 'SENT' WHERE (payload->>'seq')::int = 0`)
	r.eventually("the later one passed", func() bool { return fmt.Sprint(r.seqs("acme:orders")) == "[1]" })
	r.settled()
}

// A copy of the data folder is put back: slot and record are there, and what is written from now on has positions that were published before.
func TestServerThatWasSetBackIsSeenByATailBeyondItsLog(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 5, 1)
	r.eventually("they are delivered", func() bool { return r.length("acme:orders") == 5 })
	r.settled()
	epoch := run.Status().Epoch
	run.crash()
	end, err := event.ParseLSN(r.logEnd())
	if err != nil {
		t.Fatal(err)
	}
	beyond := event.Position{Epoch: epoch, Commit: end + 1<<30, Ordinal: 1}
	r.append("acme:orders", sink.HeaderID, "lost with the rest", sink.HeaderPosition, beyond.String(), "payload", `{"Seq": 5}`)
	stop := func(c *relay.Config) { c.StopWhenLost = true }
	run = r.start(stop)
	r.insert("acme", 6, 5, 1)
	r.eventually("it ends, where a lost slot is not made anew", run.ended)
	last := r.redis.XRevRangeN(t.Context(), r.stream("acme:orders"), "+", "-", 1).Val()[0]
	if err := r.redis.XDel(t.Context(), r.stream("acme:orders"), last.ID).Err(); err != nil { // as if the log had passed it
		t.Fatal(err)
	}
	run = r.start(stop)
	r.eventually("it ends again", run.ended)
	if !errors.Is(run.err, relay.ErrLogLost) || !strings.Contains(run.err.Error(), "set back") {
		t.Fatalf("Run returned %v, want that the server was set back", run.err)
	}
	run = r.start(nil)
	r.eventually("what is written now", func() bool { return r.length("acme:orders") >= 10 })
	r.insert("acme", 11, 1, 1)
	r.settled()
	if got := fmt.Sprint(r.seqs("acme:orders")); got != "[0 1 2 3 4 6 7 8 9 10 11]" {
		t.Errorf("the stream holds %s", got)
	}
	if now := run.Status().Epoch; now <= epoch {
		t.Errorf("the epoch is %d, want one behind %d", now, epoch)
	}
}
