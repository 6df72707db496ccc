package relay_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
	"github.com/outboxd/outboxd/wal"
)

// logLines keeps what a relay logs.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// with returns the lines of a level.
func (l *logLines) with(level string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, `"level":"`+level+`"`) {
			lines = append(lines, line)
		}
	}
	return lines
}

// smallSink is a Redis that rejects messages of more than 2,000 bytes.
func (r *rig) smallSink() map[string]sink.Sink {
	r.t.Helper()
	small, err := redis.New(redis.Config{URL: "redis://" + r.redis.Options().Addr + "/0", MaxMessageBytes: 2000})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := small.Close(context.Background()); err != nil {
			r.t.Errorf("close the sink: %v", err)
		}
	})
	return map[string]sink.Sink{"redis": small}
}

const largeID = "00000000-0000-0000-0000-00000000feed"

func TestRejectedEventStopsTheStreamUntilItsCauseIsGone(t *testing.T) {
	r := newRig(t, "", "")
	var lines logLines
	run := r.start(func(c *relay.Config) { c.Sinks, c.Log = r.smallSink(), zerolog.New(&lines) })
	r.insert("acme", 0, 20, 3)
	before := r.logEnd()
	r.exec(`INSERT INTO outbox (id, tenant_id, aggregate_id, topic, occurred_at, payload)
		VALUES ($1, 'acme', 'k', 'orders', now(), jsonb_build_object('seq', 20, 'blob', repeat('x', 5000)))`, largeID)
	after := r.logEnd()
	r.insert("acme", 21, 5, 3)
	r.insert("other", 0, 5, 3)

	r.eventually("the stream stops", func() bool { return run.Status().State == relay.StateStopped })
	r.sequence("acme:orders", 20)
	tries := run.Status().Sessions
	r.eventually("it tries again, and is not ready meanwhile", func() bool {
		err := run.Ready()
		if err == nil || !strings.Contains(err.Error(), largeID) || !strings.Contains(err.Error(), "bytes") {
			t.Fatalf("ready: %v, want an error with the event's id and the reason", err)
		}
		return run.Status().Sessions >= tries+3
	})
	r.eventually("what stands before is confirmed", func() bool { return r.confirmed(before) })
	if errs := lines.with("error"); len(errs) != 1 || !strings.Contains(errs[0], largeID) {
		t.Errorf("want one Error line with the event's id, got %q", errs)
	}
	if r.confirmed(after) {
		t.Error("the slot is confirmed past the event")
	}
	r.sequence("acme:orders", 20)
	if n := r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT' AND tenant_id = 'acme'`); n != 20 {
		t.Errorf("%d rows are SENT, want the 20 before the event", n)
	}
	run.crash()

	r.start(nil)
	r.eventually("all events", func() bool { return r.length("acme:orders") == 26 && r.length("other:orders") == 5 })
	r.sequence("acme:orders", 26)
	r.sequence("other:orders", 5)
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
}

func TestRowWithoutATenantStopsTheStreamBehindWhatStandsBefore(t *testing.T) {
	r := newRig(t, "", "")
	r.exec(`ALTER TABLE outbox ALTER tenant_id DROP NOT NULL`)
	// All of it is there before the relay starts, and comes in one piece.
	r.insert("acme", 0, 20, 3)
	before := r.logEnd()
	r.exec(`INSERT INTO outbox (id, topic, occurred_at, payload) VALUES ($1, 'orders', now(), '{}')`, largeID)
	after := r.logEnd()
	r.insert("acme", 20, 5, 3)
	var lines logLines
	run := r.start(func(c *relay.Config) { c.Log = zerolog.New(&lines) })
	r.eventually("the stream stops", func() bool { return run.Status().State == relay.StateStopped })
	if err := run.Ready(); err == nil || !strings.Contains(err.Error(), largeID) || !strings.Contains(err.Error(), "tenant_id") {
		t.Errorf("ready: %v, want the row's id and the column", err)
	}
	if errs := lines.with("error"); len(errs) != 1 || !strings.Contains(errs[0], largeID) {
		t.Errorf("want one Error line with the row's id, got %q", errs)
	}
	r.eventually("what stands before is delivered and confirmed", func() bool { return r.length("acme:orders") == 20 && r.confirmed(before) })
	if r.confirmed(after) {
		t.Error("the slot is confirmed past the row")
	}
	r.sequence("acme:orders", 20)
}

func TestDroppedColumnEndsTheRelayWithItsName(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("the first event", func() bool { return r.length("acme:orders") == 1 })
	r.exec(`ALTER TABLE outbox DROP COLUMN schema_id`)
	end := r.logEnd()
	r.insert("acme", 1, 1, 1)
	r.eventually("Run returns", run.ended)
	if len(wal.CheckErrors(run.err)) == 0 || !strings.Contains(run.err.Error(), "schema_id") {
		t.Errorf("Run returned %v, want a failed check that names the column", run.err)
	}
	if n := r.length("acme:orders"); n != 1 || r.count(`SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn > $2::text::pg_lsn`, r.cfg.WAL.Slot, end) != 0 {
		t.Errorf("%d events were published, or the slot passed the one without the column", n)
	}
}

func TestRenamedTableHoldsTheStreamAndIsNamed(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("the first row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 1 })
	r.exec(`ALTER TABLE outbox RENAME TO letterbox`)
	r.exec(`INSERT INTO letterbox (tenant_id, topic, occurred_at, payload) VALUES ('acme', 'orders', now(), '{"seq": 1}')`)
	end := r.logEnd()
	r.eventually("it is not ready, and says which table is missing", func() bool {
		err := run.Ready()
		return err != nil && strings.Contains(err.Error(), `"outbox"`) && strings.Contains(err.Error(), "no such table")
	})
	if r.length("acme:orders") != 1 || r.confirmed(end) {
		t.Errorf("the row of the renamed table was published, or the slot has passed it, to %s", end)
	}
}

func TestTruncateAndAddedColumnsAreHarmless(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 10, 2)
	r.exec(`TRUNCATE outbox`)
	r.insert("acme", 10, 10, 2)
	r.exec(`ALTER TABLE outbox ADD COLUMN colour text DEFAULT 'red'`)
	r.insert("acme", 20, 10, 2)
	r.exec(`ALTER TABLE outbox DROP COLUMN colour`)
	r.insert("acme", 30, 10, 2)
	end := r.logEnd()
	r.insert("acme", 40, 1, 2)
	r.eventually("all is confirmed", func() bool { return r.confirmed(end) })
	r.eventually("all events", func() bool { return r.length("acme:orders") == 41 })
	r.sequence("acme:orders", 41)
	if n := run.Status().Sessions; n != 1 {
		t.Errorf("it took %d sessions", n)
	}
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
}

func TestSessionThatLostItsTermChangesNothing(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("the first row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 1 })
	term := run.Status().Term
	// Both at once: when the session settles the event its term is gone.
	tx := r.begin(`INSERT INTO outbox (tenant_id, topic, occurred_at, payload) VALUES ('acme', 'orders', now(), '{"seq": 1}')`)
	if _, err := park.Raise(t.Context(), tx, "outboxd", r.cfg.WAL.Slot, "somebody"); err != nil {
		t.Fatal(err)
	}
	r.commit(tx)
	r.eventually("a session with a later term", func() bool { return run.Status().Term >= term+2 })
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
	r.sequence("acme:orders", 2)
	if n := run.Status().Sessions; n != 2 {
		t.Errorf("%d sessions, want a second one that settled the event", n)
	}
}
