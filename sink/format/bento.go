package format

import (
	"encoding/json"

	"github.com/tidwall/gjson"

	"github.com/outboxd/outboxd/event"
)

// appendBento appends the JSON envelope.
func (e *Encoder) appendBento(b []byte, ev *event.Event, md *metadata) []byte {
	b = append(b, `{"event_type":`...)
	b = appendString(b, ev.Topic)
	b = append(b, `,"payload":`...)
	b = appendPayload(b, ev.Payload)
	b = append(b, `,"event_id":`...)
	b = appendString(b, ev.ID)
	b = append(b, `,"occurred_at":`...)
	b = appendTime(b, ev)
	b = append(b, `,"source":`...)
	if source := md.member("source"); !source.Exists() && e.source != "" {
		b = gjson.AppendJSONString(b, e.source)
	} else {
		b = appendMember(b, source)
	}
	b = append(b, `,"correlation_id":`...)
	b = appendMember(b, md.member("correlation_id"))
	b = append(b, `,"causation_id":`...)
	b = appendMember(b, md.member("causation_id"))
	b = append(b, `,"version":`...)
	b = appendVersion(b, ev.SchemaVersion)
	return append(b, '}')
}

// appendString appends a column as a JSON string, or null.
func appendString(b, column []byte) []byte {
	if column == nil {
		return append(b, "null"...)
	}
	return gjson.AppendJSONString(b, string(column))
}

// appendTime appends occurred_at as a JSON string, or null.
func appendTime(b []byte, ev *event.Event) []byte {
	if ev.OccurredAt == nil {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = ev.AppendOccurredRFC3339(b)
	return append(b, '"')
}

// appendMember appends a value of event_metadata as it stands there, or null.
func appendMember(b []byte, value gjson.Result) []byte {
	if !value.Exists() {
		return append(b, "null"...)
	}
	return append(b, value.Raw...)
}

// appendVersion appends schema_version as a number. A column of another type, as a mapping may name, becomes a string.
func appendVersion(b, version []byte) []byte {
	if version == nil {
		return append(b, '1')
	}
	if json.Valid(version) && gjson.ParseBytes(version).Type == gjson.Number {
		return append(b, version...)
	}
	return gjson.AppendJSONString(b, string(version))
}
