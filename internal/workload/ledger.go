package workload

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
)

// outcome is what became of the transaction of an event.
type outcome uint8

const (
	unwritten  outcome = iota // no transaction tried to write it
	pending                   // being written, or of unknown fate until it is resolved
	committed                 // to arrive exactly once
	rolledBack                // never to arrive
)

const (
	outcomeBits = 2
	outcomeMask = 1<<outcomeBits - 1
	maxTopics   = 1 << (8 - outcomeBits)
)

// Ledger is what a Producer wrote. It holds a byte for each event: its outcome and the index of its topic. It is safe for
// concurrent use.
type Ledger struct {
	run       uint64
	tenants   []string
	topics    []string
	keyPrefix string // of aggregate ids
	keys      []ledgerKey
}

// ledgerKey is one key's events; the number of the first is 1.
type ledgerKey struct {
	tenant uint16
	loose  bool // its events have no aggregate id, so no order among them

	mu        sync.Mutex
	events    []uint8
	withdrawn map[uint32]bool // numbers of rolled back ones whose COMMIT was sent, to a server that was replaced by one that lacks them; mostly nil
}

// newLedger makes a ledger; describe says whose a key is, and whether its events have no aggregate id.
func newLedger(run uint64, tenants []string, keys int, describe func(key int) (tenant int, loose bool)) (*Ledger, error) {
	if run > maxRun || keys > maxKey || len(tenants) == 0 || len(tenants) > 1<<16 {
		return nil, errors.New("make a ledger: too many tenants or keys, or none")
	}
	l := &Ledger{run: run, tenants: tenants, topics: Topics(), keys: make([]ledgerKey, keys)}
	for i := range l.keys {
		tenant, loose := describe(i)
		l.keys[i].tenant, l.keys[i].loose = uint16(tenant), loose //nolint:gosec // bounded above
	}
	return l, nil
}

// newLedgerOf makes the ledger of writers that have so many keys each, behind one for each tenant, which holds the events without an aggregate id.
func newLedgerOf(run uint64, tenants []string, writers, keys int) (*Ledger, error) {
	each := len(tenants) + keys
	return newLedger(run, tenants, writers*each, func(key int) (int, bool) {
		n := key % each
		return n % len(tenants), n < len(tenants)
	})
}

// next gives the number of a new event of the key, which is pending from now on.
func (l *Ledger) next(key uint32, topic int) eventID {
	k := &l.keys[key]
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, uint8(topic)<<outcomeBits|uint8(pending)) //nolint:gosec // there are maxTopics at most
	return eventID{l.run, key, uint32(len(k.events))}                     //nolint:gosec // memory ends before
}

// decide records what became of a pending event.
func (l *Ledger) decide(id eventID, o outcome) {
	k := &l.keys[id.key]
	k.mu.Lock()
	defer k.mu.Unlock()
	e := &k.events[id.seq-1]
	if outcome(*e&outcomeMask) != pending {
		panic(fmt.Sprintf("workload: event %s is decided twice", id))
	}
	*e = *e&^outcomeMask | uint8(o)
}

// withdraw notes of an event that it is rolled back, although its transaction was in the log of a server that a failover has replaced.
func (l *Ledger) withdraw(id eventID) {
	l.decide(id, rolledBack)
	k := &l.keys[id.key]
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.withdrawn == nil {
		k.withdrawn = map[uint32]bool{}
	}
	k.withdrawn[id.seq] = true
}

// isWithdrawn tells whether an event that is rolled back may have been seen in a log nevertheless.
func (l *Ledger) isWithdrawn(id eventID) bool {
	k := &l.keys[id.key]
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.withdrawn[id.seq]
}

// look returns what is known of an event; a foreign one is unwritten.
func (l *Ledger) look(id eventID) (o outcome, topic string) {
	if id.run != l.run || int(id.key) >= len(l.keys) || id.seq == 0 {
		return unwritten, ""
	}
	k := &l.keys[id.key]
	k.mu.Lock()
	defer k.mu.Unlock()
	if int(id.seq) > len(k.events) {
		return unwritten, ""
	}
	return outcome(k.events[id.seq-1] & outcomeMask), l.topics[k.events[id.seq-1]>>outcomeBits]
}

// written returns how many events of the key were tried.
func (l *Ledger) written(key int) int {
	k := &l.keys[key]
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.events)
}

func (l *Ledger) tenantOf(key uint32) string { return l.tenants[l.keys[key].tenant] }

// keyName is the aggregate id of a key; empty for one whose events have none.
func (l *Ledger) keyName(key uint32) string {
	if l.keys[key].loose {
		return ""
	}
	return l.keyPrefix + strconv.Itoa(int(key)+1)
}
