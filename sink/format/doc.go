// Package format makes messages of events: metadata as headers, and a body in one of four formats.
//
// # Headers
//
// Every format carries the same headers, in this order. What is NULL in the row is left out.
//
//	id              primary key
//	tenant_id       topic            aggregate_type   aggregate_id
//	occurred_at     RFC 3339, UTC: 2026-11-24T09:30:00.123456Z
//	schema_id       schema_version
//	position        where the event stands in the log: EPOCH:LSN:ORDINAL
//	frontier        only from the table lane: up to where the destination's events are disposed of
//	replay          only when an event is delivered again on request: how often it was
//	traceparent     from event_metadata, where it is a string
//	tracestate      from event_metadata, where it is a string
//	metadata        the rest of event_metadata, a JSON object; left out when it is empty
//
// Where event_metadata is no JSON object (an array, a scalar, text that is not JSON), metadata is what the column holds.
// JSON null and {} count as empty.
//
// # Bodies
//
//   - raw: the payload, byte for byte as PostgreSQL prints it. The bytes are not copied.
//   - bento: a JSON object with event_type (the topic), payload, event_id, occurred_at, source, correlation_id, causation_id
//     and version. source, correlation_id and causation_id come from event_metadata; where it has none, source is Options.Source
//     if that is set, else they are null. version is schema_version, and 1 (the column's own default) where
//     that is NULL.
//   - cloudevents: CloudEvents 1.0 in binary mode, with the names of its Kafka binding: headers ce_id, ce_source,
//     ce_specversion, ce_type (the topic), ce_time, ce_subject (aggregate_id), ce_partitionkey (the event's key), ce_traceparent,
//     ce_tracestate and content-type come after the others; the body is the payload.
//   - cloudevents_structured: the same attributes and the payload as data in one JSON object, with the header
//     content-type: application/cloudevents+json.
//
// The source of a cloud event is event_metadata's source where it is a string, else Options.Source, else /outboxd.
//
// # Payloads that are not JSON
//
// A payload from a text or bytea column is embedded in a JSON object as a JSON string; a NULL is null, and in raw
// an empty body. What is nested more than 10,000 deep counts as
// no JSON; PostgreSQL's own types end before that.
//
// # Encryption
//
// With Options.Payload every format holds what that makes of the payload: payloads whose fields are encrypted. Headers are not encrypted.
//
// # Failures
//
// An event without an id cannot be recognised again at its destination and is an error; so is one of which a text is not UTF-8, and what Options.Payload
// refuses. Nothing else fails.
package format
