package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/sink"
)

// finished takes a job's results.
func (c *core) finished(j *job) {
	j.sink.ended(j)
	j.timed(time.Now())
	switch j.kind {
	case jobResolve:
		c.resolved(j)
	case jobTail:
		c.tailRead(j)
	case jobProbe:
		c.probed(j)
	case jobPublish:
		c.published(j)
	}
	j.sink.reuse(j)
}

func (c *core) resolved(j *job) {
	t := j.target
	t.asked = false
	if t.rehoming || t.recording || t.partitions != nil && !t.assumed {
		return // an answer that came twice
	}
	if j.err != nil {
		c.unresolved(t, j.err)
		return
	}
	c.succeed(&t.failure)
	if c.recordPartitions(t, j.names) {
		c.partitionsKnown(t, j.names)
	}
}

// partitionsKnown goes on with a target whose partitions were asked for.
func (c *core) partitionsKnown(t *target, names []string) {
	if t.assumed {
		c.unassume(t, names)
		return
	}
	if from := t.homeless(names); len(from) > 0 {
		c.rehome(t, from, names)
		return
	}
	c.split(t, names)
	c.pushWaiting(t)
}

// unresolved notes that a target's partitions could not be asked for. Where the target fails alone, its events are parked under its name.
func (c *core) unresolved(t *target, err error) {
	c.fail(&t.failure, err)
	c.brokerFails(t.sink, &t.failure, err)
	alone := sink.ClassOf(err) == sink.Unavailable && !sink.BrokerDown(err) || t.failure.attempts >= breakerAttempts || c.budget.starved.Load()
	if alone && t.sink.down == nil && t.partitions == nil {
		c.parkUnresolved(t)
	}
	c.spillWhereDue()
}

// pushWaiting gives the target's destinations what has waited for them.
func (c *core) pushWaiting(t *target) {
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
		c.failedAt(d, j.err)
		return
	}
	if len(j.refs) == 0 && !d.doubt {
		c.fenced = append(c.fenced, fenced{d, j.highest})
		c.checkTerm()
		return
	}
	// What the table lane, or a park in doubt, has left there is settled before anything is published.
	at, highest, refs, all, newest := d.place(), j.highest, j.refs, d.doubt, c.epochs.newest()
	var found int
	c.pollers.giveFirst(&task{
		name: "settle what the tail holds", statement: statementDeliver, at: at, limit: longTask,
		run: func(ctx context.Context, s store) (err error) {
			if err = withinLog(ctx, s, newest, fenced{d, highest}); err == nil {
				found, err = s.found(ctx, at, refs, all)
			}
			return err
		},
		then: func() {
			c.facts.count(at.Sink, resultFound, found) // of whichever tenant
			c.facts.parkedSince.Add(-int64(found))
			d.doubt, d.landedAfter, c.unfinished = false, event.Position{}, true
			c.finishDue = c.finishDue || found > 0 // the checkpoint may have passed them long ago
			c.discard(d)
			c.tailKnown(d, highest)
		},
	})
}

// fenced is a destination that is ours, and up to where its tail says that the log is there.
type fenced struct {
	destination *destination
	highest     event.Position
}

// checkTerm asks whether the session still has its term before anything is published at the destinations that were fenced meanwhile. An instance
// that was frozen fences like any other when it wakes up, and knows nothing of what its successor has parked. One that raises the term behind the
// answer fences behind it, too. Where the tail left something to settle, that statement shows the term.
func (c *core) checkTerm() {
	if len(c.fenced) == 0 || !c.checking.begin() {
		return
	}
	all, newest := c.fenced, c.epochs.newest()
	c.fenced = nil
	c.pollers.giveFirst(&task{
		name: "check the term", statement: statementOther,
		run: func(ctx context.Context, s store) error { return withinLog(ctx, s, newest, all...) },
		then: func() {
			for _, f := range all {
				c.tailKnown(f.destination, f.highest)
			}
			if c.checking.end() {
				c.checkTerm()
			}
		},
	})
}

