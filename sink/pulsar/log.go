package pulsar

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	clientlog "github.com/apache/pulsar-client-go/pulsar/log"
	"github.com/rs/zerolog"
)

// What the client says in its log and nowhere else. The version of the client is pinned, and tests notice when a new
// one says it differently.
const (
	lineMaxMessageSize   = "Got MaxMessageSize from handshake response:"
	lineHandshakeRefused = "Failed to establish connection with broker: '%s'"
	lineSendRefused      = "Received send error from server: [%v] : [%s]"
)

var linesConnectFailed = map[string]bool{
	"Failed to connect to broker.":        true,
	"Failed to configure TLS ":            true,
	"Failed to load auth credentials":     true,
	"Failed to perform initial handshake": true,
}

// overheard is what was learned from the client's log: the broker's limit; why the last connection failed, which the client's
// errors do not say ("connection error"); and how the broker last refused a batch, which the client keeps to itself.
type overheard struct {
	maxMessageSize atomic.Int64
	connectProblem atomic.Pointer[string]
	lastRefusal    atomic.Pointer[refusal]
}

// refusal is the broker's answer to a batch. Whose batch it was is not known.
type refusal struct {
	at   time.Time
	text string
}

// refusalSince returns what the broker refused a batch with, "" when it refused none since then.
func (o *overheard) refusalSince(t time.Time) string {
	if r := o.lastRefusal.Load(); r != nil && !r.at.Before(t) {
		return r.text
	}
	return ""
}

// problem returns why the last connection failed, "" when that is not known.
func (o *overheard) problem() string {
	if p := o.connectProblem.Load(); p != nil {
		return *p
	}
	return ""
}

func (o *overheard) setProblem(s string) { o.connectProblem.Store(&s) }

// clientLogger passes the client's log on at two levels lower than the client means it: it reports as errors what this
// package handles. Fields are dropped but for the error: some of them hold message properties.
type clientLogger struct {
	log   zerolog.Logger
	heard *overheard
	err   error
	topic string
}

var _ clientlog.Logger = clientLogger{}

func (l clientLogger) SubLogger(fields clientlog.Fields) clientlog.Logger { return l.with(fields) }

func (l clientLogger) WithFields(fields clientlog.Fields) clientlog.Entry {
	return entryLogger{l.with(fields)}
}

func (l clientLogger) WithField(string, any) clientlog.Entry { return entryLogger{l} }

func (l clientLogger) WithError(err error) clientlog.Entry {
	l.err = err
	return entryLogger{l}
}

func (l clientLogger) with(fields clientlog.Fields) clientLogger {
	if topic, ok := fields["topic"].(string); ok {
		l.topic = topic
	}
	return l
}

// Debug is called several times for each message, so it looks at what it is given as little as it can.
func (l clientLogger) Debug(args ...any) {
	if len(args) != 2 {
		return
	}
	if line, ok := args[0].(string); ok && line == lineMaxMessageSize {
		if size, ok := args[1].(int32); ok {
			l.heard.maxMessageSize.Store(int64(size))
			l.heard.setProblem("")
		}
	}
}

func (l clientLogger) Debugf(string, ...any) {}

func (l clientLogger) Info(args ...any)               { l.emit(zerolog.TraceLevel, args) }
func (l clientLogger) Infof(format string, a ...any)  { l.emitf(zerolog.TraceLevel, format, a) }
func (l clientLogger) Error(args ...any)              { l.emit(zerolog.DebugLevel, args) }
func (l clientLogger) Errorf(format string, a ...any) { l.emitf(zerolog.DebugLevel, format, a) }

func (l clientLogger) Warn(args ...any) {
	if len(args) == 1 {
		if line, ok := args[0].(string); ok && linesConnectFailed[line] && l.err != nil {
			l.heard.setProblem(strings.TrimSpace(line) + ": " + l.err.Error())
		}
	}
	l.emit(zerolog.DebugLevel, args)
}

func (l clientLogger) Warnf(format string, a ...any) {
	switch format {
	case lineHandshakeRefused:
		l.heard.setProblem(fmt.Sprintf(format, a...))
	case lineSendRefused:
		l.heard.lastRefusal.Store(&refusal{time.Now(), fmt.Sprint(a...)})
	}
	l.emitf(zerolog.DebugLevel, format, a)
}

func (l clientLogger) emit(level zerolog.Level, args []any) {
	l.write(level, func() string { return strings.TrimSuffix(fmt.Sprintln(args...), "\n") })
}

func (l clientLogger) emitf(level zerolog.Level, format string, args []any) {
	l.write(level, func() string { return fmt.Sprintf(format, args...) })
}

// write makes the line only where its level is logged.
func (l clientLogger) write(level zerolog.Level, line func() string) {
	l.log.WithLevel(level).Func(func(e *zerolog.Event) {
		if l.topic != "" {
			e.Str("topic", l.topic)
		}
		e.AnErr("error", l.err).Str("line", line())
	}).Msg("pulsar client")
}

// entryLogger is a clientLogger as an Entry, whose With methods return another type.
type entryLogger struct{ clientLogger }

var _ clientlog.Entry = entryLogger{}
