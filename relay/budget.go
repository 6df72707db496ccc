package relay

import (
	"sync/atomic"
	"time"
)

// budget is the byte budget for everything in flight. The receiver takes from it before it makes a chunk, the core gives back
// when nothing of a chunk is needed any more. A single chunk larger than the whole budget passes alone.
type budget struct {
	limit int64
	used  atomic.Int64
	freed chan struct{} // capacity 1: something was given back

	starved atomic.Bool // the receiver goes without
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, freed: make(chan struct{}, 1)}
}

// take takes n bytes, and returns false when they are not free within wait. Only the receiver calls it.
func (b *budget) take(n int64, wait time.Duration) bool {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		if used := b.used.Load(); used == 0 || used+n <= b.limit {
			b.used.Add(n)
			b.starved.Store(false)
			return true
		}
		select {
		case <-b.freed:
		case <-timeout.C:
			b.starved.Store(true)
			return false
		}
	}
}

func (b *budget) giveBack(n int64) {
	b.used.Add(-n)
	select {
	case b.freed <- struct{}{}:
	default:
	}
}
