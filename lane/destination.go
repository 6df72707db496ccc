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
)

// String returns the state in lower case, as /status prints it.
func (s State) String() string {
	return [...]string{"unread", "reading", "ready", "publishing"}[s]
}

// ErrForeignEpoch says that the destination's tail was written by an outboxd with a later epoch than ours.
var ErrForeignEpoch = errors.New("written by another outboxd")

// Item is one event that waits at a destination, with whatever its owner needs to publish it.
type Item[T any] struct {
	Position event.Position
	Size     int // bytes
	Value    T
}

// Destination is the log lane's state at one destination. It is not safe for concurrent use.
type Destination[T any] struct {
	state    State
	frontier event.Position
	epoch    uint32         // the current one
	last     event.Position // of the last event pushed
	queue    queue[Item[T]]
	inFlight int // the first so many of the queue are being published
}

// New returns a destination that has published nothing yet. The frontier is the checkpoint's position: everything at or
// below it is disposed of everywhere. epoch is the current one: that of the frontier or, after the server was promoted, a later one.
func New[T any](frontier event.Position, epoch uint32) *Destination[T] {
	return &Destination[T]{frontier: frontier, epoch: epoch}
}

// State returns the destination's state.
func (d *Destination[T]) State() State { return d.state }

// Frontier returns the highest position disposed of here, as far as is known.
func (d *Destination[T]) Frontier() event.Position { return d.frontier }

// Waiting is the number of events that are queued and not in flight.
func (d *Destination[T]) Waiting() int { return d.queue.len() - d.inFlight }

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
	d.state = Ready
	if highest.After(d.frontier) {
		d.frontier = highest
	}
	for d.queue.len() > 0 && !d.queue.at(0).Position.After(d.frontier) {
		landed(d.queue.pop())
	}
	return nil
}

// Take appends to batch the next events to publish, in order: at most maxCount of them (at least 1) and, but for the
// first, no more than maxBytes together. They are in flight until Published.
func (d *Destination[T]) Take(batch []Item[T], maxCount, maxBytes int) []Item[T] {
	d.mustBe(Ready, "Take")
	size := 0
	for d.inFlight < min(maxCount, d.queue.len()) {
		item := d.queue.at(d.inFlight)
		if size += item.Size; d.inFlight > 0 && size > maxBytes {
			break
		}
		batch = append(batch, *item)
		d.inFlight++
	}
	if d.inFlight > 0 {
		d.state = Publishing
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

func (d *Destination[T]) mustBe(want State, call string) {
	if d.state != want {
		panic(fmt.Sprintf("lane: %s while %s", call, d.state))
	}
}
