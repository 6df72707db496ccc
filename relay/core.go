package relay

import (
	"context"
	"errors"
	"time"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/route"
)

// core is the one goroutine that owns the tracker, the destinations and the memory of a session. It never blocks on
// a broker or the database: publishers and the settler work beside it and report to its channels.
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
	requests      chan *settlement
	settled       chan *settlement
	confirm       func(event.LSN)
	keep          bool            // delivered rows are left as they are
	stopping      <-chan struct{} // a graceful stop is asked for
	stopReceiving func()          // tells the receiver to receive no more

	sinks   map[string]*sinkLane
	targets map[route.Destination]*target
	failing map[*failure]struct{}

	targetLimit int // at so many targets the idle ones are forgotten
	keyBuf      []byte
	tx          checkpoint.Tx

	settleQueue []*entry
	settleDue   time.Time
	settleHeld  bool // what the last round named was not visible: not before settleDue
	settling    bool
	saveDue     time.Time
	progress    bool // an event was settled since the last save
	saveNow     bool
	saved       event.LSN

	received bool // the receiver has handed over its last
	draining bool
	drainBy  time.Time
	stopped  error // the stream cannot go on: *StoppedError, or what the receiver could not decode
}

// idleSave is how far the log may run ahead of the checkpoint while no event passes: writing the checkpoint makes log
// itself, so an idle system would never come to rest.
const idleSave = 1 << 20

// run works until ctx ends, the drain that stopping asks for is over (nil), or an event stops the stream (*StoppedError).
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
	for _, s := range c.sinks {
		s.dispatch(c.cfg)
	}
	c.requestSettlement(time.Now())
}

// publishFacts shows how far the session is, and since when the oldest transaction waits.
func (c *core) publishFacts() {
	c.facts.progressed(c.tracker.Safe())
	c.facts.oldestCommit.Store(c.tracker.Oldest())
}

func (c *core) receive(h *handover, ok bool) {
	if !ok {
		c.in, c.received = nil, true
		return
	}
	if h.chunk != nil && h.chunk.refs == 0 {
		h.chunk.refs = 1 // the receiver's own, until markChunkFull
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
		c.tx = c.tracker.Begin(m.time)
	case markCommit:
		c.tracker.Commit(m.lsn)
	case markKeepalive:
		c.tracker.Keepalive(m.lsn)
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
	e.tx = c.tx
	e.chunk.refs++
	e.event.Position.Epoch = c.epochs.at(e.event.Position.Commit)
	destinations, err := c.cfg.Router.Route(&e.event)
	switch {
	case errors.Is(err, route.ErrUnrouted) && c.cfg.DropUnrouted:
		c.facts.droppedUnrouted.Add(1)
	case err != nil:
		c.stop(e, "", err)
		return
	}
	e.open = len(destinations) + 1
	for _, d := range destinations {
		c.target(d).push(c, e)
	}
	c.disposed(e) // the one on top, so that the event is not done before the last destination has it
}

// disposed counts one destination of the event as done.
func (c *core) disposed(e *entry) {
	if e.open--; e.open > 0 {
		return
	}
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
		t = newTarget(c.sinks[d.Sink], d.Name, c.start, c.epochs.newest())
		c.targets[d] = t
	}
	return t
}

// finished takes a job's results.
func (c *core) finished(j *job) {
	j.sink.ended(j)
	switch j.kind {
	case jobResolve:
		c.resolved(j)
	case jobTail:
		c.tailRead(j)
	case jobPublish:
		c.published(j)
	}
	j.sink.reuse(j)
}

func (c *core) resolved(j *job) {
	t := j.target
	if j.err != nil {
		c.fail(&t.failure, j.err)
		return
	}
	c.succeed(&t.failure)
	t.split(j.names, c.start, c.epochs.newest())
	waiting := t.waiting
	t.waiting = nil
	for _, e := range waiting {
		t.push(c, e)
	}
}

func (c *core) tailRead(j *job) {
	d := j.spans[0].destination
	if j.err != nil {
		d.lane.TailFailed()
		c.fail(&d.failure, j.err)
		return
	}
	err := d.lane.TailRead(j.highest, func(i lane.Item[*entry]) {
		c.facts.count(d.sink.name, resultFound, 1)
		c.disposed(i.Value)
	})
	if err != nil {
		c.fail(&d.failure, err)
		return
	}
	if d.lane.Len() == 0 {
		c.succeed(&d.failure)
	}
	d.enqueue()
}

func (c *core) published(j *job) {
	for _, s := range j.spans {
		c.publishedTo(s.destination, j.items[s.from:s.to], j.errs[s.from:s.to])
	}
}

// publishedTo takes the results of one destination: a prefix of nils, then the first error.
func (c *core) publishedTo(d *destination, items []lane.Item[*entry], errs []error) {
	landed := 0
	for landed < len(errs) && errs[landed] == nil {
		landed++
	}
	var err error
	known := true
	if landed < len(errs) {
		err = errs[landed]
		known = fateKnown(err)
	}
	d.lane.Published(landed, known, func(i lane.Item[*entry]) { c.disposed(i.Value) })
	c.facts.count(d.sink.name, resultDelivered, landed)
	switch {
	case err == nil:
		c.succeed(&d.failure)
	case isRejected(err):
		c.facts.count(d.sink.name, resultRejected, 1)
		d.dead = true
		c.stop(items[landed].Value, d.label(), err)
	default:
		c.fail(&d.failure, err)
		return
	}
	d.enqueue()
}

// stop ends the stream at an event that cannot be delivered: nothing is confirmed past it. What is in flight is finished first.
func (c *core) stop(e *entry, destination string, cause error) {
	c.halt(&StoppedError{
		ID: string(e.event.ID), Position: e.event.Position, Tenant: string(e.event.TenantID), Topic: string(e.event.Topic),
		Destination: destination, Cause: cause,
	})
}

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

// drain begins the end of the session: nothing more is received, and what is here has until the timeout.
func (c *core) drain(timeout time.Duration) {
	if c.draining {
		return
	}
	c.draining = true
	c.drainBy = time.Now().Add(timeout)
	c.stopReceiving()
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
	for _, s := range c.sinks {
		if s.active() {
			return false
		}
	}
	// Those that fail are retried until the time is over, unless the stream is stopped anyway.
	return c.stopped != nil || len(c.failing) == 0
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

// makeResults makes the channel of results with room for every job that can be in flight, so that no publisher waits.
func (c *core) makeResults() {
	room := 0
	for _, s := range c.sinks {
		for _, n := range s.concurrency {
			room += n
		}
	}
	c.results = make(chan *job, room)
}
