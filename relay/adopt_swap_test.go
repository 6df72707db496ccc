package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

// swap gives the outbox table's name to another table, which is published, too.
func (r *rig) swap() {
	r.t.Helper()
	r.exec(`BEGIN; CREATE TABLE outbox_new (LIKE outbox INCLUDING ALL); ALTER TABLE outbox RENAME TO outbox_before; ALTER TABLE outbox_new RENAME TO outbox;
		ALTER PUBLICATION outboxd ADD TABLE outbox; COMMIT`)
}

// Rows that are older than the slot are in no log: they are adopted from the table that has them, or outboxd says why not.
func TestRowsOfATableThatIsSwappedWhileTheyAreAdoptedAreNotForgotten(t *testing.T) {
	const rows = 500
	r := newRig(t, "", "")
	r.unrecord()
	r.insert("acme", 0, rows, 7)
	r.exec(`UPDATE outbox SET created_at = now() - interval '1 hour' + (payload->>'seq')::int * interval '1 microsecond'`)
	oid := r.count(`SELECT 'outbox'::regclass::oid::bigint`)
	lock := r.begin(`LOCK outboxd.parked IN SHARE MODE`)
	run := r.start(nil)
	r.eventually("the first rows are to be parked", r.waitsForLock)
	r.swap()
	r.commit(lock)
	for range 2 { // the session under which it was swapped, and a later one
		r.eventually("it ends", run.ended)
		failed := wal.CheckErrors(run.err)
		if len(failed) != 1 || failed[0].Check != wal.CheckTable || !strings.Contains(run.err.Error(), fmt.Sprint("whose oid is ", oid, ",")) {
			t.Fatalf("Run returned %v, want the check of the table, and that the one before was %d", run.err, oid)
		}
		run = r.start(nil)
	}
	r.eventually("it ends", run.ended)

	r.exec(`BEGIN; ALTER TABLE outbox RENAME TO outbox_new; ALTER TABLE outbox_before RENAME TO outbox; COMMIT`)
	r.start(nil)
	r.insert("acme", rows, 10, 7)
	r.eventually("all events", func() bool { return r.length("acme:orders") >= rows+10 })
	r.keysInOrder("acme:orders", rows+10, 7)
	r.settled()
}

// The log of a slot that is lost cannot say what was due in the table that had the name.
func TestSlotThatIsLostWithTheTablesNameSaysWhichTableItWas(t *testing.T) {
	const line = "what is due in the one before is not adopted"
	r := newRig(t, "", "")
	run := r.startWithOne(nil)
	run.crash()
	oid := r.count(`SELECT 'outbox'::regclass::oid::bigint`)
	r.insert("acme", 1, 5, 1)
	r.dropSlot()
	r.swap()
	r.insert("acme", 6, 5, 1)
	log := &lines{}
	logs := func(c *relay.Config) { c.Log = zerolog.New(log) }
	run = r.start(logs)
	r.eventually("what is in the new table", func() bool { return r.length("acme:orders") == 6 })
	if log.count(line) != 1 || log.count(fmt.Sprintf(`"oid":"%d"`, oid)) != 1 {
		t.Errorf("the log lacks the oid %d:\n%s", oid, &log.text)
	}

	// Where the log is there, it is delivered first, and nothing is to be said.
	r.exec(`DROP TABLE outbox_before`)
	r.swap()
	r.insert("acme", 11, 5, 1)
	r.eventually("what is in the next table", func() bool { return r.length("acme:orders") == 11 })
	if err := run.stop(); err != nil || log.count(line) != 1 {
		t.Errorf("it said so again (%v):\n%s", err, &log.text)
	}
}
