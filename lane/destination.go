package lane

import (
	"errors"
	"fmt"

	"github.com/outboxd/outboxd/event"
)

// State says what may happen next at a destination.
type State int

// The states of a destination.
const (
	Unread     State = iota // the tail must be read before anything is published
	Reading                 // a tail read is in flight
	Ready                   // a batch may be taken
	Publishing              // a batch is in flight
	Parking                 // a batch is being parked
	Lent                    // the table lane publishes here or settles what it has published
)

// String returns the state in lower case, as /status prints it.
func (s State) String() string {
	return [...]string{"unread", "reading", "ready", "publishing", "parking", "lent"}[s]
}

// ErrForeignEpoch says that the destination's tail was written by an outboxd with a later epoch than ours.
var ErrForeignEpoch = errors.New("written by another outboxd")

// maxRuns is how many runs of parks may stand between the next events before all of them are parked: each run would cost a statement of
// its own, and publishing would wait for each.
const maxRuns = 2

// Item is one event that waits at a destination, with whatever its owner needs to publish it.
type Item[T any] struct {
	Position event.Position
	Size     int // bytes
	Value    T
}

// Destination is the state at one destination: the log lane's queue, who has the turn, and which keys wait in the table lane. It is not
// safe for concurrent use.
type Destination[T any] struct {
	Keys Waiting // what waits in the table lane

	state    State
	resumed  State // after Parking: Unread or Ready
	frontier event.Position
	epoch    uint32         // the current one
	last     event.Position // of the last event pushed
	read     bool           // the tail was read once
	taken    event.Position // the last event that was taken to be published since the tail was read
	queue    queue[Item[T]]
	inFlight int            // the first so many of the queue are being published or parked
	key      func(T) uint64 // asked only while something waits
}

// New returns a destination that has published nothing yet. The frontier is the highest of the checkpoint's position and
// those of the events that are parked for the destination: everything at or below it is disposed of. epoch is the current
// one: that of the frontier or, after the server was promoted, a later one. key returns the hash of an event's key.
func New[T any](frontier event.Position, epoch uint32, key func(T) uint64) *Destination[T] {
	return &Destination[T]{frontier: frontier, epoch: epoch, key: key}
}

// State returns the destination's state.
func (d *Destination[T]) State() State { return d.state }

// Frontier returns the highest position disposed of here, as far as is known.
func (d *Destination[T]) Frontier() event.Position { return d.frontier }

// Queued is the number of events that are queued and not in flight.
func (d *Destination[T]) Queued() int { return d.queue.len() - d.inFlight }

// Len is the number of events that are queued, in flight or not.
func (d *Destination[T]) Len() int { return d.queue.len() }

// Oldest returns the first event that is not disposed of; there must be one (Len).
func (d *Destination[T]) Oldest() Item[T] { return *d.queue.at(0) }

// Push queues an event behind all others. It returns false when the event stands at or below the frontier: it has
// been disposed of here and is not queued. Events must come in position order.
func (d *Destination[T]) Push(item Item[T]) bool {
	if !item.Position.After(d.last) {
		panic(fmt.Sprintf("lane: event %s pushed after %s", item.Position, d.last))
	}
	d.last = item.Position
	if !item.Position.After(d.frontier) {
		return false
	}
	d.queue.push(item)
	return true
}

// Shift takes the first event out of the queue, for another destination; nothing may be in flight.
func (d *Destination[T]) Shift() Item[T] {
	if d.inFlight > 0 {
		panic("lane: Shift with events in flight")
	}
	return d.queue.pop()
}

// Read begins a tail read.
func (d *Destination[T]) Read() {
	d.mustBe(Unread, "Read")
	d.state = Reading
}

// TailFailed ends a tail read that brought no answer.
func (d *Destination[T]) TailFailed() {
	d.mustBe(Reading, "TailFailed")
	d.state = Unread
}

// TailRead ends a tail read. The highest position that the tail holds (zero when it holds none of ours) raises the frontier,
// and the queued events at or below it have landed: each is handed to landed, in order, and leaves the queue. A
// higher epoch than ours is ErrForeignEpoch, and nothing changes but that the tail is unread.
func (d *Destination[T]) TailRead(highest event.Position, landed func(Item[T])) error {
	d.mustBe(Reading, "TailRead")
	d.state = Unread
	if highest.Epoch > d.epoch {
		return fmt.Errorf("tail is at %s but the current epoch is %d: %w", highest, d.epoch, ErrForeignEpoch)
	}
	d.state, d.read, d.taken = Ready, true, event.Position{}
	if highest.After(d.frontier) {
		d.frontier = highest
	}
	for d.queue.len() > 0 && !d.queue.at(0).Position.After(d.frontier) {
		landed(d.queue.pop())
	}
	return nil
}

