package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/shard"
)

// layout is a process for all shards of a layout by tenant.
func (s *sharded) layout(count int, settings ...string) *child {
	return s.child(append(settings, fmt.Sprintf("OUTBOXD_SHARDS_COUNT=%d", count))...)
}

// started is such a process that streams, until the test ends.
func (s *sharded) started(count int) *child {
	s.Helper()
	c := s.layout(count)
	c.start()
	s.Cleanup(c.kill)
	eventually(s.T, "all shards stream", func() bool { return s.allStream(count) })
	return c
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
	return s.count(`SELECT count(*) FROM pg_replication_slots WHERE starts_with(slot_name, $1)`, fmt.Sprintf("%s_%dt_", s.slot, count))
}

func (s *sharded) exec(sql string, args ...any) {
	s.Helper()
	if _, err := s.conn.Exec(s.Context(), sql, args...); err != nil {
		s.Fatalf("%v in %s", err, sql)
	}
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
		c.begin(args...)
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(longestLife))), func() { _ = c.process.Process.Kill() }) // it may be done
		err := c.process.Wait()
		timer.Stop()
		if err != nil && c.process.ProcessState.Exited() {
			s.Fatalf("a run that comes behind one that was killed: %v\n%s", err, c.log.String())
		}
		eventually(s.T, "no slot is being made", func() bool { // which goes, where the server notices soon enough that nobody waits for it
			return s.count(`SELECT count(*) FROM pg_replication_slots WHERE starts_with(slot_name, $1) AND active`, s.slot) == 0
		})
		if to > 1 && s.slotsOf(to) > 0 {
			s.wantRefused(s.layout(from), "of another layout of this table")
		}
	}
	s.layout(from).run(args...)
	if to > 1 {
		s.wantRefused(s.layout(from), "of another layout of this table")
	}
}

// Events are committed all the time. Runs of reshard are killed at any moment.
func TestTableIsReshardedWhileItsWritersGoOn(t *testing.T) {
	t.Parallel()
	s := newSharded(t, "tenant")
	random := rand.New(rand.NewPCG(7, 7))
	c := s.started(3)
	stop := s.load(200)
	counts := []int{3, 2, 1, 3}
	for n, to := range counts[1:] {
		from := counts[n]
		if to == 3 {
			s.layout(3).run("migrate", "down", "--yes") // left from the first time
		}
		c.stop()
		s.reshard(from, to, 3, random)
		c = s.started(to)
		s.written(200)
	}
	stop()
	s.wantAll()
	c.stop()
}

