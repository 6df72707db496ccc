package park

import (
	"bytes"
	"time"

	"github.com/outboxd/outboxd/event"
)

// State is what becomes of a parked event at its destination.
type State string

// The states of a parked event. It leaves the table when it is done or skipped, the checkpoint has passed it, and no destination of
// it waits or is dead.
const (
	Waiting State = "waiting" // it is delivered when it is due
	Dead    State = "dead"    // it is not tried again until a person says so
	Skipped State = "skipped" // a person decided that it is not delivered
	Done    State = "done"    // it landed
)

// orWaiting is the state that is written.
func (s State) orWaiting() State {
	if s == "" {
		return Waiting
	}
	return s
}

// Destination is a place where events wait. Sink and Name are empty for events that no route takes.
type Destination struct {
	Sink string
	Name string // full name, as the broker knows it: of one partition where there are several
}

// String returns "SINK NAME"; "no destination" for events that have none.
func (d Destination) String() string {
	if d == (Destination{}) {
		return "no destination"
	}
	return d.Sink + " " + d.Name
}

// Row is one event that waits for one destination. It owns its bytes.
type Row struct {
	Event       event.Event // Xid and Status are not kept
	Replay      int         // 0 for the first delivery
	Destination Destination
	Target      string // the name that the route gave, of which Destination is a partition; often the same

	Key         uint64         // hash of the event's key (see KeyOf): what waits in order
	State       State          // empty stands for Waiting
	Attempts    int            // how often the event was refused
	Due         time.Time      // zero: now
	Reason      string         // why it is here, for people; cut at 500 characters
	Blocks      bool           // dead: it holds back the later events of its key
	LandedAfter event.Position // it may have landed, behind this position, if the tail was not read since (Found); zero when it has not
	Committed   time.Time      // when its transaction committed; zero when that is not known
	ParkedAt    time.Time      // filled in by loading
}

// Ref names the row among those of its destination.
func (r *Row) Ref() event.Ref { return event.Ref{ID: string(r.Event.ID), Replay: r.Replay} }

// To returns the row as it waits where a route sends its event.
func (r Row) To(sink, name string) Row {
	r.Destination, r.Target = Destination{Sink: sink, Name: name}, name
	return r
}

// replaySalt sets the keys of replays apart, so that a replay holds back no live event and the other way round.
const replaySalt = 0x9e3779b97f4a7c15

// KeyOf returns the hash by which a row waits: that of the event's key, or another one for replays. buf is memory for the
// key's text, which is returned for the next call.
func KeyOf(e *event.Event, replay int, buf []byte) (key uint64, next []byte) {
	buf = e.AppendKey(buf[:0])
	key = event.HashKey(buf)
	if replay > 0 {
		key ^= replaySalt
	}
	return key, buf
}

// NumberReplays makes replays of rows, with numbers from first on: one for each event, whose rows stand one behind the other.
func NumberReplays(rows []Row, first int) {
	var buf []byte
	for i := range rows {
		if i > 0 && !bytes.Equal(rows[i].Event.ID, rows[i-1].Event.ID) {
			first++
		}
		rows[i].Replay = first
		rows[i].Key, buf = KeyOf(&rows[i].Event, first, buf)
	}
}
