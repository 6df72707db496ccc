package checkpoint

import (
	"fmt"

	"github.com/outboxd/outboxd/event"
)

// Tx stands for a transaction in one Tracker, until it is finished.
type Tx uint64

// Tracker knows which transactions are unfinished. It is not safe for concurrent use.
//
// Only unfinished transactions are held, in a list in commit order. One that is finished leaves the list, and the one before it inherits
// its end: what that one is waiting for, the finished one would be waiting for as well. So memory is
// proportional to the unfinished transactions, however many finished ones lie between, and every call takes constant time.
type Tracker struct {
	safe  event.LSN
	slots []transaction // slot 0 is the list's root: its next is the oldest, its prev the newest transaction
	free  uint32        // first of the unused slots, linked by next; 0 when there is none
	count int           // of unfinished transactions
	begun uint32        // slot of the transaction that has no commit yet; 0 when there is none
	last  uint32        // serial number of the transaction that began last
}

// transaction is an unfinished one: its commit is missing, or some of its events are not settled.
type transaction struct {
	end        event.LSN // what is safe when this one is finished
	unsettled  int
	prev, next uint32
	serial     uint32 // tells the uses of a slot apart; 0 when it is unused
	committed  int64  // microseconds since 1970
}

// spareSlots is how many slots are kept when no transaction is open.
const spareSlots = 1024

// NewTracker returns a tracker to which everything before start is safe.
func NewTracker(start event.LSN) *Tracker {
	return &Tracker{safe: start, slots: make([]transaction, 1)}
}

// Begin enters the next transaction; committed is when it was, in microseconds since 1970. It panics when the one before has no
// commit yet: the server sends them one by one.
func (t *Tracker) Begin(committed int64) Tx {
	if t.begun != 0 {
		panic("checkpoint: a transaction begins inside another")
	}
	if t.last++; t.last == 0 {
		t.last = 1
	}
	i := t.takeSlot()
	newest := t.slots[0].prev
	t.slots[i] = transaction{prev: newest, serial: t.last, committed: committed}
	t.slots[newest].next, t.slots[0].prev = i, i
	t.begun = i
	t.count++
	return Tx(t.last)<<32 | Tx(i)
}

// Add says that the transaction that began last has n more events. It panics when that has its commit.
func (t *Tracker) Add(n int) {
	if t.begun == 0 || n < 0 {
		panic(fmt.Sprintf("checkpoint: add %d events outside a transaction, or less than none", n))
	}
	t.slots[t.begun].unsettled += n
}

// Commit says that the transaction that began last is complete. end is where the server says that it ends (TransactionEndLSN). It
// panics when no transaction is open.
func (t *Tracker) Commit(end event.LSN) {
	i := t.begun
	if i == 0 {
		panic("checkpoint: commit outside a transaction")
	}
	t.begun = 0
	t.slots[i].end = end
	t.finishIfDone(i)
}

// Settle says that n more events of tx are settled, before or after its commit. It panics when tx is finished or has
// fewer that are not: something was settled twice, and the safe position cannot be trusted.
func (t *Tracker) Settle(tx Tx, n int) {
	i := uint32(tx) // the lower half is the slot
	if i == 0 || int(i) >= len(t.slots) || t.slots[i].serial != uint32(tx>>32) {
		panic(fmt.Sprintf("checkpoint: settle an event of transaction %d, which is not open", tx>>32))
	}
	one := &t.slots[i]
	if n < 0 || n > one.unsettled {
		panic(fmt.Sprintf("checkpoint: settle %d events of transaction %d, which has %d", n, tx>>32, one.unsettled))
	}
	one.unsettled -= n
	t.finishIfDone(i)
}

// Keepalive says that everything up to walEnd was received. It counts as an empty transaction: it is safe when everything before is.
// Inside an open transaction it says nothing, because the commit will say more.
func (t *Tracker) Keepalive(walEnd event.LSN) {
	if t.begun == 0 {
		t.inherit(t.slots[0].prev, walEnd)
	}
}

// Safe returns the position up to which everything is finished: the end of a transaction or a keepalive, or the start. It never goes
// back. What the server sends may: a keepalive can lie behind a commit, and a replay after a crash of the server begins
// with transactions that were confirmed before.
func (t *Tracker) Safe() event.LSN { return t.safe }

// Open is the number of unfinished transactions, the one without a commit included.
func (t *Tracker) Open() int { return t.count }

// Oldest returns when the oldest unfinished transaction was committed, in microseconds since 1970; 0 when there is none.
func (t *Tracker) Oldest() int64 { return t.slots[t.slots[0].next].committed }

// inherit makes end safe as soon as transaction i is finished; 0 stands for none, so it is safe now.
func (t *Tracker) inherit(i uint32, end event.LSN) {
	if i == 0 {
		t.safe = max(t.safe, end)
		return
	}
	t.slots[i].end = max(t.slots[i].end, end)
}

// finishIfDone takes a finished transaction from the list.
func (t *Tracker) finishIfDone(i uint32) {
	one := t.slots[i]
	if one.unsettled > 0 || i == t.begun {
		return
	}
	t.inherit(one.prev, one.end)
	t.slots[one.prev].next = one.next
	t.slots[one.next].prev = one.prev
	t.slots[i] = transaction{next: t.free}
	t.free = i
	if t.count--; t.count == 0 && cap(t.slots) > spareSlots {
		t.slots, t.free = make([]transaction, 1), 0
	}
}

// takeSlot returns an unused slot.
func (t *Tracker) takeSlot() uint32 {
	if i := t.free; i != 0 {
		t.free = t.slots[i].next
		return i
	}
	t.slots = append(t.slots, transaction{})
	return uint32(len(t.slots) - 1) // memory ends long before 2^32 transactions
}
