package event

import (
	"bytes"
	"time"
)

// Event is one row of the outbox table as the log carried it. The byte fields hold PostgreSQL's text
// output (UTF-8, unless the database's encoding is SQL_ASCII; timestamps in ISO style and UTC, because the connection asks for it). A nil field is
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

// PostgresEpochMicros is where PostgreSQL counts time from, 2000-01-01, in microseconds since 1970.
const PostgresEpochMicros = 946_684_800_000_000

// timestampLayout is how PostgreSQL prints a timestamptz with DateStyle ISO and TimeZone UTC. The
// fraction is absent when it is zero, which time.Parse accepts.
const timestampLayout = "2006-01-02 15:04:05Z07"

// OccurredTime returns occurred_at, in UTC with microseconds. It is false when the column is NULL or holds
// what a time.Time cannot ('infinity', years BC).
func (e *Event) OccurredTime() (time.Time, bool) {
	if t, ok := usualTime(e.OccurredAt); ok {
		return t, true
	}
	t, err := time.Parse(timestampLayout, string(e.OccurredAt))
	return t.UTC(), err == nil
}

// usualTime reads what timestampLayout says where it is in UTC and each number is as long as usual, in a tenth of time.Parse's time. Of anything else it
// is false.
func usualTime(text []byte) (time.Time, bool) {
	const whole = len("2006-01-02 15:04:05")
	text, utc := bytes.CutSuffix(text, []byte("+00"))
	if !utc || len(text) < whole || len(text) > whole+len(".123456") ||
		text[4] != '-' || text[7] != '-' || text[10] != ' ' || text[13] != ':' || text[16] != ':' {
		return time.Time{}, false
	}
	year, month, day := number(text[0:4]), number(text[5:7]), number(text[8:10])
	hour, minute, second := number(text[11:13]), number(text[14:16]), number(text[17:19])
	nanos := 0
	if fraction := text[whole:]; len(fraction) > 0 {
		nanos = number(fraction[1:])
		for range 1 + 9 - len(fraction) {
			nanos *= 10
		}
		if fraction[0] != '.' || len(fraction) == 1 {
			return time.Time{}, false
		}
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC)
	// An impossible date or time, and what is no number, becomes another one.
	ok := min(year, month, day, hour, minute, second, nanos) >= 0 && t.Day() == day && t.Month() == time.Month(month) &&
		hour < 24 && minute < 60 && second < 60
	return t, ok
}

// number reads decimal digits. It is negative where there is anything else.
func number(digits []byte) int {
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
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