func TestReshardRefusesAndLeavesTheLayoutAsItIs(t *testing.T) {
	t.Parallel()
	s := newSharded(t, "tenant")
	c := s.started(3)
	command := s.layout(3)
	command.refuses("another instance is active: stop all of them, the standbys too", "reshard", "--count", "2", "--yes")
	command.refuses("the configuration says shards.count: 3, shards.by: tenant already", "reshard", "--count", "3", "--yes")
	command.refuses("--count 17: want 1 to 16 shards", "reshard", "--count", "17", "--yes")
	command.refuses("--count is missing", "reshard", "--yes")
	command.refuses("confirm with --yes", "reshard", "--count", "2")
	s.shard(1).refuses("shards.number is for one shard", "reshard", "--count", "2", "--yes")
	s.load(100)()
	s.wantAll()
	c.stop()

	other := s.layout(4)
	other.run("migrate", "up")
	other.refuses("has no checkpoint: reshard goes by the layout until now, which is shards.count: 4, shards.by: tenant by the configuration", "reshard", "--count", "2", "--yes")

	s.exec(`INSERT INTO outboxd_3t_1.parked (slot, id, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, bytes)
		VALUES ($1, 'x', 'redis', 'd', 'd', 'dead', 1, '0/1', 1, 1, 1)`, s.slot+"_3t_1")
	command.refuses(`deliveries are parked in schema "outboxd_3t_1": 1: run outboxd with shards.count: 3, shards.by: tenant until outboxd events list --set shards.number=1 is empty`, "reshard", "--count", "2", "--yes")
	s.exec(`UPDATE outboxd_3t_1.parked SET state = 'done', epoch = 4000000000`) // the checkpoint has not passed it
	command.refuses("or done with an outbox row that somebody holds locked: run it again", "reshard", "--count", "2", "--yes")
	if n := s.slotsOf(2); n != 0 {
		t.Errorf("%d slots of a layout that was refused are left", n)
	}
	s.exec(`DELETE FROM outboxd_3t_1.parked`)
	said := command.log.Len()
	command.run("reshard", "--count", "2", "--yes")
	for _, want := range []string{
		"the new layout begins at 0/", "dropped slots: " + s.slot + "_3t_0, ", "now set shards.count: 2, shards.by: tenant, and start outboxd",
		"left of the old layout: schemas outboxd_3t_0, outboxd_3t_1, outboxd_3t_2; publications ",
	} {
		if text := command.log.String()[said:]; !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if n := s.slotsOf(3); n != 0 || s.slotsOf(2) != 2 {
		t.Errorf("%d old slots and %d new ones are there", n, s.slotsOf(2))
	}
	said = command.log.Len()
	command.run("reshard", "--count", "2", "--yes")
	if text := command.log.String()[said:]; !strings.Contains(text, "nothing to do: the slots of shards.count: 2, shards.by: tenant are there") {
		t.Errorf("once more it says %s", text)
	}
	s.layout(2).refuses(`holds the record of slot "`+s.slot+`_3t_0", which is gone`, "reshard", "--count", "3", "--yes")
}

// hold keeps a transaction open, for which a new slot waits, until end is called.
func (s *sharded) hold() (end func()) {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), s.url)
	if err == nil {
		_, err = conn.Exec(s.Context(), `BEGIN; SELECT txid_current()`)
	}
	if err != nil {
		s.Fatal(err)
	}
	end = sync.OnceFunc(func() { _ = conn.Close(context.Background()) })
	s.Cleanup(end)
	return end
}

// While a slot waits for an open transaction, one run is interrupted and one is killed.
func TestReshardThatIsCutOffLeavesTheOldLayoutOrIsRunAgain(t *testing.T) {
	t.Parallel()
	database := testenv.NewPostgres(t, testenv.PostgresOptions{Version: max(15, testenv.Postgres(t).Major)}) // new slots of other tests would wait, too
	s := newShardedOn(t, database, testenv.Redis(t), "tenant")
	c := s.started(3)
	s.load(100)()
	s.wantAll()
	c.stop()
	end := s.hold()
	begin := func() *child {
		cut := s.layout(3)
		cut.begin("reshard", "--count", "2", "--by", "key", "--yes", "--output", "json")
		eventually(t, "a slot waits", func() bool {
			return s.count(`SELECT count(*) FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
				WHERE slot_name = $1 AND wait_event_type = 'Lock'`, s.slot+"_2k_0") == 1 // before, its end would be noticed at once
		})
		return cut
	}
	interrupted := begin()
	interrupted.interrupt()
	if err := interrupted.process.Wait(); err == nil || !strings.Contains(interrupted.log.String(), "the old one can go on") {
		t.Errorf("a run that is interrupted ends with %v:\n%s", err, interrupted.log.String())
	}
	eventually(t, "a run that was interrupted has left no slot", func() bool { // the server ends what was being made by itself
		return s.count(`SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE '%2k%'`) == 0
	})
	begin().dieAfter(0)
	s.wantRefused(s.layout(3), "where outboxd reshard was interrupted, run it again")
	end()
	again := s.layout(3)
	again.run("reshard", "--count", "2", "--by", "key", "--yes", "--output", "json")
	text := again.log.String()
	var report reshardReport
	if err := json.Unmarshal([]byte(text[strings.Index(text, "{\n"):]), &report); err != nil || report.Count != 2 || report.By != "key" ||
		len(report.Slots) != 2 || len(report.DroppedSlots) != 3 || len(report.LeftPublications) != 3 || report.Position == "" {
		t.Errorf("%v, %+v of\n%s", err, report, text)
	}
	next := s.layout(2, "OUTBOXD_SHARDS_BY=key", "OUTBOXD_ROUTES=[{to: [{sink: redis, destination: '"+s.slot+":{shard}:{topic}'}]}]")
	next.start()
	defer next.kill()
	s.load(100)()
	s.wantAll()
	next.stop()
}

