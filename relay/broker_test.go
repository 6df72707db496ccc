package relay_test

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/sink"
)

// redisProcess returns the id of the server's process.
func (r *rig) redisProcess() int {
	r.t.Helper()
	info, err := r.redis.Info(r.t.Context(), "server").Result()
	if err != nil {
		r.t.Fatal(err)
	}
	match := regexp.MustCompile(`process_id:(\d+)`).FindStringSubmatch(info)
	if match == nil {
		r.t.Fatalf("no process id in %q", info)
	}
	pid, err := strconv.Atoi(match[1])
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

func (r *rig) signal(pid int, s syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		r.t.Fatalf("signal %v to %d: %v", s, pid, err)
	}
}

// walsender returns the process of the slot's walsender and when it last heard from us.
func (r *rig) walsender() (pid int, heard time.Time) {
	r.t.Helper()
	err := r.conn.QueryRow(r.t.Context(), `SELECT pid, reply_time FROM pg_stat_replication
		WHERE pid = (SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1)`, r.cfg.WAL.Slot).Scan(&pid, &heard)
	if err != nil {
		r.t.Fatalf("read the walsender: %v", err)
	}
	return pid, heard
}

func TestFrozenBrokerEndsNoSessionAndItsEventsArriveOnce(t *testing.T) {
	const events, budget = 30_000, 2 << 20
	redis := durableRedis(t)
	postgres := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"wal_sender_timeout = 2s"}})
	r := newRig(t, postgres.Database(t), redis.URL)
	run := r.start(func(c *relay.Config) { c.MemoryBudget, c.PublishTimeout = budget, time.Second })
	r.insert("acme", 0, 1, 1)
	r.eventually("the first row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 1 })

	frozen := r.redisProcess()
	r.signal(frozen, syscall.SIGSTOP)
	r.insert("acme", 1, events, 100)
	end := r.inserted
	r.eventually("the destination is listed", func() bool { return len(run.Status().Blocked) == 1 })
	if b := run.Status().Blocked[0]; b.Destination != r.stream("acme:orders") || b.Sink != "redis" || b.Error == "" {
		t.Errorf("blocked is %+v", b)
	}
	if err := run.Ready(); err != nil {
		t.Errorf("after a short failure the relay is not ready: %v", err)
	}
	pid, first := r.walsender()
	most := int64(0)
	r.eventually("status flows for longer than the server's timeout", func() bool {
		now, heard := r.walsender()
		if now != pid {
			t.Fatalf("the walsender was %d and is %d: the session ended", pid, now)
		}
		most = max(most, run.Status().InFlightBytes)
		return heard.Sub(first) > 3*time.Second
	})
	if most > budget {
		t.Errorf("%d bytes were in flight, the budget is %d", most, budget)
	}
	if r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) != 1 {
		t.Error("events that the broker does not have are SENT")
	}

	// The server can stop although nothing can be confirmed; testenv's Stop is the fast shutdown and fails after a minute.
	postgres.Stop()
	postgres.Start()
	r.conn = r.connect()
	r.signal(frozen, syscall.SIGCONT)
	r.eventually("all events", func() bool { return r.length("acme:orders") == events+1 })
	r.keysInOrder("acme:orders", events+1, 100)
	r.eventually("all is confirmed", func() bool { return r.confirmed(end) })
}

// setString makes a stream's key something that is no stream.
func (r *rig) setString(name string) {
	r.t.Helper()
	if err := r.redis.Set(r.t.Context(), r.stream(name), "taken", 0).Err(); err != nil {
		r.t.Fatal(err)
	}
}

func TestDestinationThatFailsHoldsUpNoOther(t *testing.T) {
	const events = 200
	r := newRig(t, "", "")
	r.setString("bad:orders")
	run := r.start(nil)
	for i := range events {
		r.insert("bad", i, 1, 1)
		r.insert(fmt.Sprintf("good%d", i%5), i/5, 1, 1)
	}
	end := r.inserted
	for i := range 5 {
		r.eventually("the others' events", func() bool { return r.length(fmt.Sprintf("good%d:orders", i)) == events/5 })
		r.sequence(fmt.Sprintf("good%d:orders", i), events/5)
	}
	r.eventually("the failing one is listed", func() bool { return len(run.Status().Blocked) == 1 })
	if b := run.Status().Blocked[0]; b.Destination != r.stream("bad:orders") || !strings.Contains(b.Error, "WRONGTYPE") {
		t.Errorf("blocked is %+v, want the stream and its error", b)
	}
	r.eventually("the others' rows are SENT", func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT' AND tenant_id LIKE 'good%'`) == events
	})
	r.eventually("its events are parked, and the slot is confirmed past them", func() bool {
		return r.parked(`state = 'waiting'`) == events && r.confirmed(end)
	})
	if err := r.redis.Del(t.Context(), r.stream("bad:orders")).Err(); err != nil {
		t.Fatal(err)
	}
	r.eventually("its events", func() bool { return r.length("bad:orders") == events })
	r.sequence("bad:orders", events)
	r.eventually("nothing is blocked, all is confirmed", func() bool { return len(run.Status().Blocked) == 0 && r.confirmed(end) })
}

