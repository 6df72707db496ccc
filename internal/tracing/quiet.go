package tracing

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// complainEvery is the least time between two lines on spans that could not be sent.
const complainEvery = time.Minute

// quiet is an exporter whose errors end in the log, now and then.
type quiet struct {
	sdktrace.SpanExporter
	log zerolog.Logger

	mu   sync.Mutex // guards what follows
	lost int        // spans since the last line
	next time.Time  // when the next line may be written
}

// ExportSpans sends the spans, or logs that it could not. Nobody could do anything about its error.
func (q *quiet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := q.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	q.mu.Lock()
	q.lost += len(spans)
	lost, now := q.lost, time.Now()
	silent := now.Before(q.next)
	if !silent {
		q.lost, q.next = 0, now.Add(complainEvery)
	}
	q.mu.Unlock()
	if !silent {
		q.log.Warn().Err(err).Int("spans_lost", lost).Msg("traces could not be sent; delivery goes on")
	}
	return nil
}
