package tracing

import (
	"github.com/go-logr/logr"
	"github.com/rs/zerolog"
)

// discreet is the log of the OpenTelemetry library. That would print a header of OTEL_EXPORTER_OTLP_HEADERS which it cannot read, and it may be a
// secret: only what the library was doing is written, and neither its error nor its values.
type discreet struct{ log zerolog.Logger }

var _ logr.LogSink = discreet{}

// Init does nothing.
func (discreet) Init(logr.RuntimeInfo) {}

// Enabled says that only errors are written.
func (discreet) Enabled(int) bool { return false }

// Info does nothing.
func (discreet) Info(int, string, ...any) {}

// Error writes what failed.
func (d discreet) Error(_ error, what string, _ ...any) {
	d.log.Warn().Str("what", what).Msg("OpenTelemetry cannot use a value of its OTEL_ variables, which is not shown as it may be a secret; correct it")
}

// WithValues returns the same.
func (d discreet) WithValues(...any) logr.LogSink { return d }

// WithName returns the same.
func (d discreet) WithName(string) logr.LogSink { return d }
