package relay_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/wal"
)

func TestTableThatRefusesMirrorsHoldsNothingUp(t *testing.T) {
	r := newRig(t, "", "")
	r.exec(`ALTER TABLE outbox ADD CHECK (status IN ('NEW', 'SENT') OR tenant_id = 'marker')`)
	log, limited := &lines{}, r.limit(smallLimit)
	run := r.start(func(c *relay.Config) {
		limited(c)
		c.Log = zerolog.New(log)
	})
	r.insertLarge("acme", "0", 0)
	r.insert("acme", 1, 5, 2)
	r.eventually("an event was refused again and again", func() bool { return r.parked(`attempts > 2`) == 1 })
	r.sweeps(2)
	if n := log.count("refuses to show what becomes of events"); n == 0 || n > 2 { // 2: a mirror, and a sweep at the same time
		t.Errorf("it was told %d times that the table refuses mirrors", n)
	}
	if s := run.Status(); s.Sessions != 1 {
		t.Errorf("%d sessions were needed: %s", s.Sessions, s.Reason)
	}
	run.crash()
	r.start(nil)
	r.settled()
	r.keysInOrder("acme:orders", 6, 2)
}

func TestRowsThatATriggerKeepsNewAreDeliveredOnce(t *testing.T) {
	r := newRig(t, "", "")
	r.exec(`CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF OLD.tenant_id = 'odd' THEN NEW.status := OLD.status; END IF; RETURN NEW; END $$`)
	r.exec(`CREATE TRIGGER keeps BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION keeps()`)
	log := &lines{}
	r.start(func(c *relay.Config) { c.Log = zerolog.New(log) })
	r.insert("odd", 0, 3, 2)
	r.insert("acme", 0, 3, 2)
	r.eventually("the others are marked", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 3 })
	r.eventually("it is told", func() bool { return log.count("rows stay undelivered though they are settled") == 1 })
	r.exec(`UPDATE outbox SET status = 'NEW' WHERE tenant_id = 'acme'`)
	r.eventually("those that a person sets back are delivered again", func() bool { return r.length("acme:orders") == 6 })
	r.sweeps(5)
	if n := r.length("odd:orders"); n != 3 {
		t.Errorf("the stream holds %d events, want 3", n)
	}
	if n := log.count("rows stay undelivered though they are settled"); n != 1 {
		t.Errorf("it was told %d times", n)
	}
}

// refuse lets the table raise an error of the application's own where a row of the tenant odd is settled.
func (r *rig) refuse() {
	r.t.Helper()
	r.exec(`CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF OLD.tenant_id = 'odd' THEN RAISE 'not this one' USING ERRCODE = '45000'; END IF; RETURN NEW; END $$`)
	r.exec(`CREATE TRIGGER refuses BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION refuses()`)
}

const refusesToSettle = "the outbox table refuses that rows are settled"

// The log is confirmed behind such rows, others are settled, and neither a sweep nor the next session delivers any once more.
func TestRowsThatTheTableRefusesToSettleStopNothing(t *testing.T) {
	r := newRig(t, "", "")
	r.refuse()
	log := &lines{}
	run := r.start(func(c *relay.Config) { c.Log = zerolog.New(log) })
	for i := range 3 {
		r.insert("odd", i, 1, 2)
		r.insert("acme", 10*i, 10, 2)
	}
	r.eventually("the others are marked", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 30 })
	r.eventually("the log is confirmed behind them", func() bool { return r.confirmed(r.inserted) })
	r.sweeps(5)
	if log.count(refusesToSettle) != 1 || log.count("not this one") == 0 {
		t.Errorf("it is told %d times in one session, want once, with the table's word", log.count(refusesToSettle))
	}
	if s := run.Status(); s.Sessions != 1 {
		t.Errorf("%d sessions were needed: %s", s.Sessions, s.Reason)
	}
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.insert("odd", 3, 1, 2)
	r.start(nil)
	r.eventually("the next one arrives", func() bool { return r.length("odd:orders") == 4 })
	r.sweeps(5)
	if n := r.length("odd:orders"); n != 4 {
		t.Errorf("the stream holds %d events, want 4", n)
	}
}

// An event that waited is removed from the parked table when it has arrived, though its row stays as it is.
func TestParkedEventsWhoseRowsTheTableRefusesToSettleArriveOnce(t *testing.T) {
	r := newRig(t, "", "")
	r.refuse()
	r.setString("odd:orders")
	r.setString("acme:orders")
	log := &lines{}
	run := r.start(func(c *relay.Config) { c.Log = zerolog.New(log) })
	r.insert("odd", 0, 3, 2)
	r.insert("acme", 0, 3, 2)
	r.eventually("they are parked", func() bool { return r.count(`SELECT count(*) FROM outboxd.parked`) == 6 })
	if err := r.redis.Del(t.Context(), r.stream("odd:orders"), r.stream("acme:orders")).Err(); err != nil {
		t.Fatal(err)
	}
	r.eventually("nothing is parked", func() bool { return r.count(`SELECT count(*) FROM outboxd.parked`) == 0 })
	r.eventually("the others are marked", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 3 })
	r.sweeps(5)
	if s := run.Status(); s.Sessions != 1 {
		t.Errorf("%d sessions were needed: %s", s.Sessions, s.Reason)
	}
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.start(nil)
	r.sweeps(5)
	for _, name := range []string{"odd:orders", "acme:orders"} {
		if n := r.length(name); n != 3 {
			t.Errorf("%s holds %d events, want 3", name, n)
		}
	}
	if log.count(refusesToSettle) == 0 {
		t.Error("it is not told")
	}
}

