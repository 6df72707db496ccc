package relay

import (
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/sink"
)

// failure is what goes wrong at a destination, and when to try again.
type failure struct {
	sink   string
	name   string // the destination's
	target string // of the destination; empty for a target's own failure

	destination *destination // nil for a target's own failure

	err      error
	since    time.Time
	attempts int
	retryAt  time.Time
	backoff  *backoff.ExponentialBackOff
	slow     bool   // its last call took long
	open     bool   // nothing is tried but a probe, until one succeeds
	retry    func() // puts the work back where it is dispatched from
}

// waits tells whether the failure holds the destination back for now.
func (f *failure) waits() bool { return !f.retryAt.IsZero() }

func isRejected(err error) bool { return sink.ClassOf(err) == sink.Rejected }

// fail notes that a destination's work failed and when it is tried again: after a time that grows, with jitter.
func (c *core) fail(f *failure, err error) {
	now := time.Now()
	if f.attempts == 0 {
		f.since = now
		f.backoff = backoff.NewExponentialBackOff()
		f.backoff.InitialInterval = c.cfg.RetryBase
		f.backoff.MaxInterval = c.cfg.RetryMax
		c.cfg.Log.Warn().Str("sink", f.sink).Str("destination", f.name).Str("class", sink.ClassOf(err).String()).
			Err(err).Msg("destination fails; its events wait")
	}
	f.attempts++
	f.err = err
	f.retryAt = now.Add(f.backoff.NextBackOff())
	c.failing[f] = struct{}{}
	c.facts.failed(f, sink.ClassOf(err))
}

// setOpen opens or closes the breaker of a failure.
func (c *core) setOpen(f *failure, open bool) {
	if f.open == open {
		return
	}
	f.open = open
	if open {
		c.openBreakers++
	} else {
		c.openBreakers--
	}
	c.facts.openBreakers.Store(c.openBreakers)
}

// succeed ends a failure.
func (c *core) succeed(f *failure) {
	if f.attempts == 0 { // it only waits for another try
		delete(c.failing, f)
		return
	}
	level := zerolog.InfoLevel
	if f.err == nil || sink.BrokerDown(f.err) {
		level = zerolog.DebugLevel // one line for the broker is enough
	}
	c.cfg.Log.WithLevel(level).Str("sink", f.sink).Str("destination", f.name).Int("attempts", f.attempts).
		Stringer("failed_for", time.Since(f.since).Round(time.Millisecond)).Msg("destination works again")
	f.attempts, f.err, f.retryAt = 0, nil, time.Time{}
	c.setOpen(f, false)
	delete(c.failing, f)
	c.facts.recovered(f)
}

// retryFailed puts what failed and is due back in line.
func (c *core) retryFailed(now time.Time) {
	for f := range c.failing {
		if f.waits() && !now.Before(f.retryAt) {
			f.retryAt = time.Time{}
			f.retry()
		}
	}
}

// untilNextWake is how long the core may wait for others.
func (c *core) untilNextWake() time.Duration {
	now := time.Now()
	wait := time.Hour
	consider := func(at time.Time) { wait = min(wait, max(at.Sub(now), 0)) }
	for f := range c.failing {
		if f.waits() {
			consider(f.retryAt)
		}
	}
	if !c.settling && len(c.settleQueue) > 0 {
		consider(c.settleDue)
	}
	if !c.settling && c.wantsSave() {
		consider(c.saveDue)
	}
	if c.draining {
		consider(c.drainBy)
	}
	for _, at := range []time.Time{c.tableWake(), c.relieveWake(now), c.measureWake(), c.sweepWake()} {
		if !at.IsZero() {
			consider(at)
		}
	}
	return wait
}
