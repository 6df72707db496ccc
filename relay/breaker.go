package relay

import (
	"errors"
	"time"

	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
)

const (
	breakerAttempts = 3                      // failures one after the other that open a destination's breaker, whatever they say
	slowAfter       = 2 * time.Second        // an event that waits for longer, while the budget is used up, is parked: others need the memory
	outageLook      = time.Second            // how often the log held back is measured in an outage
	relieveLook     = 250 * time.Millisecond // how often slow destinations are looked for while the budget, or the part of it that has to do, is used up
	brokerLook      = 3 * time.Second        // how often a broker that is down is asked, at least: one destination asks for all
)

// probe asks for the end of a failure.
type probe struct {
	name    string // of the destination
	target  string // ... and of its target; empty where that itself fails
	failure *failure
}

// errPartitionsChanged says that a destination is none of its target's partitions any more: the topic was made anew.
var errPartitionsChanged = errors.New("the partitions have changed")

// failedAt notes a failure of a destination: it is tried again later, and where the error says that everything fails its breaker
// opens.
func (c *core) failedAt(d *destination, err error) {
	c.fail(&d.failure, err)
	if sink.ClassOf(err) == sink.Unavailable || d.failure.attempts >= breakerAttempts || c.budget.starved.Load() {
		c.setOpen(&d.failure, true)
	}
	c.brokerFails(d.sink, &d.failure, err)
	c.spillWhereDue()
	d.enqueue()
}

// brokerFails opens the breaker of the whole sink, where the error says that. The one destination that asks for all does not wait for as long as one
// that fails alone.
func (c *core) brokerFails(s *sinkLane, f *failure, err error) {
	if !sink.BrokerDown(err) {
		return
	}
	if s.down == nil {
		s.down = f
		c.setOpen(f, true)
		c.facts.brokerDown(s.name, true)
		c.cfg.Log.Warn().Str("sink", s.name).Err(err).Msg("the broker is down; its events wait")
	}
	if latest := time.Now().Add(brokerLook); s.down == f && f.retryAt.After(latest) {
		f.retryAt = latest
	}
}

// retry goes on with a destination after its wait: by a probe where its breaker is open.
func (c *core) retry(d *destination) {
	if d.failure.open {
		c.probe(d.sink, &d.failure)
		return
	}
	c.goOn(d)
}

// probe asks one destination whether it accepts anything again. While the whole broker is down, the one that found it out asks for all.
func (c *core) probe(s *sinkLane, f *failure) {
	if s.down != nil && s.down != f {
		f.retryAt = time.Now().Add(c.cfg.RetryMax)
		return
	}
	s.probes.push(probe{f.name, f.target, f}, f.slow)
}

// probed closes a breaker, or leaves it open for another, longer while.
func (c *core) probed(j *job) {
	f, s := j.probe.failure, j.sink
	if errors.Is(j.err, errPartitionsChanged) {
		c.halt(j.err) // the next session asks for them, and gives them what is parked
		return
	}
	if j.err != nil {
		c.fail(f, j.err)
		c.brokerFails(s, f, j.err)
		c.spillWhereDue()
		if s.down == f && !sink.BrokerDown(j.err) { // it is this destination alone by now
			c.brokerUp(s)
		}
		return
	}
	c.setOpen(f, false)
	if s.down == f {
		c.brokerUp(s)
	}
	f.retry()
	c.endFailure(f)
}

// endFailure ends a failure where nothing is left to try.
func (c *core) endFailure(f *failure) {
	if d := f.destination; d != nil && d.lane.Len() == 0 && d.lane.Keys.Empty() {
		c.succeed(f)
	}
}

// brokerUp lets everything at the sink be tried again.
func (c *core) brokerUp(s *sinkLane) {
	s.down, s.spilling = nil, false
	c.facts.brokerDown(s.name, false)
	c.cfg.Log.Info().Str("sink", s.name).Msg("the broker answers again")
	for _, t := range c.targetsOf(s.name) {
		if t.assumed || t.partitions == nil && t.resolving {
			t.failure.retryAt = time.Time{}
			t.resolve()
			continue
		}
		for _, d := range t.partitions {
			if sink.BrokerDown(d.failure.err) {
				c.setOpen(&d.failure, false)
				d.failure.retryAt = time.Time{}
			}
			c.endFailure(&d.failure)
			c.goOn(d)
		}
	}
}

func (c *core) targetsOf(sinkName string) []*target {
	var all []*target
	for at, t := range c.targets {
		if at.Sink == sinkName {
			all = append(all, t)
		}
	}
	return all
}

func (c *core) destinationsOf(sinkName string) []*destination {
	var all []*destination
	for _, t := range c.targetsOf(sinkName) {
		all = append(all, t.partitions...)
	}
	return all
}