// A row that others refer to cannot be deleted, whether that is checked at once or when the transaction commits.
func TestRowThatIsReferredToStaysWhereRowsAreDeleted(t *testing.T) {
	for name, checked := range map[string]string{"AtOnce": "", "AtCommit": "DEFERRABLE INITIALLY DEFERRED"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "", "")
			r.exec(`CREATE TABLE receipt (id uuid REFERENCES outbox (id) ` + checked + `)`)
			r.exec(`CREATE FUNCTION receipt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF NEW.tenant_id = 'odd' THEN INSERT INTO receipt VALUES (NEW.id); END IF; RETURN NULL; END $$`)
			r.exec(`CREATE TRIGGER receipt AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION receipt()`)
			deletes := func(c *relay.Config) { c.Outbox.OnSent = outbox.Delete }
			run := r.start(deletes)
			r.insert("odd", 0, 2, 2)
			r.insert("acme", 0, 20, 2)
			r.eventually("the others are gone", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE tenant_id <> 'odd'`) == 0 })
			r.eventually("the log is confirmed behind them", func() bool { return r.confirmed(r.inserted) })
			r.sweeps(5)
			if err := run.stop(); err != nil {
				t.Fatal(err)
			}
			r.start(deletes)
			r.sweeps(5)
			if n := r.length("odd:orders"); n != 2 {
				t.Errorf("the stream holds %d events, want 2", n)
			}
		})
	}
}

// synchronous sets the server's synchronous_standby_names.
func (r *rig) synchronous(names string) {
	r.t.Helper()
	r.exec(`ALTER SYSTEM SET synchronous_standby_names = '` + names + `'`)
	r.exec(`SELECT pg_reload_conf()`)
	r.eventually("the server has read it", func() bool {
		return r.count(`SELECT count(*) WHERE current_setting('synchronous_standby_names') = $1`, names) == 1
	})
}

func TestOutboxdIsNoSynchronousStandby(t *testing.T) {
	r := newRig(t, testenv.NewPostgres(t, testenv.PostgresOptions{}).Database(t), "")
	t.Cleanup(r.forgetStandby)
	log := &lines{}
	run := r.start(func(c *relay.Config) { c.Log = zerolog.New(log) })
	r.insert("acme", 0, 1, 1)
	r.settled()
	r.synchronous("ANY 1 (*)")
	r.eventually("the session ends with what mends it", func() bool { return log.count("name the standbys, and no others") > 0 })
	r.eventually("no WAL sender is left", func() bool { return r.count(`SELECT count(*) FROM pg_stat_replication`) == 0 })
	if run.ended() {
		t.Fatalf("Run returned %v", run.err)
	}
	r.synchronous("")
	r.insert("acme", 1, 1, 1)
	r.settled()
	r.sequence("acme:orders", 2)
	if err := run.stop(); err != nil {
		t.Error(err)
	}

	r.synchronous("*")
	run = r.start(nil)
	r.eventually("it ends", run.ended)
	if failed := wal.CheckErrors(run.err); len(failed) != 1 || failed[0].Check != wal.CheckSynchronous {
		t.Errorf("Run returned %v, want the check of synchronous standbys", run.err)
	}
}

// forgetful is a sink that accepts a batch, and answers that it was refused, of unknown fate, once.
type forgetful struct {
	sink.Sink
	done *atomic.Bool
}

func (f forgetful) Publish(ctx context.Context, batch []sink.Message) []error {
	results := f.Sink.Publish(ctx, batch)
	if f.done.CompareAndSwap(false, true) {
		results = make([]error, len(batch))
		for i := range results {
			results[i] = &sink.Error{Class: sink.Rejected, Err: errors.New("refused, or not")}
		}
	}
	return results
}

func TestKeyOfARefusedEventThatTheTailHoldsWaitsNoMore(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(func(c *relay.Config) {
		c.Sinks = map[string]sink.Sink{"redis": forgetful{c.Sinks["redis"], new(atomic.Bool)}}
	})
	r.insert("acme", 0, 1, 1)
	end := r.inserted
	r.eventually("the tail says that it is there", func() bool { return r.length("acme:orders") == 1 && r.confirmed(end) })
	r.insert("acme", 1, 1, 1)
	r.eventually("the next event of its key", func() bool { return r.length("acme:orders") == 2 })
	for name, n := range run.metrics(t) {
		if strings.HasPrefix(name, "outboxd_parked_events_total") && n > 0 {
			t.Errorf("%s is %v: the key waits for an event that is there", name, n)
		}
	}
}
