package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/outboxd/outboxd/internal/workload"
)

const paceWriters = 8 // at once

// Pace writes transactions at a rate while a reader follows the broker, and measures how long each event takes.
type Pace struct {
	Backlog *Backlog // its shape; Rows is set by Run
	Writer  func(context.Context) (Writer, error)
	Broker  workload.Reader
	Rate    float64       // rows a second
	WarmUp  time.Duration // at the rate, too, but not measured; all of that has arrived before the rest begins
	For     time.Duration
	Ended   func() error // why nothing more will arrive; nil while it may
	Seen    func(n int)  // told how many have arrived

	CPU func() *time.Duration // that the tool has used, nil where it is not known; nil for no tool of its own

	began    time.Time
	measured int64          // the first row that is
	toArrive int            // rows
	next     atomic.Int64   // transaction
	sent     []atomic.Int64 // row: nanoseconds from began until its COMMIT was sent

	mu      sync.Mutex
	tally   *Tally                  // guarded by mu
	hist    *hdrhistogram.Histogram // guarded by mu
	trouble error                   // of the reader, the last one; guarded by mu
}

// A Writer writes rows for a Pace. Several write at once, each one transaction at a time.
type Writer interface {
	// Write writes the rows from first to last, and calls sending just before it sends what makes them visible.
	Write(ctx context.Context, first, last int64, sending func()) error
	// Close ends its connection.
	Close(ctx context.Context) error
}

// Run writes for both times, and returns when everything has arrived.
func (p *Pace) Run(ctx context.Context) (Latency, error) {
	warm := int(p.Rate*p.WarmUp.Seconds()) / p.Backlog.Transaction
	transactions := warm + max(1, int(p.Rate*p.For.Seconds())/p.Backlog.Transaction)
	p.Backlog.Rows, p.measured = transactions*p.Backlog.Transaction, int64(warm*p.Backlog.Transaction)
	p.Backlog.NewRun()
	p.toArrive = p.Backlog.toArrive(0)
	p.sent, p.hist = make([]atomic.Int64, p.Backlog.Rows), newHistogram()
	p.tally = NewTally(p.Backlog)
	p.tally.Unordered = true // the writers share the keys, and nobody knows who committed first
	following, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	p.began = time.Now()
	all.Go(func() { p.Broker.Follow(following, p.arrived, p.complain) })
	if _, err := p.deliver(ctx, 0, warm); err != nil {
		return Latency{}, err
	}
	warmed, before := time.Now(), p.used()
	wrote, err := p.deliver(ctx, warm, transactions)
	if err != nil {
		return Latency{}, err
	}
	used := Used(before, p.used())
	p.mu.Lock()
	defer p.mu.Unlock()
	l := latencies(p.hist)
	if used != nil {
		l.Cores = used.Seconds() / time.Since(warmed).Seconds()
	}
	l.Seconds, l.Rate = wrote.Seconds(), float64(l.Events)/wrote.Seconds()
	return l, p.tally.Err()
}

func (p *Pace) used() *time.Duration {
	if p.CPU == nil {
		return nil
	}
	return p.CPU()
}

// deliver writes some of the transactions, and returns how long that took when they have arrived.
func (p *Pace) deliver(ctx context.Context, from, to int) (wrote time.Duration, err error) {
	began := time.Now()
	if err := p.write(ctx, from, to); err != nil {
		return 0, err
	}
	wrote = time.Since(began)
	return wrote, p.await(ctx, p.Backlog.toArrive(to*p.Backlog.Transaction))
}

// write runs the writers.
func (p *Pace) write(ctx context.Context, from, to int) error {
	began := time.Now()
	p.next.Store(int64(from))
	due := func(i int64) time.Time {
		return began.Add(time.Duration(float64((i-int64(from))*int64(p.Backlog.Transaction)) / p.Rate * float64(time.Second)))
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	failures := make(chan error, paceWriters)
	for range paceWriters {
		go func() {
			err := p.writer(writing, int64(to), due)
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
func (p *Pace) writer(ctx context.Context, to int64, due func(i int64) time.Time) (err error) {
	w, err := p.Writer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close(context.WithoutCancel(ctx))) }()
	rows := int64(p.Backlog.Transaction)
	for {
		i := p.next.Add(1) - 1
		if i >= to {
			return nil
		}
		if !workload.Sleep(ctx, time.Until(due(i))) {
			return ctx.Err()
		}
		first, last := i*rows, (i+1)*rows-1
		if err := w.Write(ctx, first, last, func() { p.sending(first, last) }); err != nil {
			return fmt.Errorf("write rows %d to %d: %w", first, last, err)
		}
	}
}

func (p *Pace) sending(first, last int64) {
	now := int64(time.Since(p.began))
	for i := first; i <= last; i++ {
		p.sent[i].Store(now)
	}
}

func (p *Pace) arrived(r workload.Received) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Backlog.identify(&r)
	p.tally.Add(r)
	n, err := p.Backlog.number(r.ID)
	if err != nil {
		return // counted by the tally
	}
	if int64(n) < p.measured || p.Backlog.ofFailing(n) {
		return
	}
	sent := time.Duration(p.sent[n].Load())
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

// await waits until no more than those are missing, or nothing arrives any more.
func (p *Pace) await(ctx context.Context, unwritten int) error {
	last, moved := 0, time.Now()
	for {
		missing, trouble := p.missing()
		p.Seen(p.toArrive - missing)
		if missing == unwritten {
			return nil
		}
		if missing != last {
			last, moved = missing, time.Now()
		}
		if err := p.Ended(); err != nil {
			return fmt.Errorf("%d events have not arrived: %w", missing-unwritten, err)
		}
		if time.Since(moved) > stall {
			return errors.Join(fmt.Errorf("%d events have not arrived, and none has for %s", missing-unwritten, stall), trouble)
		}
		if !workload.Sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}
