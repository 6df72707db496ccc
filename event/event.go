package event

import (
	"bytes"
	"time"
)

// Event is one row of the outbox table as the log carried it. The byte fields hold PostgreSQL's text
// output (UTF-8; timestamps in ISO style and UTC, because the connection asks for it). A nil field is
// NULL or a column that the table does not have; an empty one is the empty string.
type Event struct {
	Position Position
	Xid      uint32 // the transaction's id, without its epoch; tells when the row becomes visible

	ID            []byte // primary key, text form
	TenantID      []byte
	Topic         []byte
	AggregateType []byte
	AggregateID   []byte
	OccurredAt    []byte // "2026-11-24 09:30:00.123456+00"
	SchemaID      []byte
	SchemaVersion []byte // decimal
	Payload       []byte // JSON
	Metadata      []byte // JSON object
	Status        []byte
}

// Size is the number of bytes that the event's fields hold.
func (e *Event) Size() int {
	return len(e.ID) + len(e.TenantID) + len(e.Topic) + len(e.AggregateType) + len(e.AggregateID) +
		len(e.OccurredAt) + len(e.SchemaID) + len(e.SchemaVersion) + len(e.Payload) + len(e.Metadata) + len(e.Status)
}

// timestampLayout is how PostgreSQL prints a timestamptz with DateStyle ISO and TimeZone UTC. The
// fraction is absent when it is zero, which time.Parse accepts.
const timestampLayout = "2006-01-02 15:04:05Z07"

// OccurredTime returns occurred_at, in UTC with microseconds. It is false when the column is NULL or holds
// what a time.Time cannot ('infinity', years BC).
func (e *Event) OccurredTime() (time.Time, bool) {
	t, err := time.Parse(timestampLayout, string(e.OccurredAt))
	return t.UTC(), err == nil
}

// AppendOccurredRFC3339 appends occurred_at as RFC 3339 ("2026-11-24T09:30:00.123456Z"); what has no
// such form ('infinity') is appended as PostgreSQL printed it.
func (e *Event) AppendOccurredRFC3339(b []byte) []byte {
	const date = len("2006-01-02")
	rest, utc := bytes.CutSuffix(e.OccurredAt, []byte("+00"))
	if !utc || len(rest) < len("2006-01-02 15:04:05") || rest[date] != ' ' {
		return append(b, e.OccurredAt...)
	}
	b = append(b, rest[:date]...)
	b = append(b, 'T')
	b = append(b, rest[date+1:]...)
	return append(b, 'Z')
}
