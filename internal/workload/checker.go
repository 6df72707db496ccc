package workload

import (
	"fmt"
	"strings"
)

// Checker compares what arrives with what a Ledger says was written. Events are added in the order in which each destination holds
// them; the Ledger is consulted by Report only, so an event may be added before its COMMIT has returned to the Producer. It is not
// safe for concurrent use.
type Checker struct {
	// Destination, when set, says where an event belongs. A partition of the destination is right too.
	Destination func(tenant, topic string) string

	ledger *Ledger
	due    func(eventID) bool  // whether an event is to arrive here; nil for all
	copies [][]uint8           // key, number - 1: how often it was received, 255 for more
	last   map[string][]uint32 // destination: key: highest number received
	report Report              // what can be said without the ledger
}

// NewChecker returns a Checker of what the ledger's Producer wrote.
func NewChecker(l *Ledger) *Checker {
	return &Checker{ledger: l, copies: make([][]uint8, len(l.keys)), last: map[string][]uint32{}}
}

// Add takes the next event of r.Destination. It tells whether the event was received for the first time.
func (c *Checker) Add(r Received) bool {
	c.report.Received++
	if fault := c.fault(&r); fault != "" {
		c.report.Corrupted.add(example(&r, fault))
		return false
	}
	if c.Destination != nil {
		if want := c.Destination(r.Tenant, r.Topic); r.Destination != want && !strings.HasPrefix(r.Destination, want+"-partition-") {
			c.report.Misplaced.add(example(&r, "it belongs in "+want))
		}
	}
	n := c.count(r.event)
	if n > 1 {
		c.report.Doubled.add(example(&r, fmt.Sprintf("copy %d", n)))
		return false
	}
	c.order(&r)
	return true
}

// fault says what is wrong with the content, as far as it can be known without asking what was committed.
func (c *Checker) fault(r *Received) string {
	id := r.event
	switch {
	case r.Fault != "":
		return r.Fault
	case id.run != c.ledger.run:
		return "another run wrote it"
	case int(id.key) >= len(c.ledger.keys) || id.seq == 0 || int(id.seq) > c.ledger.written(int(id.key)):
		return "nobody wrote it"
	}
	_, topic := c.ledger.look(id)
	for _, f := range []struct{ name, has, want string }{
		{"tenant", r.Tenant, c.ledger.tenantOf(id.key)},
		{"topic", r.Topic, topic},
		{"aggregate id", r.Key, c.ledger.keyName(id.key)},
	} {
		if f.has != f.want {
			return fmt.Sprintf("its %s is %q and was written as %q", f.name, f.has, f.want)
		}
	}
	return ""
}

// count counts one more copy of the event and returns how many there are.
func (c *Checker) count(id eventID) uint8 {
	seen := c.copies[id.key]
	for len(seen) < int(id.seq) {
		seen = append(seen, 0)
	}
	c.copies[id.key] = seen
	n := &seen[id.seq-1]
	if *n < 255 {
		*n++
	}
	return *n
}

// order notices an event that comes behind a later one of its key.
func (c *Checker) order(r *Received) {
	id := r.event
	if c.ledger.keys[id.key].loose {
		return
	}
	last := c.last[r.Destination]
	if last == nil {
		last = make([]uint32, len(c.ledger.keys))
		c.last[r.Destination] = last
	}
	if id.seq < last[id.key] {
		c.report.OutOfOrder.add(example(r, fmt.Sprintf("behind number %d", last[id.key])))
		return
	}
	last[id.key] = id.seq
}

// Findings returns how many entries were found doubled, out of order, or wrong in themselves so far. Unlike Report it costs nothing.
func (c *Checker) Findings() (doubled, outOfOrder, wrong int) {
	return c.report.Doubled.Count, c.report.OutOfOrder.Count, c.report.Misplaced.Count + c.report.Corrupted.Count
}

// Report compares everything that was added with everything that was written until now.
func (c *Checker) Report() Report {
	r := c.report
	for key := range c.ledger.keys {
		for seq := 1; seq <= c.ledger.written(key); seq++ {
			c.compare(&r, eventID{c.ledger.run, uint32(key), uint32(seq)}) //nolint:gosec // as in next
		}
	}
	return r
}

func (c *Checker) compare(r *Report, id eventID) {
	if c.due != nil && !c.due(id) {
		return
	}
	received := len(c.copies[id.key]) >= int(id.seq) && c.copies[id.key][id.seq-1] > 0
	o, _ := c.ledger.look(id)
	switch o {
	case committed:
		r.Committed++
		if !received {
			r.Missing.add(c.written(id))
		}
	case rolledBack:
		r.RolledBack++
		switch {
		case received && c.ledger.isWithdrawn(id):
			r.Withdrawn++
		case received:
			r.Phantom.add(c.written(id))
		}
	case pending, unwritten:
		r.Unresolved.add(c.written(id))
	}
}

// written is the example of an event as the ledger knows it.
func (c *Checker) written(id eventID) Example {
	_, topic := c.ledger.look(id)
	return Example{ID: id.String(), Tenant: c.ledger.tenantOf(id.key), Topic: topic, Key: c.ledger.keyName(id.key), Seq: id.seq}
}

func example(r *Received, detail string) Example {
	return Example{
		ID: r.ID, Tenant: r.Tenant, Topic: r.Topic, Key: r.Key, Seq: r.Seq,
		Destination: r.Destination, Entry: r.Entry, Detail: detail,
	}
}
