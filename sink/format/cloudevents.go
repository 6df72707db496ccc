package format

import (
	"encoding/json"

	"github.com/tidwall/gjson"

	"github.com/outboxd/outboxd/event"
)

// Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, its Kafka binding for the names of headers, and
// its extensions partitionkey and distributed tracing.

const (
	typeJSON = "application/json"
	typeText = "text/plain"
)

// cloudHeaders adds the attributes of an event in binary mode.
func (e *Encoder) cloudHeaders(ev *event.Event, md *metadata, key []byte) {
	e.header("ce_id", ev.ID)
	e.header("ce_source", e.made(func(b []byte) []byte { return append(b, e.cloudSource(md)...) }))
	e.header("ce_specversion", []byte("1.0"))
	e.column("ce_type", ev.Topic)
	if _, ok := ev.OccurredTime(); ok {
		e.header("ce_time", e.made(ev.AppendOccurredRFC3339))
	}
	e.column("ce_subject", ev.AggregateID)
	e.header("ce_partitionkey", key)
	e.member("ce_traceparent", md.traceparent)
	e.member("ce_tracestate", md.tracestate)
	if ev.Payload != nil {
		e.header("content-type", []byte(contentType(ev.Payload)))
	}
}

// appendCloudEvent appends an event in structured mode.
func (e *Encoder) appendCloudEvent(b []byte, ev *event.Event, md *metadata, key []byte) []byte {
	b = append(b, `{"specversion":"1.0","id":`...)
	b = appendString(b, ev.ID)
	b = append(b, `,"source":`...)
	b = gjson.AppendJSONString(b, e.cloudSource(md))
	b = append(b, `,"type":`...)
	b = appendString(b, ev.Topic)
	if _, ok := ev.OccurredTime(); ok {
		b = append(b, `,"time":`...)
		b = appendTime(b, ev)
	}
	if ev.AggregateID != nil {
		b = append(b, `,"subject":`...)
		b = appendString(b, ev.AggregateID)
	}
	b = append(b, `,"partitionkey":`...)
	b = appendString(b, key)
	if md.traceparent.Exists() {
		b = append(b, `,"traceparent":`...)
		b = append(b, md.traceparent.Raw...)
	}
	if md.tracestate.Exists() {
		b = append(b, `,"tracestate":`...)
		b = append(b, md.tracestate.Raw...)
	}
	if ev.Payload != nil {
		b = append(b, `,"datacontenttype":"`...)
		b = append(b, contentType(ev.Payload)...)
		b = append(b, `","data":`...)
		b = appendPayload(b, ev.Payload)
	}
	return append(b, '}')
}

// cloudSource returns the required attribute source.
func (e *Encoder) cloudSource(md *metadata) string {
	if source := md.member("source"); source.Type == gjson.String && source.Str != "" {
		return source.Str
	}
	if e.source != "" {
		return e.source
	}
	return defaultSource
}

func contentType(payload []byte) string {
	if json.Valid(payload) {
		return typeJSON
	}
	return typeText
}
