package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

const (
	kills        = 20                     // of an outboxd that streams, with SIGKILL at random moments under load
	longestLife  = 900 * time.Millisecond // of a process that is killed at any moment, its start included
	killPatience = 90 * time.Second
)

// arrival reads what a broker holds, and removes it.
type arrival interface {
	ReadAll(ctx context.Context, handle func(workload.Received)) error
	Delete(ctx context.Context) error
	Close() error
}

func TestKilledOutboxdLosesAndDoublesNothingInRedis(t *testing.T) {
	for onSent, kills := range map[string]int{"mark": kills, "delete": 5, "keep": 5} {
		t.Run(onSent, func(t *testing.T) {
			server := testenv.Redis(t)
			prefix := fmt.Sprintf("kill:%d", time.Now().UnixNano())
			reader, err := workload.NewRedisReader(server.URL, prefix)
			if err != nil {
				t.Fatal(err)
			}
			killUnderLoad(t, reader, kills, "OUTBOXD_ON_SENT="+onSent, "REDIS_URL="+server.URL,
				"OUTBOXD_ROUTES=[{to: [{sink: redis, destination: '"+prefix+":{tenant}:{topic}'}]}]")
		})
	}
}

func TestKilledOutboxdLosesAndDoublesNothingInPulsar(t *testing.T) {
	server := testenv.Pulsar(t)
	namespace := fmt.Sprintf("kill/n%d", time.Now().UnixNano())
	reader, err := workload.NewPulsarReader(server.URL, workload.PulsarTopics{AdminURL: server.AdminURL, Namespaces: []string{namespace}})
	if err != nil {
		t.Fatal(err)
	}
	killUnderLoad(t, reader, kills, "PULSAR_SERVICE_URL="+server.URL,
		"OUTBOXD_SINKS_PULSAR_ADMIN_URL="+server.AdminURL, "OUTBOXD_SINKS_PULSAR_CREATE=true",
		"OUTBOXD_ROUTES=[{to: [{sink: pulsar, destination: 'persistent://"+namespace+"/{tenant}.{topic}'}]}]")
}

