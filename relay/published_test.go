package relay_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

// away takes the table out of the publication, commits the events 1 to 5, and puts the table back.
func (r *rig) away() {
	r.t.Helper()
	r.exec(`ALTER PUBLICATION outboxd DROP TABLE outbox`)
	r.insert("acme", 1, 5, 1)
	r.exec(`ALTER PUBLICATION outboxd ADD TABLE outbox`)
}

// startWithOne starts the relay and waits for a first event.
func (r *rig) startWithOne(change func(*relay.Config)) *running {
	r.t.Helper()
	run := r.start(change)
	r.insert("acme", 0, 1, 1)
	r.eventually("the first event", func() bool { return r.length("acme:orders") == 1 })
	return run
}

// published is what is on record.
func (r *rig) published() (text string) {
	r.t.Helper()
	if err := r.conn.QueryRow(r.t.Context(), `SELECT coalesce(published, '') FROM outboxd.checkpoint WHERE slot = $1`, r.cfg.WAL.Slot).Scan(&text); err != nil {
		r.t.Fatal(err)
	}
	return text
}

// The log lacks what was inserted meanwhile, and with keep nothing else tells of it.
func TestTableThatLeftThePublicationWhileNobodyLookedIsALostSlot(t *testing.T) {
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Keep} {
		for name, end := range map[string]func(*running){"stopped": func(run *running) { _ = run.stop() }, "killed": (*running).crash} {
			t.Run(string(onSent)+" "+name, func(t *testing.T) {
				r := newRig(t, "", "")
				change := func(c *relay.Config) { c.Outbox.OnSent = onSent }
				run := r.startWithOne(change)
				epoch := run.Status().Epoch
				end(run)
				r.away()
				run = r.start(change)
				r.insert("acme", 6, 1, 1)
				r.eventually("all events", func() bool {
					seqs := r.seqs("acme:orders")
					return !slices.ContainsFunc([]int{0, 1, 2, 3, 4, 5, 6}, func(seq int) bool { return !slices.Contains(seqs, seq) })
				})
				if now := run.Status().Epoch; now <= epoch {
					t.Errorf("the epoch is %d, want one behind %d", now, epoch)
				}
				if onSent == outbox.Mark {
					r.settled()
					r.sequence("acme:orders", 7)
				}
			})
		}
	}
}

// That the table is back does not make the log whole.
func TestLogThatLacksRowsIsLostUntilASlotIsMadeAnew(t *testing.T) {
	r := newRig(t, "", "")
	stop := func(c *relay.Config) { c.StopWhenLost = true }
	run := r.start(stop)
	r.eventually("it is active", func() bool { return run.Status().State == relay.StateActive })
	run.crash()
	r.away()
	for range 2 {
		run = r.start(stop)
		r.eventually("it ends", run.ended)
		if !errors.Is(run.err, relay.ErrLogLost) || !strings.Contains(run.err.Error(), "its publication was changed") {
			t.Fatalf("Run returned %v, want that the publication was changed", run.err)
		}
	}
	run = r.start(nil)
	r.eventually("the events", func() bool { return r.length("acme:orders") == 5 })
	epoch := run.Status().Epoch
	run.crash()
	run = r.start(stop)
	r.eventually("it is active", func() bool { return run.Status().State == relay.StateActive })
	if now := run.Status().Epoch; now != epoch {
		t.Errorf("the epoch is %d, want %d as before", now, epoch)
	}
}

// The mend of the check makes all as it was, but for the log. PostgreSQL refuses it for a table that is published by its name.
func TestTableThatWasUnloggedAtAStartIsALostSlot(t *testing.T) {
	r := newRig(t, "", "")
	r.unrecord()
	r.exec(`DROP PUBLICATION outboxd`)
	r.exec(`CREATE PUBLICATION outboxd FOR ALL TABLES WITH (publish = 'insert')`)
	run := r.start(nil)
	r.eventually("it is active", func() bool { return run.Status().State == relay.StateActive })
	epoch := run.Status().Epoch
	run.crash()
	r.exec(`ALTER TABLE outbox SET UNLOGGED`)
	r.insert("acme", 0, 5, 1)
	run = r.start(nil)
	r.eventually("it ends", run.ended)
	if failed := wal.CheckErrors(run.err); len(failed) == 0 || failed[0].Check != wal.CheckTable {
		t.Fatalf("Run returned %v, want a failed check of the table", run.err)
	}
	r.exec(`ALTER TABLE outbox SET LOGGED`)
	run = r.start(nil)
	r.eventually("the events", func() bool { return r.length("acme:orders") == 5 })
	if now := run.Status().Epoch; now <= epoch {
		t.Errorf("the epoch is %d, want one behind %d", now, epoch)
	}
}