// withinLog checks the term, and returns ErrLogLost where a tail speaks of a position of the newest epoch that the log has not come to: the server was set
// back then, to a copy of its data, say, and what it writes now has positions that were published before. That is on record before the log passes them.
func withinLog(ctx context.Context, s store, newest uint32, tails ...fenced) error {
	end, err := s.checkTerm(ctx)
	if err != nil {
		return err
	}
	for _, t := range tails {
		if t.highest.Epoch == newest && t.highest.Commit > end {
			return lost(ctx, s, fmt.Sprintf("%s %s holds what was committed at %s, and the log ends at %s: the server was set back",
				t.destination.sink.name, t.destination.name, t.highest, end))
		}
	}
	return nil
}

// tailKnown goes on at a destination whose tail is read and settled.
func (c *core) tailKnown(d *destination, highest event.Position) {
	err := d.lane.TailRead(highest, func(i lane.Item[*entry]) {
		if r := d.refused; r != nil && r.position == i.Position { // it has landed all the same
			d.lane.Keys.Dropped(c.keyOf(i.Value))
			d.refused = nil
		}
		c.count(d, resultFound, i)
		c.disposed(i.Value)
	})
	if err != nil {
		c.failedAt(d, err)
		return
	}
	d.known = d.lane.Frontier()
	c.endFailure(&d.failure)
	c.goOn(d)
}

// count counts events that left the destination's queue, in all and by tenant.
func (c *core) count(d *destination, r result, items ...lane.Item[*entry]) {
	c.facts.count(d.sink.name, r, len(items))
	c.facts.tenants.count(d.sink.name, r, items)
}

func (c *core) published(j *job) {
	if j.table {
		c.lentPublished(j)
		return
	}
	for _, s := range j.spans {
		c.publishedTo(s.destination, j.items[s.from:s.to], j.errs[s.from:s.to])
	}
}

// prefix returns how many messages have landed, by the results of one destination, and the first error behind them.
func prefix(errs []error) (landed int, err error) {
	for landed < len(errs) && errs[landed] == nil {
		landed++
	}
	if landed < len(errs) {
		err = errs[landed]
	}
	return landed, err
}

// publishedTo takes the results of one destination.
func (c *core) publishedTo(d *destination, items []lane.Item[*entry], errs []error) {
	landed, err := prefix(errs)
	c.count(d, resultDelivered, items[:landed]...)
	readAgain := d.readAgain(err)
	d.tableLast = false
	d.lane.Published(landed, err == nil || sink.FateKnown(err), func(i lane.Item[*entry]) { c.disposed(i.Value) })
	if landed > 0 {
		d.known = d.lane.Frontier()
	}
	switch {
	case err == nil:
		c.succeed(&d.failure)
	case isRejected(err):
		c.count(d, resultRejected, items[landed])
		c.refused(d, items[landed].Value, err)
	case readAgain:
	default:
		c.failedAt(d, err)
		return
	}
	if d.table.first {
		c.waitsAt(d)
	}
	d.enqueue()
}

// readAgain takes what ended a publish, nil where all has landed, and tells whether the tail only has to be read once more: the sink keeps the ends of so many
// destinations, and has let go of this one's, or somebody else has appended. Where that comes again before anything was published, it is a failure, and waits as any other.
func (d *destination) readAgain(err error) bool {
	before := d.letGo
	d.letGo = errors.Is(err, sink.ErrTailUnread) && !sink.BrokerDown(err)
	return d.letGo && !before
}

// refused lets the key of an event that was refused wait: the event is parked, and later ones of the key behind it.
func (c *core) refused(d *destination, e *entry, err error) {
	d.refused = &refusal{e.event.Position, err}
	d.lane.Keys.Hold(c.keyOf(e))
	c.succeed(&d.failure)
	if c.budget.starved.Load() {
		c.holdAll(d) // each refusal is parked before the next event is tried: of many, others would wait for the memory
	}
	c.cfg.Log.Warn().Bytes("id", e.event.ID).Stringer("position", e.event.Position).Bytes("tenant", e.event.TenantID).
		Bytes("topic", e.event.Topic).Str("sink", d.sink.name).Str("destination", d.name).Err(err).
		Msg("event was refused; it is parked, and later events of its key wait behind it")
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