// While the old layout delivers up to the position, a run is interrupted, one is interrupted whose connection is gone, and one only finds its connection gone
// when it has delivered.
func TestReshardThatFailsWhileItDeliversLeavesTheOldLayout(t *testing.T) {
	t.Parallel()
	redis := testenv.NewRedis(t, testenv.RedisOptions{})
	s := newShardedOn(t, filtering(t), redis, "tenant", "OUTBOXD_SHUTDOWN_TIMEOUT=1s")
	c := s.started(3)
	s.load(100)()
	s.wantAll()
	c.stop()
	s.load(100)()
	t.Cleanup(redis.Thaw)
	for _, way := range []struct {
		name string
		cut  func(*child)
	}{
		{"interrupted", (*child).interrupt},
		{"interrupted without a connection", func(c *child) { s.cutReshard(); c.interrupt() }},
		{"without a connection at its end", func(*child) { s.cutReshard(); redis.Thaw() }},
	} {
		eventually(t, "nobody streams", func() bool {
			return s.count(`SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE $1 AND active`, s.slot+"%") == 0
		})
		redis.Freeze()
		run := s.layout(3)
		run.begin("reshard", "--count", "2", "--yes")
		t.Cleanup(run.kill)
		eventually(t, "it delivers", func() bool { return s.allStream(3) })
		way.cut(run)
		err := run.process.Wait()
		redis.Thaw()
		if err == nil || !strings.Contains(run.log.String(), "the old one can go on") || s.slotsOf(2) != 0 || s.slotsOf(3) != 3 {
			t.Errorf("%s: %v, %d new and %d old slots:\n%s", way.name, err, s.slotsOf(2), s.slotsOf(3), run.log.String())
		}
	}
	c = s.started(3)
	s.wantAll()
	c.stop()
	s.layout(3).run("reshard", "--count", "2", "--yes")
}

func (c *child) interrupt() {
	c.t.Helper()
	if err := c.process.Process.Signal(os.Interrupt); err != nil {
		c.t.Fatal(err)
	}
}

// cutReshard ends the connection of reshard that holds the locks of the new layout, of two shards.
func (s *sharded) cutReshard() {
	s.Helper()
	if n := s.count(`SELECT count(pg_terminate_backend(pid)) FROM (
			SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY pid HAVING count(*) = 2
		) holder`); n != 1 {
		s.Fatalf("%d connections hold the locks of the new layout, want 1", n)
	}
}

// What no route matches is parked: it is the old layout's, which goes on.
func TestReshardGivesUpWhereEventsAreParked(t *testing.T) {
	t.Parallel()
	s := newSharded(t, "tenant")
	c := s.started(3)
	c.stop()
	s.load(100)()
	s.layout(3, "OUTBOXD_ROUTES=[{match: {topic: none}, to: [{sink: redis, destination: '"+s.slot+":{tenant}:none'}]}]").refuses("deliveries are parked in schema", "reshard", "--count", "2", "--yes")
	if n := s.slotsOf(2); n != 0 {
		t.Errorf("%d slots of a layout that was given up are left", n)
	}
	for number := range shardsTested {
		s.shard(number).run("events", "retry", "--reason", "no route matches", "--yes")
	}
	c.start()
	s.wantAll()
	c.stop()
}

