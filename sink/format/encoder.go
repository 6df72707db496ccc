package format

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/sink"
)

// The names of the formats.
const (
	Raw                   = "raw"
	Bento                 = "bento"
	CloudEvents           = "cloudevents"
	CloudEventsStructured = "cloudevents_structured"
)

// defaultSource is the source of a cloud event that names none: the attribute is required.
const defaultSource = "/outboxd"

// maxKeptBytes is how much memory an Encoder keeps over a Reset.
const maxKeptBytes = 4 << 20

// ErrNoID says that an event has no id.
var ErrNoID = errors.New("the event has no id: map a column that is never NULL")

// ErrNotUTF8 says that a text of an event is not UTF-8. Only a database of the encoding SQL_ASCII holds such.
var ErrNotUTF8 = errors.New("it is not UTF-8: let the application write that, or create the database anew with ENCODING 'UTF8'")

// Names returns the names of the formats, the default first.
func Names() []string { return []string{Raw, Bento, CloudEvents, CloudEventsStructured} }

// Options are settings that the formats share.
type Options struct {
	// Source is the source of an event whose event_metadata names none: an absolute path or URI. Empty means null in bento and
	// /outboxd in cloud events.
	Source string
	// Payload appends what is published of a payload, which is not nil, to dst: the payload with fields encrypted. Its error is that of Message. nil:
	// payloads are published as they are.
	Payload func(dst, payload []byte) ([]byte, error)
}

// Encoder makes messages of events. It is not safe for concurrent use; each goroutine has its own.
type Encoder struct {
	format  string
	source  string
	payload func(dst, payload []byte) ([]byte, error)

	headers []sink.Header
	buf     []byte
}

// New returns an encoder for the format of that name.
func New(name string, o Options) (*Encoder, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("unknown format %q: want %s", name, strings.Join(Names(), ", "))
	}
	return &Encoder{format: name, source: o.Source, payload: o.Payload}, nil
}

// Reset takes back the memory of all messages made so far: their bytes are valid no more.
func (e *Encoder) Reset() {
	clear(e.headers) // they point into the events
	e.headers, e.buf = e.headers[:0], e.buf[:0]
	if cap(e.buf) > maxKeptBytes {
		e.buf = nil
	}
}

// Message returns the event as a message for the destination. frontier is the header of that name, left out when zero; replay is
// how often the event was asked for again, left out when 0. The message's bytes belong partly to ev and partly to
// the encoder: they stay valid as long as ev's do and until Reset. The error is ErrNoID, ErrNotUTF8, or that of Options.Payload.
func (e *Encoder) Message(ev *event.Event, destination string, frontier event.Position, replay int) (sink.Message, error) {
	if len(ev.ID) == 0 {
		return sink.Message{}, ErrNoID
	}
	if err := checkText(ev); err != nil {
		return sink.Message{}, err
	}
	if e.payload != nil && ev.Payload != nil {
		published := *ev
		var err error
		if published.Payload, err = e.published(ev.Payload); err != nil {
			return sink.Message{}, err
		}
		ev = &published
	}
	m := sink.Message{Destination: destination}
	if t, ok := ev.OccurredTime(); ok {
		m.EventTime = t
	}
	m.Key = e.made(ev.AppendKey)
	first := len(e.headers)
	md := parseMetadata(ev.Metadata, e.format == Raw)
	e.columns(ev)
	e.positions(ev, frontier, replay)
	e.metadata(&md)
	switch e.format {
	case Bento:
		m.Body = e.made(func(b []byte) []byte { return e.appendBento(b, ev, &md) })
	case CloudEvents:
		e.cloudHeaders(ev, &md, m.Key)
		m.Body = ev.Payload
	case CloudEventsStructured:
		e.header("content-type", []byte("application/cloudevents+json"))
		m.Body = e.made(func(b []byte) []byte { return e.appendCloudEvent(b, ev, &md, m.Key) })
	default:
		m.Body = ev.Payload
	}
	if m.Body == nil {
		m.Body = []byte{}
	}
	m.Headers = e.headers[first:len(e.headers):len(e.headers)]
	return m, nil
}

// checkText looks for what is not UTF-8: consumers expect it, and brokers may refuse all that is published with it.
func checkText(ev *event.Event) error {
	for _, text := range [...]struct {
		name  string
		value []byte
	}{
		{"id", ev.ID},
		{"tenant_id", ev.TenantID},
		{"topic", ev.Topic},
		{"aggregate_type", ev.AggregateType},
		{"aggregate_id", ev.AggregateID},
		{"occurred_at", ev.OccurredAt},
		{"schema_id", ev.SchemaID},
		{"schema_version", ev.SchemaVersion},
		{"payload", ev.Payload},
		{"metadata", ev.Metadata},
	} {
		if !utf8.Valid(text.value) {
			return fmt.Errorf("%s: %w", text.name, ErrNotUTF8)
		}
	}
	return nil
}

// published is what is published of a payload.
func (e *Encoder) published(payload []byte) ([]byte, error) {
	from := len(e.buf)
	buf, err := e.payload(e.buf, payload)
	if err != nil {
		return nil, err
	}
	e.buf = buf
	return buf[from:len(buf):len(buf)], nil
}

// made returns the bytes that fill appends to the encoder's memory.
func (e *Encoder) made(fill func([]byte) []byte) []byte {
	from := len(e.buf)
	e.buf = fill(e.buf)
	return e.buf[from:len(e.buf):len(e.buf)]
}

func (e *Encoder) header(name string, value []byte) {
	e.headers = append(e.headers, sink.Header{Name: name, Value: value})
}

// column adds a header unless the column is NULL.
func (e *Encoder) column(name string, value []byte) {
	if value != nil {
		e.header(name, value)
	}
}

// member adds a header unless event_metadata has no such text.
func (e *Encoder) member(name string, text gjson.Result) {
	if text.Exists() {
		e.header(name, e.made(func(b []byte) []byte { return append(b, text.Str...) }))
	}
}

func (e *Encoder) columns(ev *event.Event) {
	e.column(sink.HeaderID, ev.ID)
	e.column("tenant_id", ev.TenantID)
	e.column("topic", ev.Topic)
	e.column("aggregate_type", ev.AggregateType)
	e.column("aggregate_id", ev.AggregateID)
	if ev.OccurredAt != nil {
		e.header("occurred_at", e.made(ev.AppendOccurredRFC3339))
	}
	e.column("schema_id", ev.SchemaID)
	e.column("schema_version", ev.SchemaVersion)
}

func (e *Encoder) positions(ev *event.Event, frontier event.Position, replay int) {
	e.header(sink.HeaderPosition, e.made(ev.Position.AppendTo))
	if !frontier.IsZero() {
		e.header(sink.HeaderFrontier, e.made(frontier.AppendTo))
	}
	if replay > 0 {
		e.header(sink.HeaderReplay, e.made(func(b []byte) []byte { return strconv.AppendInt(b, int64(replay), 10) }))
	}
}

func (e *Encoder) metadata(md *metadata) {
	e.member("traceparent", md.traceparent)
	e.member("tracestate", md.tracestate)
	switch {
	case md.verbatim != nil:
		e.header("metadata", md.verbatim)
	case md.rest > 0:
		e.header("metadata", e.made(md.appendRest))
	}
}

// appendPayload appends the payload as a JSON value.
func appendPayload(b, payload []byte) []byte {
	switch {
	case payload == nil:
		return append(b, "null"...)
	case json.Valid(payload):
		return append(b, payload...)
	default:
		return gjson.AppendJSONString(b, string(payload))
	}
}
