package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/relay"
)

// oldRows adds rows of the given status and age, in days.
func (o *operator) oldRows(n int, status string, days int) {
	o.t.Helper()
	o.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload, status, created_at)
		SELECT 'acme', 'order', i::text, 'order.created', now(), '{}', $2, now() - make_interval(days => $3) FROM generate_series(1, $1) i`, n, status, days)
}

func (o *operator) rows() int {
	o.t.Helper()
	return o.count(`SELECT count(*) FROM outbox`)
}

func TestCleanupDeletesWhatIsOldAndDelivered(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "OUTBOXD_CLEANUP_BATCH_SIZE=100")
	o.oldRows(250, "SENT", 8)
	o.oldRows(10, "SENT", 6)
	o.oldRows(5, "NEW", 100)
	o.oldRows(3, "DEAD", 100)

	o.want("cleanup --help", "an event that outboxd itself made dead stays until a person")
	o.want("cleanup --dry-run", "would delete 250 rows, looked at 3 batches, in ")
	if got := o.rows(); got != 268 {
		t.Fatalf("a dry run left %d rows", got)
	}
	out, _ := o.run(0, "cleanup", "--yes", "--output", "json")
	var s struct {
		Deleted, Batches int
		Duration         string
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Deleted != 250 || s.Batches != 3 || s.Duration == "" {
		t.Errorf("cleanup prints %s (%v)", out, err)
	}
	o.want("cleanup --yes --set cleanup.dead_retention=24h", "deleted 3 rows, looked at 1 batch")
	if got := o.rows(); got != 15 {
		t.Errorf("%d rows are left, want 15", got)
	}
}

func TestOneCleanupRunsAtATime(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	cfg := config.Default()
	if err := lockCleanup(t.Context(), o.conn, cfg); err != nil {
		t.Fatal(err)
	}
	_, stderr := o.run(1, "cleanup", "--yes")
	if want := "outboxd: another cleanup of this table is under way: wait until it has ended\n"; stderr != want {
		t.Errorf("a second cleanup says %q, want %q", stderr, want)
	}
	if err := unlockCleanup(t.Context(), o.conn, cfg); err != nil {
		t.Fatal(err)
	}
	o.want("cleanup --yes", "deleted 0 rows")
}

// Rows that are kept have no status that says they were delivered: the confirmed position does.
func TestCleanupOfKeptRowsStaysBelowTheConfirmedPosition(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "OUTBOXD_ON_SENT=keep")
	o.start()
	id := o.insert("acme", "1", 10)
	o.eventuallyIn("acme", id)
	o.exec(`UPDATE outbox SET created_at = now() - interval '8 days'`)
	eventually(t, "the row is below the confirmed position", func() bool {
		out, _ := o.run(0, "cleanup", "--yes")
		return strings.HasPrefix(out, "deleted 1 row,")
	})
	o.stop()
}

// still is a reporter whose state does not change.
type still relay.State

func (s still) Status() relay.Status { return relay.Status{State: relay.State(s)} }

// inactive is a reporter that stands by, and can be waited for.
type inactive chan struct{}

func (c inactive) Status() relay.Status {
	c <- struct{}{}
	return relay.Status{State: relay.StateStandby}
}

func (o *operator) config() *config.Config {
	o.t.Helper()
	cfg, _, err := config.Load(config.Options{Environ: o.environ})
	if err != nil {
		o.t.Fatal(err)
	}
	return cfg
}

// lines is a log that can be waited for.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func TestJanitorCleansUpWhileTheRelayIsActive(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "OUTBOXD_CLEANUP_SCHEDULE=@every 1s")
	o.oldRows(7, "SENT", 8)
	log := make(lines, 100)
	stop, err := startJanitor(t.Context(), o.config(), still(relay.StateActive), zerolog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	line := <-log
	stop()
	if !containsAll(line, []string{`"level":"info"`, `"deleted":7`, `"batches":1`, `"duration":"`, `"message":"cleaned up old rows"`}) {
		t.Errorf("the janitor logs %s", line)
	}
	if got := o.rows(); got != 0 {
		t.Errorf("%d rows are left", got)
	}
}

func TestJanitorOfAnInactiveInstanceDoesNothing(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "OUTBOXD_CLEANUP_SCHEDULE=@every 1s")
	o.oldRows(7, "SENT", 8)
	asked := make(chan struct{}, 100)
	stop, err := startJanitor(t.Context(), o.config(), inactive(asked), zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	<-asked // so the first time is over
	stop()
	if got := o.rows(); got != 7 {
		t.Errorf("%d rows are left, want 7", got)
	}
}

func TestJanitorEndsItsWorkWhenAnotherInstanceTakesOver(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "OUTBOXD_CLEANUP_BATCH_SIZE=2")
	o.oldRows(7, "SENT", 8)
	j := &janitor{cfg: o.config(), active: func() bool { return false }, log: zerolog.Nop()}
	if s, err := j.clean(t.Context()); s.Deleted != 2 || !errors.Is(err, errInactive) {
		t.Errorf("an instance that is no longer active goes on: %+v, %v", s, err)
	}
}

func TestJanitorWithoutAScheduleDoesNotStart(t *testing.T) {
	cfg := config.Default()
	cfg.Cleanup.Schedule = ""
	stop, err := startJanitor(t.Context(), cfg, nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	stop()
}

// What is parked, of whatever slot, is found by the text of its id, which the log has in one form.
func TestCleanupKeepsRowsOfParkedEventsWhateverTheFormOfTheirIDs(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "OUTBOXD_CLEANUP_DEAD_RETENTION=24h")
	o.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET bytea_output = escape', current_database()); END $$`)
	o.exec(`ALTER TABLE outbox ALTER id DROP DEFAULT, ALTER id TYPE bytea USING uuid_send(id)`)
	o.exec(`INSERT INTO outbox (id, tenant_id, topic, occurred_at, payload, status, created_at)
		SELECT decode(id, 'hex'), 'acme', 'order.paid', now(), '{}', 'DEAD', now() - interval '9 days' FROM unnest(ARRAY['01ff', '02ff']) id`)
	o.exec(`INSERT INTO outboxd.lease (slot, term, holder) VALUES ('another', 1, 'test')`)
	o.exec(`INSERT INTO outboxd.parked (slot, id, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, bytes)
		VALUES ('another', '\x01ff', 'redis', 'd', 'd', 'dead', 1, '0/1', 1, 1, 1)`)
	o.want("cleanup --dry-run", "would delete 1 row,")
	j := &janitor{cfg: o.config(), active: func() bool { return true }, log: zerolog.Nop()}
	if s, err := j.clean(t.Context()); s.Deleted != 1 || err != nil {
		t.Errorf("the janitor deletes %d rows, %v; want 1", s.Deleted, err)
	}
	if n := o.count(`SELECT count(*) FROM outbox WHERE id = '\x01ff'`); n != 1 {
		t.Error("the row of the parked event is gone")
	}
}
