package checkpoint

import (
	"fmt"

	"github.com/outboxd/outboxd/event"
)

// Tx is a transaction's number in one Tracker, in commit order.
type Tx uint64

// Tracker knows which transactions are finished. It is not safe for concurrent use. Its memory is proportional to the transactions
// between the safe one and the last.
type Tracker struct {
	safe  event.LSN
	first Tx // number of open[head]
	open  []transaction
	head  int
	begun bool // the last of open has no commit yet
}

// transaction is one that is not safe yet. A keepalive is one without events.
type transaction struct {
	end       event.LSN // 0 until its commit
	unsettled int
}

// NewTracker returns a tracker to which everything before start is safe.
func NewTracker(start event.LSN) *Tracker { return &Tracker{safe: start} }

// Begin enters the next transaction. The one before must have been committed.
func (t *Tracker) Begin() Tx {
	if t.begun {
		panic("checkpoint: a transaction begins inside another")
	}
	t.begun = true
	return t.enter(transaction{})
}

// Add says that the open transaction has n more events.
func (t *Tracker) Add(n int) {
	t.mustBeOpen("an event")
	t.open[len(t.open)-1].unsettled += n
}

// Commit ends the open transaction; end is where the server says that it ends.
func (t *Tracker) Commit(end event.LSN) {
	t.mustBeOpen("a commit")
	t.begun = false
	t.open[len(t.open)-1].end = end
	t.advance()
}

// Settle says that n more events of tx are settled.
func (t *Tracker) Settle(tx Tx, n int) {
	if tx < t.first || tx >= t.first+Tx(t.Open()) {
		panic(fmt.Sprintf("checkpoint: settle an event of transaction %d, which is not open", tx))
	}
	one := &t.open[t.head+int(tx-t.first)]
	if n < 0 || n > one.unsettled {
		panic(fmt.Sprintf("checkpoint: settle %d events of transaction %d, which has %d", n, tx, one.unsettled))
	}
	one.unsettled -= n
	if tx == t.first {
		t.advance()
	}
}

// Keepalive says that everything up to walEnd was received. Inside an open transaction it says nothing: the commit
// will say more.
func (t *Tracker) Keepalive(walEnd event.LSN) {
	if t.begun {
		return
	}
	if n := len(t.open); n > t.head && t.open[n-1].unsettled == 0 {
		t.open[n-1].end = max(t.open[n-1].end, walEnd) // behind an empty one: they become one
		return
	}
	t.enter(transaction{end: walEnd})
	t.advance()
}

// Safe returns the position up to which everything is settled.
func (t *Tracker) Safe() event.LSN { return t.safe }

// Open is the number of transactions that are not safe yet, keepalives behind them included.
func (t *Tracker) Open() int { return len(t.open) - t.head }

// Oldest returns the first transaction that is not safe; false when all are.
func (t *Tracker) Oldest() (Tx, bool) { return t.first, t.Open() > 0 }

func (t *Tracker) enter(one transaction) Tx {
	if t.head > 0 && len(t.open) == cap(t.open) && t.head >= len(t.open)/2 {
		t.open = t.open[:copy(t.open, t.open[t.head:])]
		t.head = 0
	}
	t.open = append(t.open, one)
	return t.first + Tx(t.Open()-1)
}

// advance moves the safe position over the finished transactions at the head. A lower end than before (a keepalive can be behind
// a commit) leaves it where it is.
func (t *Tracker) advance() {
	for t.head < len(t.open) && t.open[t.head].unsettled == 0 && t.open[t.head].end != 0 {
		t.safe = max(t.safe, t.open[t.head].end)
		t.head++
		t.first++
	}
	if t.head == len(t.open) {
		t.open, t.head = t.open[:0], 0
	}
}

func (t *Tracker) mustBeOpen(what string) {
	if !t.begun {
		panic("checkpoint: " + what + " outside a transaction")
	}
}