// spillWhereDue decides where events are parked because their destination fails. A destination that fails alone is spilled at once. A broker that
// is down holds the log back, which costs nothing, as long as no other sink is held up by that and the log stays inside its limit.
// A session that is to leave its log (swapped) spills at once.
func (c *core) spillWhereDue() {
	for _, s := range c.sinks {
		if s.down == nil {
			for f := range c.failing {
				if f.sink == s.name && f.open {
					c.spillFailure(f)
				}
			}
			continue
		}
		if s.spilling || !c.swapped && !c.othersWork(s) && c.retained < c.maxRetained {
			continue
		}
		s.spilling = true
		c.cfg.Log.Warn().Str("sink", s.name).Int64("retained_bytes", c.retained).
			Msg("the events of the broker that is down are parked, so that the log moves on")
		c.spillSink(s)
	}
}

// spillFailure lets what waits at a destination that fails be parked. It comes for every failure at each new one, so it looks at no other destination.
func (c *core) spillFailure(f *failure) {
	if d := f.destination; d != nil && !d.lane.Keys.Whole() {
		c.parkAll(d)
	}
}

func (c *core) spillSink(s *sinkLane) {
	for _, t := range c.targetsOf(s.name) {
		if t.partitions == nil && !t.rehoming {
			c.assume(t)
		}
		for _, d := range t.partitions {
			c.parkAll(d)
		}
	}
}

// assume lets events of a target be parked under its own name, because its partitions cannot be asked for.
func (c *core) assume(t *target) {
	t.assumed = true
	c.split(t, []string{t.name})
	c.pushWaiting(t)
}

// parkUnresolved lets everything of the target be parked until its partitions are known.
func (c *core) parkUnresolved(t *target) {
	c.assume(t)
	for _, d := range t.partitions {
		c.parkAll(d)
	}
}

// holdAll lets everything for the destination be parked from now on, until its backlog is delivered.
func (c *core) holdAll(d *destination) {
	if !d.lane.Keys.Whole() {
		d.table.cursor, d.table.end, d.table.first = park.Cursor{}, false, d.lane.Queued() > 0
	}
	d.lane.Keys.HoldAll()
	d.sink.pull(d)
	c.waitsAt(d)
}

// parkAll does what holdAll does, and puts the destination in line for it.
func (c *core) parkAll(d *destination) {
	c.holdAll(d)
	d.enqueue()
}

// othersWork tells whether a sink other than s is up.
func (c *core) othersWork(s *sinkLane) bool {
	for _, other := range c.sinks {
		if other != s && other.down == nil {
			return true
		}
	}
	return false
}

// relieveWhereDue parks what a slow destination holds in memory that others need.
func (c *core) relieveWhereDue(now time.Time) {
	if c.budget.starved.Load() && now.Sub(c.relieved) >= relieveLook {
		c.relieved = now
		c.relieve(now)
	}
}

// outageHolds tells whether the log is held back for a broker.
func (c *core) outageHolds() bool {
	for _, s := range c.sinks {
		if s.down != nil && !s.spilling {
			return true
		}
	}
	return false
}

// relieve parks what waits at slow destinations, when others go without memory for that. Where there is no other, waiting is as good. One that is
// late because it stood in line for a publisher is not slow: its whole sink is, and that concerns only the destinations of other sinks.
func (c *core) relieve(now time.Time) {
	if c.outageHolds() {
		return
	}
	var slow, behind []*destination
	punctual := make(map[*sinkLane]bool) // those with a destination that is not late
	for _, t := range c.targets {
		if len(t.waiting) > 0 && !t.rehoming && now.Sub(t.waiting[0].chunk.since) > slowAfter {
			c.parkUnresolved(t)
			continue
		}
		for _, d := range t.partitions {
			switch {
			case !d.late(now):
				punctual[d.sink] = true
			case d.lane.Keys.Whole():
			case !d.blocked() && d.mostlyInLine(now):
				behind = append(behind, d)
			default:
				slow = append(slow, d)
			}
		}
	}
	if len(punctual) == 0 {
		return
	}
	for _, d := range behind {
		if !punctual[d.sink] || len(punctual) > 1 {
			slow = append(slow, d)
		}
	}
	for _, d := range slow {
		c.cfg.Log.Warn().Str("sink", d.sink.name).Str("destination", d.name).Int("events", d.lane.Len()).
			Msg("the destination is slow and others need the memory; its events are parked")
		c.parkAll(d)
	}
}

// late tells whether an event has waited here for long.
func (d *destination) late(now time.Time) bool {
	return d.lane.Len() > 0 && now.Sub(d.lane.Oldest().Value.chunk.since) > slowAfter
}

// relieveWake is when the core has to look again for destinations that are slow, or late where a part of the budget has to do; zero when it has not.
func (c *core) relieveWake(now time.Time) time.Time {
	if c.budget.starved.Load() || c.budget.enough.Load() {
		return now.Add(relieveLook)
	}
	return time.Time{}
}
