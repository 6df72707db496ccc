package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/shard"
)

// layout is a process for all shards of a layout by tenant.
func (s *sharded) layout(count int, settings ...string) *child {
	return s.child(append(settings, fmt.Sprintf("OUTBOXD_SHARDS_COUNT=%d", count))...)
}

func (s *sharded) allStream(count int) bool {
	for number := range count {
		if !s.streamingOf(shard.Shard{Count: count, Number: number, By: shard.Tenant}) {
			return false
		}
	}
	return true
}

func (s *sharded) slotsOf(count int) int {
	return s.count(`SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE $1`, strings.ReplaceAll(s.slot, "_", `\_`)+fmt.Sprintf(`\_%dt\_%%`, count))
}

// refuses runs a command that must fail and say why.
func (c *child) refuses(want string, args ...string) {
	c.t.Helper()
	before := c.log.Len()
	err := c.command(args...).Run()
	if said := c.log.String()[before:]; err == nil || !strings.Contains(said, want) {
		c.t.Errorf("outboxd %s: %v, want %q:\n%s", strings.Join(args, " "), err, want, said)
	}
}

// reshard takes the table from one layout to the next, in runs that are killed at any moment and one that is not.
func (s *sharded) reshard(from, to, kills int, random *rand.Rand) {
	s.Helper()
	args := []string{"reshard", "--count", fmt.Sprint(to), "--yes"}
	for range kills {
		c := s.layout(from)
		c.process = c.command(args...)
		if err := c.process.Start(); err != nil {
			s.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(longestLife))), func() { _ = c.process.Process.Kill() }) // it may be done
		err := c.process.Wait()
		timer.Stop()
		if err != nil && c.process.ProcessState.Exited() {
			s.Fatalf("a run that comes behind one that was killed: %v\n%s", err, c.log.String())
		}
		if to > 1 && s.slotsOf(to) > 0 {
			s.wantRefused(s.layout(from), "of another layout of this table")
		}
	}
	s.layout(from).run(args...)
}

// Events are committed all the time. Runs of reshard are killed at any moment.
func TestTableIsReshardedWhileItsWritersGoOn(t *testing.T) {
	s := newSharded(t, "tenant")
	random := rand.New(rand.NewPCG(7, 7))
	c := s.layout(3)
	c.start()
	defer c.kill()
	eventually(t, "all shards stream", func() bool { return s.allStream(3) })
	stop := s.load(200)
	counts := []int{3, 2, 1, 3}
	for n, to := range counts[1:] {
		from := counts[n]
		if to == 3 {
			s.layout(3).run("migrate", "down", "--yes") // left from the first time
		}
		c.stop()
		s.reshard(from, to, 3, random)
		c = s.layout(to)
		c.start()
		defer c.kill()
		eventually(t, "all shards stream", func() bool { return s.allStream(to) })
		s.written(200)
	}
	stop()
	s.wantAll()
	c.stop()
}

func TestReshardRefusesAndLeavesTheLayoutAsItIs(t *testing.T) {
	s := newSharded(t, "tenant")
	c := s.layout(3)
	c.start()
	defer c.kill()
	eventually(t, "all shards stream", func() bool { return s.allStream(3) })
	command := s.layout(3)
	command.refuses("another instance is active: stop all of them, the standbys too", "reshard", "--count", "2", "--yes")
	command.refuses("the table is split so: shards.count: 3, shards.by: tenant", "reshard", "--count", "3", "--yes")
	command.refuses("17 shards: want 1 to 16", "reshard", "--count", "17", "--yes")
	command.refuses("--count is missing", "reshard", "--yes")
	command.refuses("confirm with --yes", "reshard", "--count", "2")
	s.shard(1).refuses("shards.number is for one shard", "reshard", "--count", "2", "--yes")
	s.load(100)()
	s.wantAll()
	c.stop()

	other := s.layout(4)
	other.run("migrate", "up")
	other.refuses("has delivered nothing", "reshard", "--count", "2", "--yes")

	if _, err := s.conn.Exec(t.Context(), `INSERT INTO outboxd_3t_1.parked (slot, id, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, bytes)
		VALUES ($1, 'x', 'redis', 'd', 'd', 'dead', 1, '0/1', 1, 1, 1)`, s.slot+"_3t_1"); err != nil {
		t.Fatal(err)
	}
	command.refuses(`1 events are parked in schema "outboxd_3t_1"`, "reshard", "--count", "2", "--yes")
	if n := s.slotsOf(2); n != 0 {
		t.Errorf("%d slots of a layout that was refused are left", n)
	}
	if _, err := s.conn.Exec(t.Context(), `DELETE FROM outboxd_3t_1.parked`); err != nil {
		t.Fatal(err)
	}
	command.run("reshard", "--count", "2", "--yes", "--output", "json")
	if n := s.slotsOf(3); n != 0 || s.slotsOf(2) != 2 {
		t.Errorf("%d old slots and %d new ones are there", n, s.slotsOf(2))
	}
	command.run("reshard", "--count", "2", "--yes") // once more: nothing is left to do
	s.layout(2).refuses(`holds the record of slot "`+s.slot+`_3t_0", which is gone`, "reshard", "--count", "3", "--yes")
}

// Rows that are kept do not say what was delivered: the records do.
func TestReshardCarriesOnWhatWasLeftAloneAndWhatWasDelivered(t *testing.T) {
	s := newSharded(t, "tenant", "OUTBOXD_ON_SENT=keep")
	c := s.layout(1)
	c.run("migrate", "up")
	c.process = c.command("run", "--skip-backlog")
	if err := c.process.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.kill()
	eventually(t, "it streams", func() bool { return s.streamingOf(shard.Shard{}) })
	stop := s.load(200)
	c.stop()
	skipped := func(schema string) int {
		return s.count(`SELECT count(*) FROM ` + schema + `.checkpoint c, outboxd.checkpoint o WHERE c.skipped_snapshot = o.skipped_snapshot AND c.settled_snapshot IS NOT NULL`)
	}
	c.run("reshard", "--count", "2", "--yes")
	if skipped("outboxd_2t_0") != 1 || skipped("outboxd_2t_1") != 1 {
		t.Error("the new shards do not know what was left alone, or what was delivered")
	}
	stop()
	next := s.layout(2)
	next.start()
	defer next.kill()
	if report := waitForAll(t, s.producer, s.reader); !report.OK() {
		t.Errorf("events were lost, doubled or out of order: %s", report.String())
	}
	next.stop()
	if _, err := s.conn.Exec(t.Context(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, s.slot+"_2t_0"); err != nil {
		t.Fatal(err)
	}
	next.start() // adopts what it does not know to be delivered
	eventually(t, "all shards stream", func() bool { return s.allStream(2) })
	s.load(100)()
	if report := waitForAll(t, s.producer, s.reader); !report.OK() {
		t.Errorf("behind a slot that was lost: %s", report.String())
	}
	next.stop()
}
