package event

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Position is where an event stands in the order of all events of one outbox. It never goes back:
// the epoch rises with every new slot and every promotion of the server, so positions order even where LSNs restart.
// The zero Position stands before every event.
type Position struct {
	Epoch   uint32 // which slot and timeline; seconds since 1970 when the slot was made, or one more than the last
	Commit  LSN    // where the transaction's commit record begins (Begin.FinalLSN)
	Ordinal uint32 // which insert of the outbox table in its transaction, from 1
}

// ParsePosition reads the text form that String makes: "1764000000:0/16B3748:1".
func ParsePosition(s string) (Position, error) {
	epoch, rest, ok := strings.Cut(s, ":")
	commit, ordinal, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return Position{}, fmt.Errorf("parse position %q: want EPOCH:LSN:ORDINAL", s)
	}
	e, err := strconv.ParseUint(epoch, 10, 32)
	if err != nil {
		return Position{}, fmt.Errorf("parse position %q: epoch: %w", s, err)
	}
	l, err := ParseLSN(commit)
	if err != nil {
		return Position{}, fmt.Errorf("parse position %q: %w", s, err)
	}
	o, err := strconv.ParseUint(ordinal, 10, 32)
	if err != nil {
		return Position{}, fmt.Errorf("parse position %q: ordinal: %w", s, err)
	}
	return Position{uint32(e), l, uint32(o)}, nil
}

// String returns "EPOCH:LSN:ORDINAL".
func (p Position) String() string { return string(p.AppendTo(nil)) }

// AppendTo appends the text form to b.
func (p Position) AppendTo(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(p.Epoch), 10)
	b = append(b, ':')
	b = p.Commit.AppendTo(b)
	b = append(b, ':')
	return strconv.AppendUint(b, uint64(p.Ordinal), 10)
}

// Compare is negative when p stands before q, zero when they are one, positive after.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Epoch, q.Epoch); c != 0 {
		return c
	}
	if c := cmp.Compare(p.Commit, q.Commit); c != 0 {
		return c
	}
	return cmp.Compare(p.Ordinal, q.Ordinal)
}

// After tells whether p stands behind q in the order of events.
func (p Position) After(q Position) bool { return p.Compare(q) > 0 }

// IsZero tells whether p is the position before every event.
func (p Position) IsZero() bool { return p == Position{} }
