package tracing

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/outboxd/outboxd/sink"
)

// traced is a sink whose publishes leave spans.
type traced struct {
	sink.Sink
	tracer *Tracer
	common trace.SpanStartEventOption
}

// partitioned is one with partitions.
type partitioned struct {
	traced
	sink.Partitioner
}

// Sink returns the sink with its publishes traced. system is what OpenTelemetry calls its broker ("redis"), name its name in the configuration.
func (t *Tracer) Sink(s sink.Sink, name, system string) sink.Sink {
	one := traced{s, t, trace.WithAttributes(
		semconv.MessagingSystemKey.String(system), semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("publish"),
		attribute.String("outboxd.sink", name),
	)}
	if p, ok := s.(sink.Partitioner); ok {
		return &partitioned{one, p}
	}
	return &one
}

// BeginSession tells the sink, where it goes by sessions.
func (s *traced) BeginSession() {
	if b, ok := s.Sink.(sink.SessionSink); ok {
		b.BeginSession()
	}
}

// Publish publishes the batch, then makes the spans of what was attempted.
func (s *traced) Publish(ctx context.Context, batch []sink.Message) []error {
	started := time.Now()
	results := s.Sink.Publish(ctx, batch)
	ended := time.Now()
	for i := range batch {
		var err error
		if results != nil {
			err = results[i]
		}
		if errors.Is(err, sink.ErrNotAttempted) {
			continue
		}
		if parent := s.tracer.parent(&batch[i]); parent != nil {
			s.span(parent, &batch[i], started, ended, err)
		}
	}
	return results
}

// parent returns a context with the span that the event belongs to; nil when its trace is not sampled, by us or by those before us.
func (t *Tracer) parent(m *sink.Message) context.Context {
	traceparent := header(m, "traceparent")
	if !maybeSampled(traceparent) {
		return nil
	}
	carrier := propagation.MapCarrier{"traceparent": string(traceparent)}
	if state := header(m, "tracestate"); state != nil {
		carrier["tracestate"] = string(state)
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), carrier)
	parent := trace.SpanContextFromContext(ctx)
	if !parent.IsSampled() {
		return nil
	}
	if t.sampler.ShouldSample(sdktrace.SamplingParameters{ParentContext: ctx, TraceID: parent.TraceID()}).Decision != sdktrace.RecordAndSample {
		return nil
	}
	return ctx
}

func (s *traced) span(parent context.Context, m *sink.Message, started, ended time.Time, err error) {
	_, span := s.tracer.tracer.Start(parent, "publish "+m.Destination, trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(started),
		s.common, trace.WithAttributes(
			semconv.MessagingDestinationName(m.Destination),
			semconv.MessagingMessageID(string(header(m, sink.HeaderID))),
			semconv.MessagingMessageBodySize(len(m.Body)),
			attribute.String("outboxd.position", string(header(m, sink.HeaderPosition))),
		))
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(semconv.ErrorTypeKey.String(sink.ClassOf(err).String()))
	}
	span.End(trace.WithTimestamp(ended))
}

// maybeSampled tells whether a traceparent has the form of one whose trace is sampled: what it costs to find out that it is not.
// Source: https://www.w3.org/TR/trace-context/#traceparent-header
func maybeSampled(traceparent []byte) bool {
	const flags = len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0")
	if len(traceparent) <= flags {
		return false
	}
	switch traceparent[flags] { // the last digit's lowest bit
	case '1', '3', '5', '7', '9', 'b', 'd', 'f':
		return true
	default:
		return false
	}
}

func header(m *sink.Message, name string) []byte {
	for i := range m.Headers {
		if m.Headers[i].Name == name {
			return m.Headers[i].Value
		}
	}
	return nil
}
