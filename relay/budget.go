package relay

import (
	"sync/atomic"
	"time"
)

// aheadPart is which part of the budget has to do while more would only wait in memory.
const aheadPart = 8

// budget is the byte budget for everything in flight. The receiver takes from it before it makes a chunk, the core gives back
// when nothing of a chunk is needed any more. A single chunk larger than the whole budget passes alone.
type budget struct {
	limit int64
	used  atomic.Int64
	freed chan struct{} // capacity 1: there may be room

	enough  atomic.Bool // the core says that a part of it has to do
	starved atomic.Bool // the receiver goes without, at the limit
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, freed: make(chan struct{}, 1)}
}

// take takes n bytes, and returns false when they are not free within wait. Only the receiver calls it.
func (b *budget) take(n int64, wait time.Duration) bool {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		used, enough := b.used.Load(), b.enough.Load()
		if used == 0 || used+n <= b.limit && (!enough || used+n <= b.limit/aheadPart) {
			b.used.Add(n)
			b.starved.Store(false)
			return true
		}
		select {
		case <-b.freed:
		case <-timeout.C:
			b.starved.Store(used+n > b.limit)
			return false
		}
	}
}

func (b *budget) giveBack(n int64) {
	b.used.Add(-n)
	b.wake()
}

// suffice says whether what is read is enough for now, as soon as it is that part of the budget.
func (b *budget) suffice(enough bool) {
	if b.enough.Swap(enough) && !enough {
		b.wake()
	}
}

func (b *budget) wake() {
	select {
	case b.freed <- struct{}{}:
	default:
	}
}