// HeadWaits tells whether the next event has to be parked, because its key waits in the table lane.
func (d *Destination[T]) HeadWaits() bool { return d.Queued() > 0 && d.waits(d.queue.at(d.inFlight)) }

func (d *Destination[T]) waits(item *Item[T]) bool {
	return !d.Keys.Empty() && d.Keys.Waits(d.key(item.Value))
}

// Take appends to batch the next events to publish, in order: at most maxCount of them (at least 1) and, but for the
// first, no more than maxBytes together; it ends before an event that has to be parked. They are in flight until Published.
func (d *Destination[T]) Take(batch []Item[T], maxCount, maxBytes int) []Item[T] {
	d.mustBe(Ready, "Take")
	size := 0
	for d.inFlight < min(maxCount, d.queue.len()) {
		item := d.queue.at(d.inFlight)
		if size += item.Size; d.inFlight > 0 && size > maxBytes || d.waits(item) {
			break
		}
		batch = append(batch, *item)
		d.inFlight++
	}
	if d.inFlight > 0 {
		d.state, d.taken = Publishing, batch[len(batch)-1].Position
	}
	return batch
}

// Published ends the batch that Take began. The first n of it have landed: each is handed to landed, in order, leaves
// the queue, and the frontier follows. The rest stays at the head of the queue. fateKnown says that nothing of the rest has
// landed or will; else the tail must be read before the next Take. With all landed, the fate is known.
func (d *Destination[T]) Published(n int, fateKnown bool, landed func(Item[T])) {
	d.mustBe(Publishing, "Published")
	if n < 0 || n > d.inFlight {
		panic(fmt.Sprintf("lane: %d of a batch of %d landed", n, d.inFlight))
	}
	d.state = Unread
	if fateKnown || n == d.inFlight {
		d.state = Ready
	}
	d.inFlight = 0
	for range n {
		item := d.queue.pop()
		d.frontier = item.Position
		landed(item)
	}
}

// TakeParks appends to batch the events at the head of the queue that have to be parked, in order, within the same limits as Take; where
// such events and others change often, the others too. They are in flight until Parked. It may be called while the tail is unread, with
// a destination that does not answer: the events may then have landed behind the frontier, and doubt is true. That holds for those that were taken since the
// tail was read, and for all before it was read at all; a batch ends where it changes.
func (d *Destination[T]) TakeParks(batch []Item[T], maxCount, maxBytes int) (taken []Item[T], doubt bool) {
	if d.state != Unread {
		d.mustBe(Ready, "TakeParks")
	}
	all := d.parkRuns(maxCount) > maxRuns
	size := 0
	for d.inFlight < min(maxCount, d.queue.len()) {
		item := d.queue.at(d.inFlight)
		if size += item.Size; d.inFlight > 0 && (size > maxBytes || d.inDoubt(item) != doubt) || !all && !d.waits(item) {
			break
		}
		doubt = d.inDoubt(item)
		batch = append(batch, *item)
		d.inFlight++
	}
	if d.inFlight > 0 {
		d.state, d.resumed = Parking, d.state
	}
	return batch, doubt
}

// inDoubt tells whether the event may have landed although it is in the queue.
func (d *Destination[T]) inDoubt(item *Item[T]) bool {
	return d.state == Unread && (!d.read || !item.Position.After(d.taken))
}

// parkRuns counts the runs of events that have to be parked among the next ones.
func (d *Destination[T]) parkRuns(within int) int {
	runs, before := 0, false
	for i := range min(within, d.queue.len()) {
		waits := d.waits(d.queue.at(i))
		if waits && !before {
			runs++
		}
		if before = waits; runs > maxRuns {
			break
		}
	}
	return runs
}

// Parked says that the batch of TakeParks is durable in the table. Each of it is handed to parked, in order, and leaves the queue, and
// the frontier follows.
func (d *Destination[T]) Parked(parked func(Item[T])) {
	d.mustBe(Parking, "Parked")
	d.state = d.resumed
	for ; d.inFlight > 0; d.inFlight-- {
		item := d.queue.pop()
		d.frontier = item.Position
		parked(item)
	}
}

// Lend gives the turn to the table lane, which publishes what it has loaded and settles it.
func (d *Destination[T]) Lend() {
	d.mustBe(Ready, "Lend")
	d.state = Lent
}

// Return ends the table lane's turn: what has landed is settled. Without a known fate the tail must be read before anything else.
func (d *Destination[T]) Return(fateKnown bool) {
	d.mustBe(Lent, "Return")
	d.state = Unread
	if fateKnown {
		d.state = Ready
	}
}

func (d *Destination[T]) mustBe(want State, call string) {
	if d.state != want {
		panic(fmt.Sprintf("lane: %s while %s", call, d.state))
	}
}