// killUnderLoad lets an application write while outboxd is killed and started again, and checks what arrived. Of four lives three end at a random
// moment behind the beginning of the stream, and one before it or soon behind it. It closes the reader.
func killUnderLoad(t *testing.T, reader arrival, kills int, environ ...string) {
	t.Cleanup(func() {
		if err := errors.Join(reader.Delete(context.Background()), reader.Close()); err != nil { // t.Context is over
			t.Errorf("remove what arrived: %v", err)
		}
	})
	url := testenv.Postgres(t).Database(t)
	conn := migrated(t, url)
	outboxd := newChild(t, append(environ, "DATABASE_URL="+url,
		fmt.Sprintf("OUTBOXD_DATABASE_SLOT=kill_%d", time.Now().UnixNano()), "OUTBOXD_HTTP_ADDR=", "OUTBOXD_CHECKPOINT_INTERVAL=100ms"))
	outboxd.run("slot", "create") // before the first event: rows older than the slot are not in its log

	producer, err := workload.NewProducer(workload.Config{URL: url, Rate: 600, Random: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := producer.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	load, stopLoad := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	loading.Go(func() {
		if err := producer.Run(load); err != nil {
			t.Errorf("the application: %v", err)
		}
	})
	random, starts := rand.New(rand.NewPCG(1, uint64(kills))), longestLife
	met := slices.Contains(environ, "OUTBOXD_ON_SENT=keep") // whose rows do not say what is settled
	for outboxd.streamed() < kills || !met {
		if outboxd.started == 5*kills {
			t.Fatalf("a kill met an event between its publish and its settle: %v; %s", met, outboxd.lives())
		}
		outboxd.start()
		if outboxd.started%4 == 0 {
			outboxd.dieAfter(time.Duration(random.Int64N(int64(starts))))
			continue
		}
		starts = outboxd.untilItStreams()
		slow := time.Duration(1 + outboxd.streamed()/kills) // a machine on which so short a life sees nothing published
		outboxd.dieAfter(time.Duration(random.Int64N(int64(slow * 500 * time.Millisecond))))
		met = met || unsettled(t, conn, reader)
	}
	stopLoad()
	loading.Wait()
	outboxd.start()
	defer outboxd.kill()
	report := waitForAll(t, producer, reader)
	if !report.OK() {
		t.Errorf("events were lost, doubled or out of order")
	}
	outboxd.stop()
	t.Logf("%s\n%s", outboxd.lives(), report.String())
}

// unsettled tells whether a row is not settled although its event has arrived.
func unsettled(t *testing.T, conn *pgx.Conn, reader arrival) bool {
	t.Helper()
	var arrived []string
	if err := reader.ReadAll(t.Context(), func(r workload.Received) { arrived = append(arrived, r.ID) }); err != nil {
		t.Fatal(err)
	}
	var there bool
	if err := conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM outbox WHERE status <> 'SENT' AND id::text = ANY ($1))`, arrived).Scan(&there); err != nil {
		t.Fatal(err)
	}
	return there
}

// waitForAll reads the broker until everything committed has arrived or patience is over, and returns the last report.
func waitForAll(t *testing.T, producer *workload.Producer, reader arrival) workload.Report {
	t.Helper()
	deadline := time.Now().Add(killPatience)
	for {
		checker := workload.NewChecker(producer.Ledger())
		if err := reader.ReadAll(t.Context(), func(r workload.Received) { checker.Add(r) }); err != nil {
			t.Fatal(err)
		}
		report := checker.Report()
		if report.OK() || time.Now().After(deadline) {
			return report
		}
		if doubled, outOfOrder, wrong := checker.Findings(); doubled+outOfOrder+wrong > 0 {
			return report
		}
	}
}

// child is outboxd as a process that is started again and again.
type child struct {
	t       *testing.T
	path    string
	environ []string
	process *exec.Cmd
	log     journal
	started int
}

// journal holds what processes have written. It may be read while they run.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(text []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(text)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) Len() int { return len(j.String()) }

// wantNoRace fails where one of the processes had a data race: one that was killed did not tell by its exit code.
func (j *journal) wantNoRace(t *testing.T) {
	t.Helper()
	if log := j.String(); strings.Contains(log, "WARNING: DATA RACE") {
		t.Errorf("outboxd had a data race:\n%s", log)
	}
}

func newChild(t *testing.T, environ []string) *child {
	t.Helper()
	c := &child{t: t, path: program(t), environ: environ}
	t.Cleanup(func() { c.log.wantNoRace(t) })
	return c
}

func (c *child) command(args ...string) *exec.Cmd {
	command := exec.Command(c.path, args...)
	command.Env = append(os.Environ(), c.environ...)
	command.Stdout, command.Stderr = &c.log, &c.log
	return command
}

// run runs a command to its end.
func (c *child) run(args ...string) {
	c.t.Helper()
	if err := c.command(args...).Run(); err != nil {
		c.t.Fatalf("outboxd %s: %v\n%s", strings.Join(args, " "), err, c.log.String())
	}
}

// begin starts a command that may be killed.
func (c *child) begin(args ...string) {
	c.t.Helper()
	c.process = c.command(args...)
	if err := c.process.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) start() {
	c.t.Helper()
	c.begin("run")
	c.started++
}

// untilItStreams waits until the process streams, or has ended, and returns how long that took.
func (c *child) untilItStreams() time.Duration {
	c.t.Helper()
	began, before := time.Now(), c.streamed()
	eventually(c.t, "outboxd streams", func() bool { return c.streamed() > before || !running(c.process.Process.Pid) })
	return time.Since(began)
}

// dieAfter kills the process at a moment in its life. It must be alive until then.
func (c *child) dieAfter(life time.Duration) {
	c.t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.process.Wait() }()
	select {
	case err := <-done:
		c.t.Fatalf("outboxd ended by itself: %v\n%s", err, c.log.String())
	case <-time.After(life):
	}
	if err := c.process.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	if err := <-done; err == nil {
		c.t.Fatalf("outboxd ended by itself\n%s", c.log.String())
	}
}

// kill ends the process if it still runs.
func (c *child) kill() {
	if c.process.ProcessState == nil {
		_ = c.process.Process.Kill()
		_ = c.process.Wait()
	}
}

// stop ends the process with SIGINT; it must exit 0.
func (c *child) stop() {
	c.t.Helper()
	if err := c.process.Process.Signal(os.Interrupt); err != nil {
		c.t.Fatal(err)
	}
	if err := c.process.Wait(); err != nil {
		c.t.Fatalf("outboxd did not stop cleanly: %v\n%s", err, c.log.String())
	}
}

// lives says how often it was started and how often it came to stream.
func (c *child) lives() string {
	return fmt.Sprintf("outboxd was started %d times and streamed in %d of them", c.started, c.streamed())
}

// streamed is in how many of its lives it came to stream.
func (c *child) streamed() int { return strings.Count(c.log.String(), `"message":"streaming"`) }
