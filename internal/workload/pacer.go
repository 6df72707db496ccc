package workload

import (
	"context"
	"sync"
	"time"
)

// maxDebt is how far behind its rate a pacer lets its users catch up.
const maxDebt = 500 * time.Millisecond

// pacer spreads events over time for several goroutines.
type pacer struct {
	rate float64 // events a second; 0 or less for no limit

	mu   sync.Mutex
	next time.Time
}

// wait returns when n more events are due, or when ctx ends, and then false.
func (p *pacer) wait(ctx context.Context, n int) bool {
	if p.rate <= 0 {
		return ctx.Err() == nil
	}
	return Sleep(ctx, time.Until(p.due(n, time.Now())))
}

func (p *pacer) due(n int, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if earliest := now.Add(-maxDebt); p.next.Before(earliest) {
		p.next = now
	}
	due := p.next
	p.next = due.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	return due
}

// Sleep waits, and tells whether it did so to the end; false when ctx ended before.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
