package workload

import (
	"math/rand/v2"
	"strings"
)

// Shares of what a Load does.
const (
	loadRollbacks  = 0.05
	loadPrepared   = 0.10 // a third of them is rolled back
	loadSavepoints = 0.20
	loadLarge      = 0.01
	loadKeyless    = 0.05

	loadUsual     = 8         // most events of a usual transaction
	loadLargest   = 300       // most events of a large one
	loadPayload   = 4 << 10   // most bytes that are added to a usual payload
	loadBigLoad   = 128 << 10 // the same, of a big one
	loadBigShare  = 0.01
	loadFillShare = 0.25
)

// ending is how a transaction ends.
type ending uint8

const (
	endCommit ending = iota
	endRollback
	endCommitPrepared
	endRollbackPrepared
)

// section is how a part of a transaction relates to savepoints.
type section uint8

const (
	plain    section = iota
	released         // between SAVEPOINT and RELEASE
	undone           // between SAVEPOINT and ROLLBACK TO
	nested           // released, and its second half undone
	sections
)

// part is so many events in a row.
type part struct {
	section section
	events  int
}

// transaction is the shape of one.
type transaction struct {
	parts  []part
	ending ending
}

// size is how many events it writes.
func (t *transaction) size() (n int) {
	for _, p := range t.parts {
		n += p.events
	}
	return n
}

// drawSize draws how many events the next transaction writes.
func drawSize(r *rand.Rand) int {
	if r.Float64() < loadLarge {
		return loadUsual + r.IntN(loadLargest-loadUsual) + 1
	}
	return 1 + r.IntN(loadUsual)
}

// drawTransaction draws the shape of a transaction of n events.
func drawTransaction(r *rand.Rand, n int, prepared bool) transaction {
	t := transaction{ending: drawEnding(r, prepared)}
	if r.Float64() >= loadSavepoints {
		t.parts = []part{{plain, n}}
		return t
	}
	for n > 0 {
		p := part{section(r.IntN(int(sections))), 1 + r.IntN(n)} //nolint:gosec // few
		t.parts = append(t.parts, p)
		n -= p.events
	}
	return t
}

func drawEnding(r *rand.Rand, prepared bool) ending {
	switch x := r.Float64(); {
	case x < loadRollbacks:
		return endRollback
	case prepared && x < loadRollbacks+loadPrepared/3:
		return endRollbackPrepared
	case prepared && x < loadRollbacks+loadPrepared:
		return endCommitPrepared
	default:
		return endCommit
	}
}

// filling has what encoders must escape.
const filling = `abc "\<>&'` + "\t"

// drawFiller draws what makes a payload larger: mostly nothing.
func drawFiller(r *rand.Rand) string {
	switch x := r.Float64(); {
	case x < loadBigShare:
		return strings.Repeat(filling, r.IntN(loadBigLoad)/len(filling))
	case x < loadFillShare:
		return strings.Repeat(filling, r.IntN(loadPayload)/len(filling))
	default:
		return ""
	}
}
