//go:build resources

package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

// patience is how long nothing at all may move before a test gives up. It is no limit of how long something takes.
const patience = 10 * time.Minute

// megabyte is what the bounds of memory are said in.
const megabyte = 1e6

// memoryLimit is what Go is told to live in, of the 128 MB that the bounds speak of: beside it there are the program's own pages, some 20 MB of them.
// Without it the collector lets garbage grow to as much as is alive, and later than that where processors are short.
const memoryLimit = "80MiB"

// lone is a single outboxd, with the settings that it has by default and a limit of memory, PostgreSQL, and a Redis for those who want it.
type lone struct {
	*rig
	server  *testenv.RedisServer
	metrics string
	environ []string
	flags   []string // of the command run
	log     *os.File
	process *instance
}

// newLone starts the servers. begin starts outboxd.
func newLone(t *testing.T, environ ...string) *lone {
	t.Helper()
	l := &lone{rig: &rig{t: t, o: options{shards: 1}, dir: given.dir, network: newNetwork()}, metrics: testenv.FreeAddress(t)}
	l.must(l.folder())
	t.Cleanup(l.network.close)
	l.database = testenv.Postgres(t).Database(t)
	l.server = testenv.NewRedis(t, testenv.RedisOptions{})
	l.migrate()
	l.environ = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.Getenv("TMPDIR"),
		"GOMEMLIMIT=" + memoryLimit, "DATABASE_URL=" + l.database, "OUTBOXD_DATABASE_SLOT=" + slot, "OUTBOXD_HTTP_ADDR=" + l.metrics, "OUTBOXD_LOG_FORMAT=json",
	}, environ...)
	var err error
	l.log, err = os.OpenFile(filepath.Join(l.dir, t.Name()+".log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	l.must(err)
	l.process = &instance{name: "outboxd", program: l.build(), log: l.log, tell: func(format string, args ...any) { t.Errorf(format, args...) }}
	return l
}

// begin starts outboxd with more settings, and waits until it streams.
func (l *lone) begin(more ...string) {
	l.t.Helper()
	l.process = &instance{
		name: "outboxd", program: l.process.program, log: l.log, tell: l.process.tell, environ: slices.Concat(l.environ, more), flags: l.flags,
	}
	running := l.process
	running.begin()
	l.t.Cleanup(func() {
		if err := running.stop(); err != nil {
			l.t.Error(err)
		}
	})
	l.await("outboxd streams", func() bool {
		return l.count(`SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active`, slot) == 1
	})
}

// end stops outboxd as a person does.
func (l *lone) end() {
	l.t.Helper()
	l.must(l.process.stop())
}

// peak is the most memory that the process has held, in MB: what the kernel counts as VmHWM.
func (l *lone) peak() float64 {
	l.t.Helper()
	l.process.mu.Lock()
	pid := l.process.process.Process.Pid
	l.process.mu.Unlock()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	l.must(err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kibibytes float64
	if _, err := fmt.Sscan(rest, &kibibytes); err != nil {
		l.t.Fatalf("read VmHWM: %v", err)
	}
	return kibibytes * 1024 / megabyte
}

// within judges the most memory that was held.
func (l *lone) within(limit float64) {
	l.t.Helper()
	peak := l.peak()
	l.t.Logf("peak of resident memory: %.1f MB of %.0f", peak, limit)
	if peak > limit {
		l.t.Errorf("outboxd held up to %.1f MB, want %.0f at most", peak, limit)
	}
}

// write inserts rows in one transaction: a SELECT of tenant, topic, aggregate id and size of the payload from the numbers n of the events.
// The number is in the event's id, see numberOf.
func (l *lone) write(from, to int64, what string) {
	l.t.Helper()
	l.must(l.patiently(`INSERT INTO outbox (id, tenant_id, topic, aggregate_type, aggregate_id, occurred_at, payload)
		SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, tenant, topic, 'thing', key::text, now(), jsonb_build_object('fill', repeat('x', size::int))
		FROM (SELECT n, `+what+` FROM generate_series($1::bigint, $2::bigint - 1) n) AS events (n, tenant, topic, key, size)`, from, to))
}

// numberOf is the number in an id that write made.
func numberOf(id string) (n int64, err error) {
	_, err = fmt.Sscanf(id, "00000000-0000-4000-8000-%x", &n)
	return n, err
}

// patiently runs a statement that may take long.
func (l *lone) patiently(sql string, args ...any) (err error) {
	conn, err := pgx.Connect(l.t.Context(), l.database)
	if err != nil {
		return err
	}
	_, err = conn.Exec(l.t.Context(), sql, args...)
	return errors.Join(err, conn.Close(context.Background()))
}

// count asks PostgreSQL for a number, which may take long where much is counted.
func (l *lone) count(sql string, args ...any) (n int64) {
	l.t.Helper()
	conn, err := pgx.Connect(l.t.Context(), l.database)
	l.must(err)
	err = conn.QueryRow(l.t.Context(), sql, args...).Scan(&n)
	l.must(errors.Join(err, conn.Close(context.Background())))
	return n
}

// await waits for a condition.
func (l *lone) await(what string, condition func() bool) {
	l.t.Helper()
	if !until(patience, condition) {
		l.t.Fatalf("%s: not after %v; see %s", what, patience, l.log.Name())
	}
	l.t.Logf("%s: reached", what)
}

// awaitNumber waits until a number has become another one, for as long as it moves.
func (l *lone) awaitNumber(what string, want int64, look func() int64) {
	l.t.Helper()
	began := time.Now()
	last, moved := look(), time.Now()
	for ; last != want; time.Sleep(time.Second) {
		if now := look(); now != last {
			last, moved = now, time.Now()
		} else if time.Since(moved) > patience {
			l.t.Fatalf("%s: still %d and not %d after %v; see %s", what, last, want, patience, l.log.Name())
		}
	}
	l.t.Logf("%s: %d after %v", what, want, time.Since(began).Round(time.Second/10))
}

// settled waits until no row of the outbox is due any more.
func (l *lone) settled() {
	l.t.Helper()
	l.awaitNumber("rows that are not SENT", 0, func() int64 { return l.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) })
}

// gauge reads a metric without labels.
func (l *lone) gauge(name string) float64 { return l.page(l.metrics)[name] }

// arrivals judges what a broker holds: at each destination the events of a key stand in the order of their numbers, none twice.
type arrivals struct {
	t    *testing.T
	last map[string]int64 // by destination and key
	n    int64
}

func newArrivals(t *testing.T) *arrivals { return &arrivals{t: t, last: map[string]int64{}} }

func (a *arrivals) add(destination, key, id string) {
	number, err := numberOf(id)
	if err != nil {
		a.t.Fatalf("the id %q of an event at %s: %v", id, destination, err)
	}
	at := destination + " " + key
	if before, known := a.last[at]; known && number <= before {
		a.t.Errorf("at %s event %d came behind event %d", at, number, before)
	}
	a.last[at] = number
	a.n++
}

// all reads what a reader finds, and judges that it is so many events, each once and in order.
func (l *lone) all(reader workload.Reader, want int64) {
	l.t.Helper()
	a := newArrivals(l.t)
	l.must(errors.Join(reader.ReadAll(l.t.Context(), func(r workload.Received) { a.add(r.Destination, r.Key, r.ID) }), reader.Close()))
	l.t.Logf("%d events arrived", a.n)
	if a.n != want {
		l.t.Errorf("%d events arrived, want %d", a.n, want)
	}
}

// allOnRedis is all for the streams whose names begin so.
func (l *lone) allOnRedis(prefix string, want int64) {
	l.t.Helper()
	reader, err := workload.NewRedisReader(l.server.URL, prefix)
	l.must(err)
	l.all(reader, want)
}

// stored is how many entries the streams have whose names begin so.
func (l *lone) stored(prefix string) (n int64) {
	l.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: l.server.Addr})
	defer client.Close()
	streams := client.Scan(l.t.Context(), 0, prefix+"*", 1000).Iterator()
	for streams.Next(l.t.Context()) {
		length, err := client.XLen(l.t.Context(), streams.Val()).Result()
		l.must(err)
		n += length
	}
	l.must(streams.Err())
	return n
}
