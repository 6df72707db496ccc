package torture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9/logging"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/testenv"
)

func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxiproxy's
	logging.Disable()                        // go-redis's, which the verdict reads with
	testenv.Main(m)
}

// TestStormLosesAndDoublesNothing is `make torture`; without flags it is the short run.
func TestStormLosesAndDoublesNothing(t *testing.T) {
	chosen, err := given.chosen()
	if err != nil {
		t.Fatal(err)
	}
	chosen, leftOut := able(chosen)
	if len(chosen) == 0 {
		t.Fatalf("this machine can inject none of the faults: %s", strings.Join(leftOut, "; "))
	}
	o := given
	o.disk, o.clock, o.brokerDisk = needed(ownDisk, chosen), needed(ownClock, chosen), needed(ownBrokerDisk, chosen)
	r := newRig(t, o)
	r.keepStandby(chosen)
	result := r.torture(newStorm(o.seed, chosen, o.length))
	result.LeftOut = leftOut
	t.Log("\n" + result.String())
	r.must(result.write(r.dir))
	if !result.OK() {
		t.Fatal("the storm found something")
	}
	if given.sink == "redis" && given.length <= shortRun { // it takes long where much has arrived
		t.Run("AndTheVerdictSeesWhatIsWrong", r.seesWhatIsWrong)
	}
}

// torture lets the application write under the storm, heals everything and judges.
func (r *rig) torture(s *storm) *report {
	began, rounds, length := time.Now(), 0, time.Duration(0)
	result := r.underLoad(func() {
		for ; time.Since(began) < r.o.length; rounds++ {
			next := s.next()
			next.run(r)
		}
		length = time.Since(began)
	})
	result.Began, result.Storm, result.Rounds = began, length.Seconds(), rounds
	return result
}

// underLoad lets the application write while something else happens, and judges.
func (r *rig) underLoad(during func()) *report {
	load, endLoad := context.WithCancel(context.Background())
	follow, endFollow := context.WithCancel(context.Background())
	done := make(chan struct{})
	var written error
	var loading, watching sync.WaitGroup
	loading.Go(func() { written = r.producer.Run(load) })
	watching.Go(func() { r.broker.reader.Follow(follow, r.meter.add, r.readerTrouble()) })
	watching.Go(func() {
		r.timeline.measure(done, func() (int64, int64, int) {
			arrived, findings := r.meter.read()
			return r.producer.Totals().Committed, arrived, findings
		})
	})
	defer watching.Wait()
	defer endFollow()
	defer close(done)
	defer loading.Wait() // also where a fault that cannot be healed ends the test
	defer endLoad()
	r.timeline.begin()
	during()
	endLoad()
	loading.Wait()
	r.must(written)
	r.resolve()
	return r.judge()
}

// readerTrouble tells what the reader meets, as each outage of the broker makes it, but not at each try.
func (r *rig) readerTrouble() func(error) {
	var told time.Time
	return func(err error) {
		if time.Since(told) >= sampleInterval {
			told = time.Now()
			r.timeline.add("note", "the reader of %s: %v", r.o.sink, err)
		}
	}
}

const (
	arrivalPatience = 3 * time.Minute
	settledPatience = time.Minute
)

// resolve finds out which transactions committed whose answer was lost.
func (r *rig) resolve() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r.must(r.producer.Resolve(ctx))
}

// judge waits until all has arrived and is settled, ends the instances, and concludes.
func (r *rig) judge() *report {
	want, began := r.producer.Totals().Committed, time.Now()
	r.timeline.add("note", "the storm is over: waiting for what is due of %d events", want)
	arrived := until(arrivalPatience, func() bool { arrived, _ := r.meter.read(); return arrived >= want })
	settled := until(settledPatience, func() bool {
		now, err := r.left()
		return err == nil && now == left{}
	})
	r.timeline.add("note", "waited for %s", time.Since(began).Round(time.Millisecond))
	if !arrived || !settled {
		r.standsStill()
	}
	for _, i := range r.instances {
		r.must(i.stop())
	}
	return r.conclude()
}

