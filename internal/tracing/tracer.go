package tracing

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-logr/logr"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Config says where spans go and which.
type Config struct {
	Endpoint string  // address of the collector, http://host:4318; spans are posted to its path /v1/traces
	Share    float64 // of the sampled traces that get spans, 0 to 1
	Version  string  // of this program
	Log      zerolog.Logger
}

// Tracer makes spans and sends them. Its methods may be called from any goroutine.
type Tracer struct {
	tracer   trace.Tracer
	sampler  sdktrace.Sampler
	provider *sdktrace.TracerProvider
}

// New returns a tracer. It does not ask whether the collector answers. What the OpenTelemetry variables say (OTEL_EXPORTER_OTLP_HEADERS,
// OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_...) holds.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	otel.SetLogger(logr.New(discreet{log: cfg.Log})) // the library's own one is of the whole process
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimSuffix(cfg.Endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("open the exporter of traces: %w", err)
	}
	self, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("outboxd"), semconv.ServiceVersion(cfg.Version)),
		resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe the source of traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // the wrapper asks the sampler before it makes a span
		sdktrace.WithBatcher(&quiet{SpanExporter: exporter, log: cfg.Log}),
		sdktrace.WithResource(self),
	)
	return &Tracer{
		tracer:   provider.Tracer("github.com/outboxd/outboxd", trace.WithInstrumentationVersion(cfg.Version)),
		sampler:  sdktrace.TraceIDRatioBased(cfg.Share),
		provider: provider,
	}, nil
}

// Close sends what waits and ends the tracer. Nothing may be published through its sinks afterwards.
func (t *Tracer) Close(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}
