package relay_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/relay"
)

// results returns how many events the relay counted with a result.
func (r *rig) results(run *running, result string) (n int) {
	r.t.Helper()
	families, err := run.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "outboxd_events_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "result" && label.GetValue() == result {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

// Transactions that are larger than the budget, so that every stop comes in the middle of one.
func TestCleanStopUnderLoadLeavesNothingToRepeat(t *testing.T) {
	const each, rows = 1, 40_000
	r := newRig(t, "", "")
	sent := 0
	for range 2 {
		run := r.start(func(c *relay.Config) { c.MemoryBudget = 1 << 20 })
		for range each {
			r.insert("acme", sent, rows, 10)
			sent += rows
		}
		r.eventually("it is in the middle", func() bool { return r.length("acme:orders") > int64(sent-each*rows+rows/20) })
		if err := run.stop(); err != nil {
			t.Fatalf("stop: %v", err)
		}
		if n := r.results(run, "found"); n != 0 {
			t.Errorf("%d events came again although the session before stopped cleanly", n)
		}
		if s, n := r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`), r.length("acme:orders"); int64(s) != n {
			t.Errorf("%d rows are SENT and %d events were delivered after a clean stop", s, n)
		}
	}
	last := r.start(nil)
	r.eventually("every event", func() bool { return r.length("acme:orders") >= int64(sent) })
	r.sequence("acme:orders", sent)
	if n := r.results(last, "found"); n != 0 {
		t.Errorf("%d events came again although the session before stopped cleanly", n)
	}
}

func TestStopWhileTheBrokerIsFrozenReturnsInTime(t *testing.T) {
	const timeout = 700 * time.Millisecond
	redis := durableRedis(t)
	r := newRig(t, "", redis.URL)
	run := r.start(func(c *relay.Config) { c.ShutdownTimeout, c.PublishTimeout = timeout, time.Hour })
	r.insert("acme", 0, 1, 1)
	r.eventually("the first event", func() bool { return r.length("acme:orders") == 1 })
	pid := r.redisProcess()
	r.signal(pid, syscall.SIGSTOP)
	r.insert("acme", 1, 10, 1)
	r.eventually("the events are received", func() bool { return run.Status().ReceivedEvents == 11 })
	started := time.Now()
	err := run.stop()
	took := time.Since(started)
	if unfinished, ok := errors.AsType[*relay.UnfinishedError](err); !ok || unfinished.Transactions < 1 {
		t.Errorf("stop: %v, want an UnfinishedError", err)
	}
	if took < timeout {
		t.Errorf("the stop took %s, the shutdown timeout is %s", took, timeout)
	}
	r.signal(pid, syscall.SIGCONT)
	r.start(nil)
	r.eventually("all events", func() bool { return r.length("acme:orders") >= 11 })
	r.sequence("acme:orders", 11)
}

func TestStopWhilePostgresIsGoneReturnsAtOnce(t *testing.T) {
	postgres := testenv.NewPostgres(t, testenv.PostgresOptions{})
	r := newRig(t, postgres.Database(t), "")
	run := r.start(func(c *relay.Config) { c.ShutdownTimeout = time.Hour })
	r.insert("acme", 0, 1, 1)
	r.eventually("the first event", func() bool { return r.length("acme:orders") == 1 })
	postgres.Kill()
	r.eventually("the session has ended", func() bool { return run.Status().State == relay.StateConnecting })
	r.stopsAtOnce(run)
}

// A host that takes connections and never answers, as a frozen server or a broken network does.
func TestStopWhileASessionOpensReturnsAtOnce(t *testing.T) {
	r := newRig(t, "", "")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	taken := make(chan struct{})
	go func() {
		conn, err := silent.Accept()
		if err != nil {
			return
		}
		close(taken)
		<-t.Context().Done()
		_ = conn.Close()
	}()
	run := r.start(func(c *relay.Config) {
		c.ShutdownTimeout = time.Hour
		c.WAL.URL = "postgres://postgres@" + silent.Addr().String() + "/postgres?sslmode=disable"
	})
	<-taken
	r.stopsAtOnce(run)
}

// stopsAtOnce stops a run whose shutdown timeout is longer than anybody waits.
func (r *rig) stopsAtOnce(run *running) {
	r.t.Helper()
	run.Stop()
	r.eventually("it has stopped", func() bool {
		select {
		case <-run.done:
			return true
		default:
			return false
		}
	})
	if run.err != nil {
		r.t.Errorf("stop: %v", run.err)
	}
}

func TestRunLeavesNoGoroutineBehind(t *testing.T) {
	r := newRig(t, "", "")
	r.insert("acme", 0, 1, 1)
	warm := r.start(nil) // the Redis client's own goroutines begin here
	r.eventually("the first event", func() bool { return r.length("acme:orders") == 1 })
	warm.crash()
	before := goleak.IgnoreCurrent()
	for round, end := range []func(*running) error{(*running).stop, func(run *running) error { run.crash(); return nil }} {
		run := r.start(nil)
		r.insert("acme", round*100+1, 100, 3)
		r.eventually("some events", func() bool { return r.length("acme:orders") > int64(round*100+1) })
		if err := end(run); err != nil {
			t.Fatal(err)
		}
		r.eventually("no goroutine is left", func() bool {
			r.exec(`SELECT 1`) // where a write of the test's own connection took long, a goroutine reads there until the next answer
			err := goleak.Find(before)
			if err != nil {
				t.Log(err)
			}
			return err == nil
		})
	}
}