// append adds an entry to a stream as another writer would.
func (r *rig) append(name string, fields ...any) {
	r.t.Helper()
	if err := r.redis.XAdd(r.t.Context(), &goredis.XAddArgs{Stream: r.stream(name), Values: fields}).Err(); err != nil {
		r.t.Fatal(err)
	}
}

// Somebody else who appends to a stream costs a look at its end, and is no failure of it: its events do not wait.
func TestSecondWriterIsNoFailureOfTheDestination(t *testing.T) {
	const rounds, events = 5, 10
	r := newRig(t, "", "")
	run := r.start(nil)
	for n := range rounds {
		r.append("acme:orders", "body", "from somebody else")
		r.insert("acme", n*events, events, 3)
		r.eventually("their events and ours", func() bool { return r.length("acme:orders") == int64((n+1)*(events+1)) })
	}
	for name, value := range run.metrics(t) {
		if strings.HasPrefix(name, "outboxd_destination_failures_total") && value > 0 {
			t.Errorf("%s is %v", name, value)
		}
	}
}

func TestTailOfALaterEpochIsRefusedAndNamed(t *testing.T) {
	r := newRig(t, "", "")
	later := event.Position{Epoch: uint32(time.Now().Unix()) + 1_000_000, Commit: 1, Ordinal: 1}
	earlier := event.Position{Epoch: 1, Commit: 1 << 60, Ordinal: 1}
	r.append("foreign:orders", sink.HeaderID, "x", sink.HeaderPosition, later.String())
	r.append("acme:orders", sink.HeaderID, "y", sink.HeaderPosition, earlier.String())
	run := r.start(nil)
	r.insert("foreign", 0, 1, 1)
	r.insert("acme", 0, 1, 1)
	r.eventually("the event behind the earlier epoch", func() bool { return r.length("acme:orders") == 2 })
	r.eventually("the other is listed", func() bool { return len(run.Status().Blocked) == 1 })
	b := run.Status().Blocked[0]
	if b.Destination != r.stream("foreign:orders") || !strings.Contains(b.Error, lane.ErrForeignEpoch.Error()) {
		t.Errorf("blocked is %+v, want the foreign epoch", b)
	}
	if n := r.length("foreign:orders"); n != 1 {
		t.Errorf("the stream with the foreign epoch holds %d entries, want its own only", n)
	}
}

func TestEntryOfSomebodyElseBehindOursHidesNothing(t *testing.T) {
	r := newRig(t, "", "")
	run := r.start(nil)
	r.insert("acme", 0, 1, 1)
	r.eventually("it is delivered", func() bool { return r.length("acme:orders") == 1 })
	run.crash()
	r.insert("acme", 1, 10, 1)
	lock := r.begin(`SELECT FROM outbox FOR UPDATE`) // so that nothing of it is confirmed
	second := r.start(nil)
	r.eventually("all are delivered", func() bool { return r.length("acme:orders") == 11 })
	second.crash()
	r.append("acme:orders", "payload", `{"Seq": 11}`)
	r.commit(lock)
	r.start(nil)
	r.eventually("every row is SENT", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
	r.sequence("acme:orders", 12)
}

func TestDestinationsOfOneEventSettleItTogether(t *testing.T) {
	r := newRig(t, "", "")
	r.setString("bad:orders")
	both := route.Rule{To: []route.Target{
		{Sink: "redis", Destination: r.prefix + ":good:{topic}"}, {Sink: "redis", Destination: r.prefix + ":bad:{topic}"},
	}}
	run := r.start(func(c *relay.Config) { c.Router = r.routes(both) })
	r.insert("acme", 0, 10, 1)
	end := r.inserted
	r.eventually("one destination", func() bool { return r.length("good:orders") == 10 && len(run.Status().Blocked) == 1 })
	run.crash()
	if r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) != 0 {
		t.Error("events that only one of two destinations has are SENT")
	}
	if err := r.redis.Del(context.Background(), r.stream("bad:orders")).Err(); err != nil {
		t.Fatal(err)
	}
	r.start(func(c *relay.Config) { c.Router = r.routes(both) })
	r.eventually("the other", func() bool { return r.length("bad:orders") == 10 && r.confirmed(end) })
	r.sequence("good:orders", 10)
	r.sequence("bad:orders", 10)
}
