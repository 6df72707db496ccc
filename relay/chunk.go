package relay

import (
	"time"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
)

const (
	chunkBytes   = 256 << 10
	chunkEntries = 512
	entryBytes   = 480 // of an entry and its places in the queues of a destination and of the settler; sizes_test.go checks it
)

// chunk is a piece of memory that holds received events: their bytes and their entries. The receiver fills it, and hands
// it over to the core in parts (handover) while it goes on filling the rest; the core counts its
// references and gives it back to the budget when no event of it is needed any more.
type chunk struct {
	buf     []byte    // appended to by the receiver; never grows beyond its capacity
	entries []entry   // likewise
	refs    int       // events that are not settled, and one while the receiver fills it; core only
	since   time.Time // when the core got its first events
}

// entry is one event on its way. The receiver makes it; from the handover on only the core writes to it.
type entry struct {
	event      event.Event
	chunk      *chunk
	tx         checkpoint.Tx
	commitTime int64  // microseconds since 1970
	open       int    // destinations that have not disposed of it yet
	key        uint64 // hash of the event's key, once it was asked for
	replay     int32  // of the table lane: which replay it is
	fault      error  // why it is no valid event; nil for all others
}

func newChunk(payloadBytes int) *chunk {
	if payloadBytes > chunkBytes {
		return &chunk{buf: make([]byte, 0, payloadBytes), entries: make([]entry, 0, 1)}
	}
	return &chunk{buf: make([]byte, 0, chunkBytes), entries: make([]entry, 0, chunkEntries)}
}

// cost is what the chunk takes of the budget, in bytes.
func (c *chunk) cost() int64 { return int64(cap(c.buf) + cap(c.entries)*entryBytes) }

func (c *chunk) regular() bool { return cap(c.buf) == chunkBytes }

func (c *chunk) fits(n int) bool {
	return len(c.entries) < cap(c.entries) && cap(c.buf)-len(c.buf) >= n
}

// add copies data into the chunk and returns the copy and a new entry for it.
func (c *chunk) add(data []byte) ([]byte, *entry) {
	start := len(c.buf)
	c.buf = append(c.buf, data...)
	c.entries = append(c.entries, entry{chunk: c})
	return c.buf[start:len(c.buf):len(c.buf)], &c.entries[len(c.entries)-1]
}

// dropLast takes the entry back that add made last.
func (c *chunk) dropLast(data []byte) {
	c.buf = c.buf[:len(c.buf)-len(data)]
	c.entries = c.entries[:len(c.entries)-1]
}

// recycle makes the chunk empty for its next use. Entries are cleared so that nothing old is reachable.
func (c *chunk) recycle() {
	clear(c.entries)
	c.buf, c.entries, c.refs = c.buf[:0], c.entries[:0], 0
}

// markKind says what stands between the events of a handover.
type markKind byte

const (
	markBegin     markKind = iota // a transaction begins
	markCommit                    // it ends; lsn is its end LSN
	markKeepalive                 // everything before is received up to lsn
	markChunkFull                 // the receiver is done with the chunk
)

type mark struct {
	kind markKind
	at   int // before which entry of the handover it stands
	lsn  event.LSN
	time int64 // begin: of the commit, microseconds since 1970
}

// handover is what the receiver gives to the core at once: entries, in log order, and the marks between them.
type handover struct {
	chunk    *chunk
	entries  []entry // a part of chunk.entries
	marks    []mark
	replyNow bool  // the server asked for a reply; confirm what is safe without waiting for the interval
	halt     error // behind all this stands what cannot be decoded; the receiver's last
}
