// Package tracing makes a span for each attempt to publish an event that belongs to a sampled trace, and sends it to an OpenTelemetry collector by
// OTLP over HTTP.
//
// [Tracer.Sink] wraps a sink; whoever publishes knows nothing of it. A span is a child of the one that the event's traceparent names, begins
// with the call of the sink and ends with its answer. Events without a traceparent, or whose trace is not sampled, cost a look at their
// headers; without a Tracer there is no wrapper and no cost.
//
// Tracing never holds delivery up: spans wait in a queue of fixed length, and what does not fit is dropped. What the collector does not
// take is retried for a while by the exporter, then dropped, and logged at most once a minute. [Tracer.Close] sends what waits, within its deadline.
// What the OpenTelemetry library says of its variables is logged without their values, which may be secrets.
package tracing