// A row of the table lane whose event is done, or was skipped while no instance ran, holds its outbox row back: the old layout settles that first.
func TestReshardSettlesWhatWasSkippedOrDelivered(t *testing.T) {
	t.Parallel()
	s := newSharded(t, "tenant")
	c := s.started(3)
	s.load(100)()
	s.wantAll()
	c.stop()
	for _, tenant := range workload.Tenants(12) {
		s.exec(`INSERT INTO outbox (tenant_id, aggregate_id, topic, occurred_at, payload) VALUES ($1, 'k', 'none', now(), '{}')`, tenant)
	}
	narrow := s.layout(3, "OUTBOXD_ROUTES=[{match: {topic: order.*}, to: [{sink: redis, destination: '"+s.slot+":{tenant}:{topic}'}]}]")
	narrow.start()
	defer narrow.kill()
	eventually(t, "the events are dead", func() bool {
		return s.count(`SELECT (SELECT count(*) FROM outboxd_3t_0.parked) + (SELECT count(*) FROM outboxd_3t_1.parked) + (SELECT count(*) FROM outboxd_3t_2.parked)`) == 12
	})
	narrow.stop()
	for number := range shardsTested {
		s.shard(number).run("events", "skip", "--reason", "no route matches", "--yes")
	}
	narrow.run("reshard", "--count", "2", "--yes")
	if n := s.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`); n != 0 {
		t.Errorf("%d rows are not settled, and look due to the new layout", n)
	}
}

// Rows that are kept do not say what was delivered: the records do.
func TestReshardCarriesOnWhatWasLeftAloneAndWhatWasDelivered(t *testing.T) {
	t.Parallel()
	s := newSharded(t, "tenant", "OUTBOXD_ON_SENT=keep")
	c := s.layout(1)
	c.run("migrate", "up")
	s.exec(`INSERT INTO outbox (tenant_id, aggregate_id, topic, occurred_at, payload) VALUES ('old', 'old', 'old', now(), '{}')`)
	c.begin("run", "--skip-backlog")
	defer c.kill()
	eventually(t, "it streams", func() bool { return s.streamingOf(shard.Shard{}) })
	stop := s.load(200)
	c.stop()
	skipped := func(schema string) int {
		return s.count(`SELECT count(*) FROM ` + schema + `.checkpoint c, outboxd.checkpoint o WHERE c.skipped_snapshot = o.skipped_snapshot AND c.settled_snapshot IS NOT NULL
			AND c.published <> o.published`)
	}
	c.run("reshard", "--count", "2", "--yes")
	if skipped("outboxd_2t_0") != 1 || skipped("outboxd_2t_1") != 1 {
		t.Error("the new shards do not know what was left alone, what was delivered, or what is published for them")
	}
	stop()
	next := s.layout(2)
	next.start()
	defer next.kill()
	if report := waitForAll(t, s.producer, s.reader); !report.OK() {
		t.Errorf("events were lost, doubled or out of order: %s", report.String())
	}
	next.stop()
	s.exec(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, s.slot+"_2t_0")
	next.start() // adopts what it does not know to be delivered
	eventually(t, "all shards stream", func() bool { return s.allStream(2) })
	s.load(100)()
	if report := waitForAll(t, s.producer, s.reader); !report.OK() {
		t.Errorf("behind a slot that was lost: %s", report.String())
	}
	next.stop()
	s.layout(2, "OUTBOXD_ON_SENT=mark").run("reshard", "--count", "3", "--yes")
	if n := s.count(`SELECT count(*) FROM outboxd_2t_0.checkpoint o, (SELECT * FROM outboxd_3t_0.checkpoint UNION ALL SELECT * FROM outboxd_3t_1.checkpoint) c
		WHERE c.settled_snapshot >= o.settled_snapshot`); n != 2 {
		t.Error("shards that mark do not know what was delivered while rows were kept")
	}
}
