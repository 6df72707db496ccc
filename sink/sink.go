package sink

import (
	"context"
	"strconv"
	"time"

	"github.com/outboxd/outboxd/event"
)

// MaxBatch is the largest number of messages of one destination in one Publish that any configuration allows. A lane
// that looks for a message of unknown fate reads that many entries back.
const MaxBatch = 1000

// Header is one piece of metadata of a message: a Pulsar property, a Redis field.
type Header struct {
	Name  string
	Value []byte
}

// Names of headers that Tail reads back.
const (
	HeaderID       = "id"
	HeaderPosition = "position"
	HeaderFrontier = "frontier"
	HeaderReplay   = "replay"
)

// Message is one event made ready for one destination. Its bytes belong to the caller and stay
// unchanged until Publish returns; a sink that keeps them longer copies them.
type Message struct {
	Destination string    // full name, as the broker knows it
	Key         []byte    // text form of the event's key; orders and partitions
	EventTime   time.Time // occurred_at; zero when the event has none
	Headers     []Header  // metadata in its order; always holds id and position
	Body        []byte    // never nil
}

// Size is the number of bytes that the message holds, without the broker's own overhead.
func (m *Message) Size() int {
	size := len(m.Key) + len(m.Body)
	for _, h := range m.Headers {
		size += len(h.Name) + len(h.Value)
	}
	return size
}

// Entry is what a destination's tail says of one message that landed. It is zero where somebody else wrote that.
type Entry struct {
	ID       string
	Replay   int // 0 for the first delivery
	Position event.Position
	Frontier event.Position // zero when the log lane published it
}

// ReadEntry returns what the headers of one message say, "" for one that is not there. Anybody may have written it, so it is one of ours only as a whole: without a position,
// or where any of the three cannot be read, it says nothing, not even its id. Taken for ours it would make an event count as delivered that is not.
func ReadEntry(id, position, frontier, replay string) Entry {
	e := Entry{ID: id}
	var err error
	if e.Position, err = event.ParsePosition(position); err != nil || e.Position.IsZero() {
		return Entry{}
	}
	if frontier != "" {
		if e.Frontier, err = event.ParsePosition(frontier); err != nil {
			return Entry{}
		}
	}
	if replay != "" {
		if e.Replay, err = strconv.Atoi(replay); err != nil || e.Replay < 0 {
			return Entry{}
		}
	}
	return e
}

// A Sink appends batches durably. Publish, Tail and Probe may be called by several lanes at once, but never two of
// them for the same destination at once.
type Sink interface {
	// Publish appends the messages, which may be of several destinations; messages of one destination stand
	// in order and are at most MaxBatch. It returns nil when all were accepted, else one result per message, by the
	// prefix rule in the package comment. It returns within ctx's deadline; what was cut off then has an
	// unknown fate. A destination whose tail was not read since its last unknown fate, or whose end was let go of, is refused with ErrTailUnread as of unknown
	// fate, which makes the lane read the tail. An end that Tail has brought is kept until the next Publish there, unless many others are read meanwhile.
	Publish(ctx context.Context, batch []Message) []error

	// Tail fences the destination, then reads its last n entries (fewer when it holds fewer; none when it is empty
	// or missing), newest last. It may return more than n where the broker keeps batches whole. With n 0 it
	// fences only.
	Tail(ctx context.Context, destination string, n int) ([]Entry, error)

	// Probe asks whether the destination would accept a message now, without sending one and without a fence.
	Probe(ctx context.Context, destination string) error

	// Close releases everything. No other method is running or called afterwards.
	Close(ctx context.Context) error
}

// A SessionSink is a Sink that goes by what it has seen of a destination's writers, which holds only while this process is the active instance.
type SessionSink interface {
	// BeginSession says that others may have written to every destination since the session before. Other methods may be running for other
	// slots.
	BeginSession()
}

// A Partitioner is a Sink in which one name can stand for several destinations, each with its own order
// and tail. Publish and Tail take the full names only.
type Partitioner interface {
	// Partitions returns the full names of the destinations that the name stands for: itself alone when it is not
	// partitioned.
	Partitions(ctx context.Context, destination string) ([]string, error)
	// Partition returns the index of the key's partition among n, the same for ever.
	Partition(key []byte, n int) int
}