// What the log holds of the table that had the name is nowhere else.
func TestNothingOfATableThatIsSwappedIsLost(t *testing.T) {
	const held = 3000 // more than fits into memory
	for name, end := range map[string]func(*running){"running": func(*running) {}, "killed": (*running).crash, "killed, in two steps": (*running).crash} {
		t.Run(name, func(t *testing.T) {
			redis := durableRedis(t)
			r := newRig(t, "", redis.URL)
			change := func(c *relay.Config) { c.MemoryBudget = 1 << 20 }
			run := r.start(change)
			r.eventually("it is active", func() bool { return run.Status().State == relay.StateActive })
			redis.Stop()
			r.insert("acme", 0, held, 3)
			end(run)
			if strings.HasSuffix(name, "two steps") { // a start in between puts on record that the slot is lost
				r.exec(`ALTER PUBLICATION outboxd DROP TABLE outbox`)
				run = r.start(change)
				r.eventually("it ends", run.ended)
			}
			r.exec(`BEGIN; CREATE TABLE outbox_new (LIKE outbox INCLUDING ALL); ALTER TABLE outbox RENAME TO outbox_before; ALTER TABLE outbox_new RENAME TO outbox;
				ALTER PUBLICATION outboxd ADD TABLE outbox; COMMIT`)
			r.insert("acme", held, 10, 3)
			if name != "running" {
				run = r.start(change)
			}
			r.eventually("a new slot is made", func() bool { return run.Status().Sessions >= 2 && r.parked("true") >= held })
			redis.Start()
			r.eventually("all events", func() bool { return r.length("acme:orders") >= held+10 })
			r.keysInOrder("acme:orders", held+10, 3)
		})
	}
}

// As docs/scaling.md has it. What was committed before the swap is in the log, under the name that the table had then.
func TestTableThatIsSwappedOnPurposeGoesOnWithItsSlot(t *testing.T) {
	if testenv.Postgres(t).Major < 13 {
		t.Skip("partitioned tables cannot be published there")
	}
	for onSent, copied := range map[outbox.OnSent]string{
		outbox.Mark: `INSERT INTO outbox SELECT * FROM outbox_before WHERE status <> 'SENT';`,
		outbox.Keep: ``,
	} {
		t.Run(string(onSent), func(t *testing.T) {
			r := newRig(t, "", "")
			change := func(c *relay.Config) { c.Outbox.OnSent = onSent }
			run := r.startWithOne(change)
			epoch, before := run.Status().Epoch, r.published()
			if err := run.stop(); err != nil || before == "" {
				t.Fatalf("%q is on record, %v", before, err)
			}
			r.insert("acme", 1, 5, 1)
			r.exec(`CREATE TABLE outbox_new (LIKE outbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at);
				CREATE TABLE outbox_all PARTITION OF outbox_new DEFAULT`)
			r.exec(`BEGIN;
				LOCK TABLE outbox;
				ALTER PUBLICATION outboxd DROP TABLE outbox;
				ALTER TABLE outbox RENAME TO outbox_before;
				ALTER TABLE outbox_new RENAME TO outbox;
				` + copied + `
				ALTER PUBLICATION outboxd SET (publish_via_partition_root = true);
				ALTER PUBLICATION outboxd ADD TABLE outbox;
				UPDATE outboxd.checkpoint SET published = NULL;
				COMMIT`)
			run = r.start(change)
			r.insert("acme", 6, 1, 1)
			r.eventually("all events", func() bool { return r.length("acme:orders") == 7 })
			if onSent == outbox.Mark {
				r.settled()
			}
			r.sequence("acme:orders", 7)
			if now := run.Status().Epoch; now != epoch || r.published() == before || r.published() == "" {
				t.Errorf("the epoch is %d, want %d; %q is on record", now, epoch, r.published())
			}
		})
	}
}
