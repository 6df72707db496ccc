package relay

import (
	"errors"
	"time"
)

func (c *core) halt(cause error) {
	if c.stopped != nil {
		return
	}
	if s, ok := errors.AsType[*StoppedError](cause); ok {
		s.Position.Epoch = c.epochs.at(s.Position.Commit) // which the log does not know
	}
	c.stopped = cause
	c.drain(stopDrain)
}

// stopDrain is how long the rest may take when an event has stopped the stream.
const stopDrain = 5 * time.Second

// untilDrain is how long the rest may take at Config.Until, or where the slot counts as lost behind it, where nobody has asked for a stop.
const untilDrain = 10 * time.Minute

// drain begins the end of the session: nothing more is received, and what is here has until the timeout. A stop behind Config.Until makes that shorter.
func (c *core) drain(timeout time.Duration) {
	by := time.Now().Add(timeout)
	if c.draining {
		if (c.cfg.Until > 0 || c.swapped) && by.Before(c.drainBy) {
			c.drainBy = by
		}
		return
	}
	c.draining = true
	c.drainBy = by
	c.stopReceiving()
	for _, s := range c.sinks {
		s.draining = true
		for _, d := range c.destinationsOf(s.name) {
			d.enqueue() // what has waited for the end of a backlog
		}
	}
}

// drained tells whether a drain is over: all is disposed of, settled and saved, or the time is.
func (c *core) drained() bool {
	if !c.draining {
		return false
	}
	if time.Now().After(c.drainBy) {
		return true
	}
	// What comes behind an event that stops the stream is not waited for.
	if !c.received && c.stopped == nil || c.settling || len(c.settleQueue) > 0 || c.tracker.Safe() > c.saved && c.progress {
		return false
	}
	if !c.parker.idle() || !c.pollers.idle() || len(c.strays) > 0 {
		return false
	}
	for _, s := range c.sinks {
		if s.active() {
			return false
		}
	}
	// Those that fail are retried until the time is over, unless the stream is stopped anyway.
	return c.stopped != nil || !c.anyQueued()
}

// anyQueued tells whether an event of the log waits for its destination.
func (c *core) anyQueued() bool {
	for _, t := range c.targets {
		if len(t.waiting) > 0 {
			return true
		}
		for _, d := range t.partitions {
			if d.lane.Len() > 0 {
				return true
			}
		}
	}
	return false
}

func (c *core) finish() error {
	if c.stopped != nil {
		return c.stopped
	}
	if open := c.tracker.Open(); open > 0 {
		return &UnfinishedError{Transactions: open}
	}
	return nil
}
