package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/workload"
)

const (
	paceWriters = 8           // connections that write
	warmUp      = time.Second // whose events are delivered and not measured
)

// Pace writes transactions at a rate while a reader follows the broker, and measures how long each event takes.
type Pace struct {
	Backlog *Backlog // its shape; Rows is set by Run
	Connect func(context.Context) (*pgx.Conn, error)
	Broker  Broker
	Rate    float64 // rows a second
	For     time.Duration
	Ended   func() error // why nothing more will arrive; nil while it may
	Seen    func(n int)  // told how many have arrived

	began     time.Time
	next      atomic.Int64   // transaction
	sent      []atomic.Int64 // row: nanoseconds from began until its COMMIT was sent
	committed atomic.Int64   // rows

	mu      sync.Mutex
	tally   *Tally                  // guarded by mu
	hist    *hdrhistogram.Histogram // guarded by mu
	trouble error                   // of the reader, the last one; guarded by mu
}

// Run writes for the time, and returns when everything has arrived.
func (p *Pace) Run(ctx context.Context) (Latency, error) {
	transactions := max(1, int(p.Rate*p.For.Seconds())/p.Backlog.Transaction)
	p.Backlog.Rows = transactions * p.Backlog.Transaction
	p.Backlog.NewRun()
	p.sent, p.hist = make([]atomic.Int64, p.Backlog.Rows), newHistogram()
	p.tally = NewTally(p.Backlog)
	p.tally.Unordered = true // the writers share the keys, and nobody knows who committed first
	following, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	p.began = time.Now()
	all.Go(func() { p.Broker.Follow(following, p.arrived, p.complain) })
	err := p.write(ctx, transactions)
	wrote := time.Since(p.began)
	if err != nil {
		return Latency{}, err
	}
	if err := p.await(ctx); err != nil {
		return Latency{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := latencies(p.hist)
	l.Seconds, l.Rate = wrote.Seconds(), float64(p.Backlog.Rows)/wrote.Seconds()
	return l, p.tally.Err()
}

// write runs the writers.
func (p *Pace) write(ctx context.Context, transactions int) error {
	writing, stop := context.WithCancel(ctx)
	defer stop()
	failures := make(chan error, paceWriters)
	for range paceWriters {
		go func() {
			err := p.writer(writing, int64(transactions))
			if err != nil {
				stop()
			}
			failures <- err
		}()
	}
	var failed error
	for range paceWriters {
		if err := <-failures; failed == nil || errors.Is(failed, context.Canceled) {
			failed = err
		}
	}
	return failed
}

// writer takes the next transaction, waits until it is due, and writes it.
func (p *Pace) writer(ctx context.Context, transactions int64) (err error) {
	conn, err := p.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	b := p.Backlog
	statement := b.insert() + fmt.Sprintf(` FROM (SELECT %s AS tenants, %s AS topics, %s AS filler) c, generate_series($1::bigint, $2::bigint) n`,
		array(workload.Tenants(b.Tenants)), array(b.topicNames()), quote(b.filler()))
	if _, err := conn.Prepare(ctx, "write", statement); err != nil {
		return fmt.Errorf("prepare the load: %w", err)
	}
	for {
		i := p.next.Add(1) - 1
		if i >= transactions {
			return nil
		}
		due := time.Duration(float64(i) * float64(b.Transaction) / p.Rate * float64(time.Second))
		if !workload.Sleep(ctx, time.Until(p.began.Add(due))) {
			return ctx.Err()
		}
		if err := p.transact(ctx, conn, i*int64(b.Transaction)); err != nil {
			return err
		}
	}
}

// transact writes the rows that begin with first.
func (p *Pace) transact(ctx context.Context, conn *pgx.Conn, first int64) error {
	last := first + int64(p.Backlog.Transaction) - 1
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	batch.Queue("write", first, last)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write rows %d to %d: %w", first, last, err)
	}
	now := int64(time.Since(p.began))
	for i := first; i <= last; i++ {
		p.sent[i].Store(now)
	}
	if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit rows %d to %d: %w", first, last, err)
	}
	p.committed.Add(last - first + 1)
	return nil
}

func (p *Pace) arrived(r workload.Received) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tally.Add(r)
	n, err := p.Backlog.number(r.ID)
	if err != nil {
		return // counted by the tally
	}
	sent := time.Duration(p.sent[n].Load())
	if sent < warmUp && p.For > 2*warmUp {
		return
	}
	if err := p.hist.RecordValue(max(1, (r.SeenAt.Sub(p.began) - sent).Microseconds())); err != nil && p.trouble == nil {
		p.trouble = err
	}
}

func (p *Pace) complain(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = err
}

func (p *Pace) missing() (missing int, trouble error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tally.Missing, p.trouble
}

// await waits until everything has arrived, or nothing does any more.
func (p *Pace) await(ctx context.Context) error {
	last, moved := 0, time.Now()
	for {
		missing, trouble := p.missing()
		p.Seen(p.Backlog.Rows - missing)
		if missing == 0 {
			return nil
		}
		if missing != last {
			last, moved = missing, time.Now()
		}
		if err := p.Ended(); err != nil {
			return fmt.Errorf("%d events have not arrived: %w", missing, err)
		}
		if time.Since(moved) > stall {
			return fmt.Errorf("%d events have not arrived, and none has for %s: %w", missing, stall, errors.Join(trouble))
		}
		if !workload.Sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}
