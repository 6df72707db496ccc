package relay

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
)

// core is the one goroutine that owns the tracker, the destinations and the memory of a session. It never blocks on
// a broker or the database: publishers, the settler and the clerks work beside it and report to its channels.
type core struct {
	cfg     *Config
	facts   *facts
	budget  *budget
	tracker *checkpoint.Tracker
	start   event.Position // the checkpoint: what stands below is disposed of everywhere
	epochs  epochs

	in            <-chan *handover
	idle          chan<- *handover
	chunks        chan<- *chunk
	results       chan *job
	refusals      zerolog.Logger // of warnRefused
	requests      chan *settlement
	settled       chan *settlement
	parker        *desk // parks
	pollers       *desk // all other tasks: loads, settling, sweeps
	tasks         chan *task
	nudge         chan struct{} // a person's command has changed what is parked
	confirm       func(event.LSN)
	keep          bool            // delivered rows are left as they are
	stopping      <-chan struct{} // a graceful stop is asked for
	stopReceiving func()          // tells the receiver to receive no more

	sinks   map[string]*sinkLane
	targets map[route.Destination]*target
	failing map[*failure]struct{}

	table        *outbox.Table
	parkedAt     map[park.Destination]park.Summary      // what was parked when the session began
	keysAt       map[park.Destination][]park.WaitingKey // ... and which keys, until their destination is made
	allWait      bool                                   // more keys waited than are remembered
	strays       []stray
	parkedStrays map[string]bool           // ids of those that were parked above the checkpoint before the session
	rerouteDue   bool                      // strays wait for the checkpoint to pass them
	rerouting    single                    // strays are given their destinations
	looking      single                    // what a command has changed is read
	fenced       []fenced                  // destinations at which the term is to be checked
	checking     single                    // the term is checked
	waiting      map[*destination]struct{} // those with something in the table lane
	tableDue     time.Time                 // when dispatchTable has to look again
	counted      time.Time                 // when what waits was last counted
	mirrors      []outbox.Mirror
	sweeping     sweeping

	asTable    string             // what is published as the table
	swapped    bool               // ... and it is not what the slot was read as: the session ends where the log did when it began
	routing    checkpoint.Routing // as recorded, or on its way
	partitions map[string]int     // of targets that had another number on record: what is recorded when nothing of them is in doubt any more
	unsure     unsure
	recording  single     // the routing is written
	unrecorded []answered // targets that wait for that

	leftAlone   outbox.Snapshot // rows that it sees are not delivered, or were, while rows were kept
	unfinished  bool            // something was delivered from the table since the checkpoint was saved
	finishDue   bool            // delivered events may be ready for removal
	finishing   bool
	retained    int64 // bytes of log held back, as measured last
	measured    time.Time
	maxRetained int64 // beyond it the events of a broker that is down are parked
	measuring   bool
	relieved    time.Time

	openBreakers int64
	open         int64 // events of the log that are neither delivered nor parked everywhere

	targetLimit int // at so many targets the idle ones are forgotten
	keyBuf      []byte
	tx          checkpoint.Tx // the one that is being received
	carries     bool          // ... and it has events

	settleQueue    []*entry
	settleDue      time.Time
	settleHeld     bool // some of what the last answer named was not visible: not before settleDue
	settling       bool
	settlingBeside bool // a clerk settles, too
	settleMost     int  // rows in one statement
	saveDue        time.Time
	progress       bool // an event was settled since the last save
	saveNow        bool
	saved          event.LSN

	received bool // the receiver has handed over its last
	draining bool
	drainBy  time.Time
	stopped  error // why the stream cannot go on: what the receiver could not decode, errPartitionsChanged or errMayHaveLanded
}

// idleSave is how far the log may run ahead of the checkpoint while no event passes: writing the checkpoint makes log
// itself, so an idle system would never come to rest.
const idleSave = 1 << 20

// run works until ctx ends, the drain that stopping asks for is over (nil), or something stops the stream (its error).
func (c *core) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		c.dispatch()
		c.publishFacts()
		if c.drained() {
			return c.finish()
		}
		timer.Reset(c.untilNextWake())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case h, ok := <-c.in:
			c.receive(h, ok)
		case j := <-c.results:
			c.finished(j)
		case s := <-c.settled:
			if err := c.settlementDone(s); err != nil {
				return err
			}
		case t := <-c.tasks:
			if err := c.taskDone(t); err != nil {
				return err
			}
		case <-c.nudge:
			c.nudged()
		case <-c.stopping:
			c.stopping = nil
			c.facts.enter(StateDraining, "asked to stop")
			c.drain(c.cfg.ShutdownTimeout)
		case <-timer.C:
			c.retryFailed(time.Now())
		}
	}
}

// dispatch hands out all work that is ready.
func (c *core) dispatch() {
	now := time.Now()
	c.releaseHeld()
	c.dispatchTable(now)
	c.dispatchParks()
	for _, s := range c.sinks {
		s.dispatch(c.cfg)
	}
	c.dispatchMirrors()
	c.dispatchFinish()
	c.measure(now)
	c.relieveWhereDue(now)
	c.budget.suffice(c.enough(now))
	c.sweep(now)
	c.requestSettlement(now)
}

// enough tells whether every destination has a batch in line behind the one that is under way, so that what is read from the log now only waits
// in memory. While something fails or is slow the budget is used to its end: others may be behind that in the log, and that they go without is
// what parks its events.
func (c *core) enough(now time.Time) bool {
	if len(c.failing) > 0 || len(c.targets) == 0 {
		return false
	}
	for _, t := range c.targets { // at most as many as memory holds two batches for, and one more
		if t.partitions == nil {
			return false
		}
		for _, d := range t.partitions {
			if d.lane.Len() < 2*c.cfg.BatchMessages || d.late(now) {
				return false
			}
		}
	}
	return true
}