// conclude reads everything from the beginning. No instance may run.
func (r *rig) conclude() *report {
	result := &report{
		Sink: r.o.sink, Seed: r.o.seed, Rate: r.o.rate,
		Transactions: r.producer.Transactions(), CutCommits: r.producer.CutCommits(), Interruptions: r.producer.Interruptions(),
	}
	r.timeline.fill(result)
	for _, i := range r.instances {
		result.Starts += i.started()
		result.Trouble = append(result.Trouble, trouble(i.log.Name())...)
	}
	var err error
	result.Left, err = r.left()
	r.must(err)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	result.Verdict, err = r.broker.arrivals(ctx, r.producer.Ledger())
	r.must(err)
	return result
}

// left counts what the database holds that it should not.
func (r *rig) left() (l left, err error) {
	err = r.query(func(ctx context.Context, conn *pgx.Conn) error {
		const sql = `SELECT count(*) FILTER (WHERE status <> 'SENT'), count(*) - $1 FROM public.outbox`
		err := conn.QueryRow(ctx, sql, r.producer.Totals().Committed).Scan(&l.Unsettled, &l.Extra)
		for _, schema := range r.names("outboxd") {
			parked := 0
			err = errors.Join(err, conn.QueryRow(ctx, `SELECT count(*) FROM `+pgx.Identifier{schema, "parked"}.Sanitize()).Scan(&parked))
			l.Parked += parked
		}
		return err
	})
	return l, err
}

// standsStill keeps what tells who does: the timeline says what is due, and the instances' logs have every goroutine. None is started again, which could
// deliver what is stuck, and the second one must not take over from the first.
func (r *rig) standsStill() {
	r.tellDue()
	for _, i := range r.instances {
		i.retire()
	}
	for _, i := range r.instances {
		r.timeline.add("note", "SIGQUIT to %s, for the goroutines in its log", i.name)
		r.must(i.signal(syscall.SIGQUIT, true))
	}
}

// tellDue tells where what has not arrived is: in the broker, so that the test's reader stood still, or not yet there. While the application writes, what is
// on its way counts, too.
func (r *rig) tellDue() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if found, err := r.broker.arrivals(ctx, r.producer.Ledger()); err != nil {
		r.timeline.add("note", "read %s from the beginning: %v", r.o.sink, err)
	} else {
		r.timeline.add("note", "%d of %d events are not in %s, read from the beginning", found.Missing.Count, found.Committed, r.o.sink)
	}
	if now, err := r.left(); err != nil {
		r.timeline.add("note", "count what is left in the database: %v", err)
	} else {
		r.timeline.add("note", "left in the database: %s", now)
	}
	if slots, err := r.slots(); err != nil {
		r.timeline.add("note", "look at the slots: %v", err)
	} else {
		r.timeline.add("note", "slots: %s", slots)
	}
}

// slots says of each slot who reads it, and how far it is confirmed.
func (r *rig) slots() (text string, err error) {
	err = r.query(func(ctx context.Context, conn *pgx.Conn) error {
		const sql = `SELECT coalesce(string_agg(format('%s read by %s, confirmed to %s', slot_name, coalesce(a.application_name, 'nobody'), confirmed_flush_lsn), '; '), 'none')
			|| '; the log ends at ' || pg_current_wal_lsn() FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE slot_name = ANY ($1)`
		return conn.QueryRow(ctx, sql, r.names(slot)).Scan(&text)
	})
	return text, err
}

// trouble finds what no process may ever log.
func trouble(file string) (found []string) {
	log, err := os.Open(file)
	if err != nil {
		return []string{err.Error()}
	}
	defer log.Close() //nolint:errcheck // it was only read
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || strings.Contains(line, "WARNING: DATA RACE") || strings.Contains(line, secret) {
			found = append(found, fmt.Sprintf("%s: %s", file, line))
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, os.ErrClosed) {
		found = append(found, err.Error())
	}
	return found
}
