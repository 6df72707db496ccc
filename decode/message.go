package decode

import (
	"fmt"

	"github.com/outboxd/outboxd/event"
)

// Kind is the type of a message: its first byte.
type Kind byte

// The messages of protocol version 1.
const (
	Begin          Kind = 'B'
	Commit         Kind = 'C'
	Origin         Kind = 'O'
	Relation       Kind = 'R'
	Type           Kind = 'Y'
	Insert         Kind = 'I'
	Update         Kind = 'U'
	Delete         Kind = 'D'
	Truncate       Kind = 'T'
	LogicalMessage Kind = 'M'
)

// String returns the message's name in PostgreSQL's documentation.
func (k Kind) String() string {
	switch k {
	case Begin:
		return "Begin"
	case Commit:
		return "Commit"
	case Origin:
		return "Origin"
	case Relation:
		return "Relation"
	case Type:
		return "Type"
	case Insert:
		return "Insert"
	case Update:
		return "Update"
	case Delete:
		return "Delete"
	case Truncate:
		return "Truncate"
	case LogicalMessage:
		return "Message"
	default:
		return fmt.Sprintf("unknown (%q)", byte(k))
	}
}

// Message is what Decode found. Only the fields named for its Kind are set.
type Message struct {
	Kind   Kind
	Outbox bool // Relation, Insert, Update, Delete, Truncate: it concerns the outbox table

	Xid        uint32    // Begin
	CommitLSN  event.LSN // Begin, Commit: where the commit record begins
	EndLSN     event.LSN // Commit: behind the transaction; the only position of it that may be confirmed
	CommitTime int64     // Begin, Commit: microseconds since 1970

	// Event is the row, for an Insert of the outbox table. Its fields are slices of the message; Position has no Epoch.
	Event event.Event
}

// RowError says that a row of the outbox table is no valid event: a column that must have a value is NULL.
type RowError struct {
	Table    string // schema.table
	Column   string
	ID       string         // of the event; empty when the id itself is NULL
	Position event.Position // without an Epoch
}

func (e *RowError) Error() string {
	return fmt.Sprintf("event %q, row %d of the transaction that committed at %s: column %q of %s is NULL, which no event may have: "+
		"declare the column NOT NULL, so that the application is refused, or map another (database.columns); for a tenant, database.default_tenant",
		e.ID, e.Position.Ordinal, e.Position.Commit, e.Column, e.Table)
}