// publishFacts shows how far the session is, and since when the oldest transaction waits.
func (c *core) publishFacts() {
	c.facts.progressed(c.tracker.Safe())
	c.facts.oldestCommit.Store(c.tracker.Oldest())
	c.facts.openEvents.Store(c.open)
}

func (c *core) receive(h *handover, ok bool) {
	if !ok {
		c.in, c.received = nil, true
		if (c.cfg.Until > 0 || c.swapped) && c.stopped == nil {
			c.progress = true   // how far it came is recorded, also where no event passed
			c.unfinished = true // what is delivered or skipped leaves the table lane, behind the last checkpoint
			c.finishDue = c.finishDue || c.tracker.Safe() <= c.saved
			c.drain(untilDrain)
		}
		return
	}
	if h.chunk != nil && h.chunk.refs == 0 {
		h.chunk.refs = 1 // the receiver's own, until markChunkFull
		h.chunk.since = time.Now()
	}
	next := 0
	for i := range h.entries {
		for ; next < len(h.marks) && h.marks[next].at <= i; next++ {
			c.apply(h.marks[next], h.chunk)
		}
		c.accept(&h.entries[i])
	}
	for ; next < len(h.marks); next++ {
		c.apply(h.marks[next], h.chunk)
	}
	c.saveNow = c.saveNow || h.replyNow
	if h.halt != nil {
		c.halt(h.halt)
	}
	*h = handover{marks: h.marks[:0]}
	select {
	case c.idle <- h:
	default:
	}
}

func (c *core) apply(m mark, full *chunk) {
	switch m.kind {
	case markBegin:
		c.tx, c.carries = c.tracker.Begin(m.time), false
	case markCommit:
		c.tracker.Commit(m.lsn)
		c.progress = c.progress || c.carries // they may be settled, and the checkpoint saved, already
		c.receivedUpTo(m.lsn)
	case markKeepalive:
		c.tracker.Keepalive(m.lsn)
		c.receivedUpTo(m.lsn)
	case markChunkFull:
		c.release(full)
	}
	c.facts.received(m.lsn)
}

// accept routes an event and queues it at its destinations.
func (c *core) accept(e *entry) {
	c.tracker.Add(1)
	if c.stopped != nil {
		return // never settled, so nothing is confirmed past what stopped the stream
	}
	e.tx, c.carries = c.tx, true
	e.chunk.refs++
	c.open++
	e.event.Position.Epoch = c.epochs.at(e.event.Position.Commit)
	destinations, err := c.destinations(e)
	if err != nil {
		e.open = 1
		c.strays = append(c.strays, stray{e, err})
		return
	}
	e.open = len(destinations) + 1
	for _, d := range destinations {
		c.target(d).push(c, e)
	}
	c.disposed(e) // the one on top, so that the event is not done before the last destination has it
}

// destinations returns where the event goes: nowhere, where that is configured for what no route matches. With an error it is a stray.
func (c *core) destinations(e *entry) ([]route.Destination, error) {
	if e.fault != nil {
		return nil, e.fault
	}
	if len(c.parkedStrays) > 0 && c.parkedStrays[string(e.event.ID)] {
		return nil, nil // parked before, when it had none: a person decides, whatever the routes say now
	}
	found, err := c.cfg.Router.Route(&e.event)
	if errors.Is(err, route.ErrUnrouted) && c.cfg.DropUnrouted {
		c.facts.droppedUnrouted.Add(1)
		return nil, nil
	}
	return found, err
}

// disposed counts one destination of the event as done.
func (c *core) disposed(e *entry) {
	if e.open--; e.open > 0 {
		return
	}
	c.open--
	if c.keep {
		c.settle(e)
		return
	}
	if len(c.settleQueue) == 0 {
		c.settleDue = time.Now().Add(settleInterval)
	}
	c.settleQueue = append(c.settleQueue, e)
}

// settle ends an event: its transaction may be confirmed as far as it is concerned, its memory is free.
func (c *core) settle(e *entry) {
	c.tracker.Settle(e.tx, 1)
	c.progress = true
	c.release(e.chunk)
}

func (c *core) release(used *chunk) {
	if used.refs--; used.refs > 0 {
		return
	}
	c.budget.giveBack(used.cost())
	used.recycle()
	if !used.regular() {
		return
	}
	select {
	case c.chunks <- used:
	default:
	}
}

// maxTargets is how many targets are kept in memory, as far as the others are idle.
const maxTargets = 20_000

// forgetTargets drops the idle targets when there are too many. What is forgotten is learnt again: at its next event a destination is
// fenced and its tail read. Nothing is doubled even where somebody trimmed that tail, because a session receives each event once.
func (c *core) forgetTargets() {
	if len(c.targets) < c.targetLimit {
		return
	}
	for d, t := range c.targets {
		if t.idle() {
			delete(c.targets, d)
		}
	}
	c.targetLimit = max(maxTargets, 2*len(c.targets)) // the busy ones are not looked at for each new one
}

// target returns the target of a route's destination, made on first use.
func (c *core) target(d route.Destination) *target {
	t, ok := c.targets[d]
	if !ok {
		c.forgetTargets()
		t = c.newTarget(c.sinks[d.Sink], d.Name)
		c.targets[d] = t
		if t.sink.spilling && t.partitions == nil {
			c.assume(t)
		}
	}
	return t
}
