package relay

import (
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
	"github.com/outboxd/outboxd/park"
)

// destination is one place with an order of its own: a stream, a topic, a partition.
type destination struct {
	sink    *sinkLane
	target  *target
	name    string
	lane    *lane.Destination[*entry]
	failure failure
	queued  bool          // it stands in one of the sink's lists
	since   time.Time     // when there was something to do here again; zero while there is nothing
	lined   time.Time     // when it got in line
	waited  time.Duration // in line since then, before its turns

	refused   *refusal  // why the event at the head of the queue is to be parked
	table     tableWork // what the table lane does here
	tableLast bool      // the table lane had the last turn
	letGo     bool      // the sink did not know the destination's end when it was last asked to publish here

	held        bool           // events are in doubt here, and all are parked before anything else
	doubt       bool           // parked events may have landed here
	landedAfter event.Position // ... behind this position
	known       event.Position // how far the tail spoke when this session last read it, or published; what others append behind it speaks of later positions
}

func (c *core) newDestination(t *target, name string) *destination {
	d := &destination{sink: t.sink, target: t, name: name}
	d.failure = failure{sink: t.sink.name, name: name, target: t.name, destination: d}
	d.failure.retry = func() { c.retry(d) }
	frontier, doubtful := c.start, c.inDoubt(t)
	for _, parked := range []string{name, t.name} { // under its own name all partitions' events were parked
		if known, ok := c.parkedAt[park.Destination{Sink: t.sink.name, Name: parked}]; ok && known.Highest.After(frontier) && !doubtful {
			frontier = known.Highest
		}
	}
	d.lane = lane.New(frontier, c.epochs.newest(), c.keyOf)
	c.restoreWaiting(d)
	if doubtful {
		c.hold(d)
	}
	if t.sink.spilling {
		c.holdAll(d)
	}
	return d
}

// mayHaveLanded notes that parked events may have landed behind the position: the next tail is read back to it.
func (d *destination) mayHaveLanded(after event.Position) {
	if !d.doubt || d.landedAfter.After(after) {
		d.landedAfter = after
	}
	d.doubt = true
}

// cause is why nothing is delivered here; nil when it is not known.
func (d *destination) cause() error {
	switch {
	case d.failure.err != nil:
		return d.failure.err
	case d.sink.down != nil:
		return d.sink.down.err
	case d.target.assumed:
		return d.target.failure.err
	default:
		return nil
	}
}

// blocked tells whether nothing is attempted at the destination for now.
func (d *destination) blocked() bool {
	return d.failure.waits() || d.failure.open || d.sink.down != nil
}

// suspect tells whether the destination failed last time.
func (d *destination) suspect() bool { return d.failure.attempts > 0 }

// enqueue puts the destination in line for what it needs next, if it needs anything and may have it.
func (d *destination) enqueue() {
	if d.queued {
		return
	}
	state, queued := d.lane.State(), d.lane.Queued() > 0
	switch {
	case d.blocked(), d.target.assumed, d.held: // nothing but being parked
		if state != lane.Ready && state != lane.Unread || !queued || !d.lane.Keys.Whole() {
			return
		}
		d.sink.parks = append(d.sink.parks, d)
	case state == lane.Unread && (queued || d.table.loaded):
		d.sink.unread.push(d, d.suspect())
	case state != lane.Ready:
		return
	case d.table.loaded && (!d.tableLast || !queued):
		d.sink.lent.push(d, d.suspect())
	case queued && d.lane.HeadWaits():
		if d.waitsBriefly() {
			if !d.table.loaded {
				return
			}
			d.sink.lent.push(d, d.suspect())
			break
		}
		d.sink.parks = append(d.sink.parks, d)
	case queued:
		d.sink.ready.push(d, d.suspect())
	default:
		d.since, d.waited = time.Time{}, 0
		return
	}
	d.lineUp()
}

// lineUp notes that the destination stands in a line from now on.
func (d *destination) lineUp() {
	d.queued, d.lined = true, time.Now()
	if d.since.IsZero() {
		d.since = d.lined
	}
}

// leaveLine notes that the destination has its turn.
func (d *destination) leaveLine() {
	d.queued = false
	d.waited += time.Since(d.lined)
}

// mostlyInLine tells whether it has stood in line for more than half of the time since there was something to do.
func (d *destination) mostlyInLine(now time.Time) bool {
	waited := d.waited
	if d.queued {
		waited += now.Sub(d.lined)
	}
	return waited > now.Sub(d.since)/2
}

// waitsBriefly tells whether the backlog in the table is so near its end that the log's events had better wait than be parked.
func (d *destination) waitsBriefly() bool {
	return !d.sink.draining && d.lane.Keys.Whole() && d.refused == nil && d.table.scan && d.table.end && d.lane.Queued() < waitMost
}

// waitMost is how many events may wait for the end of a backlog.
const waitMost = 1000

// tailJob is the reading of the destination's tail: deep where rows of the table lane may be there.
func (d *destination) tailJob(cfg *Config) *job {
	j := &job{kind: jobTail, sink: d.sink, spans: []span{{destination: d}}, suspect: d.suspect(), depth: 1}
	if !d.lane.Keys.Empty() || d.doubt {
		j.depth = cfg.largestBatch
	}
	switch {
	case d.doubt:
		j.back, j.behind = d.landedAfter, cfg.largestBatch // the last batch before it may hold rows of the table lane
	case j.depth > 1:
		j.back = d.known
	}
	return j
}
