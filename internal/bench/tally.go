package bench

import (
	"fmt"

	"github.com/outboxd/outboxd/internal/workload"
)

// Tally finds out whether a backlog arrived: each row once, and those of a key in their order.
type Tally struct {
	backlog *Backlog
	arrived []bool
	last    map[tallyKey]int
	Entries int // read

	Unordered bool // whether rows of a key may come in any order

	Missing, Doubled, OutOfOrder, Foreign int
}

type tallyKey struct{ destination, tenant, key string }

// NewTally counts the rows of a backlog that was written.
func NewTally(b *Backlog) *Tally {
	return &Tally{backlog: b, arrived: make([]bool, b.Rows), last: map[tallyKey]int{}, Missing: b.toArrive(0)}
}

// Add takes the next entry of its destination.
func (t *Tally) Add(r workload.Received) {
	t.Entries++
	n, err := t.backlog.number(r.ID)
	if err != nil || t.backlog.Refused && t.backlog.ofFailing(n) {
		t.Foreign++
		return
	}
	if t.arrived[n] {
		t.Doubled++
		return
	}
	t.arrived[n] = true
	t.Missing--
	key := tallyKey{r.Destination, r.Tenant, r.Key}
	if last, ok := t.last[key]; ok && n < last && !t.Unordered {
		t.OutOfOrder++
	}
	t.last[key] = n
}

// Err says what is wrong, nil for nothing.
func (t *Tally) Err() error {
	if t.Missing+t.Doubled+t.OutOfOrder+t.Foreign == 0 {
		return nil
	}
	return fmt.Errorf("of %d rows %d are missing, %d entries are doubled, %d out of order, %d are not of them", t.backlog.Rows, t.Missing, t.Doubled, t.OutOfOrder, t.Foreign)
}
