package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/internal/workload"
)

// Counter tells how many entries there are.
type Counter interface {
	Count(ctx context.Context) (int64, error)
}

// Broker is where events arrive. The readers of workload are such.
type Broker interface {
	workload.Reader
	Counter // of all destinations
	// CPU is the processor time that the broker says it has used; false where it does not.
	CPU(ctx context.Context) (time.Duration, bool)
}

// Watched is when entries arrived.
type Watched struct {
	First, Last time.Duration // since the beginning: the first entries were seen, all were there
	AtFirst     int64         // entries at First
	Entries     int64         // in the end
}

// Rate is entries a second from the first look that saw some to the last entry: without the time to start.
func (w Watched) Rate() float64 { return perSecond(w.Entries-w.AtFirst, w.Last-w.First) }

func perSecond(n int64, in time.Duration) float64 {
	if in <= 0 {
		return 0
	}
	return float64(n) / in.Seconds()
}

// stall is how long nothing may arrive; a busy machine takes minutes to start a program of Java.
const stall = 5 * time.Minute

// Watch counts until there are want entries. It looks every 5 ms, or less often where a look takes long. ended tells by an error that
// nothing more will arrive.
func Watch(ctx context.Context, c Counter, began time.Time, want int64, ended func() error, seen func(n int64)) (w Watched, err error) {
	moved := began
	for {
		asked := time.Now()
		n, err := c.Count(ctx)
		if err != nil {
			return w, err
		}
		now := time.Now()
		if n > w.Entries {
			if w.Entries == 0 {
				w.First, w.AtFirst = now.Sub(began), n
			}
			w.Entries, w.Last, moved = n, now.Sub(began), now
			seen(n)
		}
		if n >= want {
			return w, nil
		}
		if err := ended(); err != nil {
			return w, fmt.Errorf("%d of %d entries are there: %w", n, want, err)
		}
		if now.Sub(moved) > stall {
			return w, fmt.Errorf("%d of %d entries are there, and none has come for %s", n, want, stall)
		}
		if !workload.Sleep(ctx, max(5*time.Millisecond, 10*now.Sub(asked))) {
			return w, errors.Join(fmt.Errorf("%d of %d entries are there", n, want), ctx.Err())
		}
	}
}
