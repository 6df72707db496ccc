package pulsar

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	client "github.com/apache/pulsar-client-go/pulsar"
	clientlog "github.com/apache/pulsar-client-go/pulsar/log"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
)

// What the client says in its log and nowhere else. The version of the client is pinned, and tests notice when a new
// one says it differently.
const (
	lineMaxMessageSize   = "Got MaxMessageSize from handshake response:"
	lineHandshakeRefused = "Failed to establish connection with broker: '%s'"
	lineReceived         = "Received command: %s -- payload: %v"
	lineDiscarded        = "Discarding corrupted message"
	lineUnexpectedChunk  = "Received unexpected chunk messageId ["
)

var linesConnectFailed = map[string]bool{
	"Failed to connect to broker.":        true,
	"Failed to configure TLS ":            true,
	"Failed to load auth credentials":     true,
	"Failed to perform initial handshake": true,
}

// overheard is what was learned from the client's log: the broker's limit; why the last connection failed, which the client's
// errors do not say ("connection error"); how the broker refused a producer's batch, and which entries a reader was not given, which the client keeps to itself.
type overheard struct {
	maxMessageSize atomic.Int64 // the smallest of a broker that has shaken hands since the session began, or the last one before
	sizeIsOld      atomic.Bool  // no broker has shaken hands in this session
	connectProblem atomic.Pointer[string]

	mu        sync.Mutex
	producers map[string]heardProducer // those that are open, by their names; guarded by mu
	dropped   map[string]place         // the last entry that each reader was not given, by its subscription; guarded by mu
}

// place is where an entry lies.
type place struct{ ledger, entry int64 }

var noPlace = place{-1, -1} // before all others

func placeOf(id client.MessageID) place { return place{id.LedgerID(), id.EntryID()} }

func (p place) atOrBehind(other place) bool {
	return p.ledger > other.ledger || p.ledger == other.ledger && p.entry >= other.entry
}

// heardProducer is a producer as the client's log speaks of it.
type heardProducer struct {
	number  producerNumber
	refusal string // what the broker has refused a batch with, "" when it has refused none
}

// producerNumber is what the broker calls a producer.
type producerNumber struct {
	client *byte // of which client it is
	id     uint64
}

// limited notes the largest message that one of the brokers takes.
func (o *overheard) limited(size int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if before := o.maxMessageSize.Load(); before == 0 || size < before || o.sizeIsOld.Load() {
		o.maxMessageSize.Store(size)
	}
	o.sizeIsOld.Store(false)
}

func (o *overheard) opened(name string, number producerNumber) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.producers == nil {
		o.producers = make(map[string]heardProducer)
	}
	o.producers[name] = heardProducer{number: number}
}

func (o *overheard) refused(number producerNumber, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, p := range o.producers {
		if p.number == number {
			o.producers[name] = heardProducer{number, text}
		}
	}
}

// refusalOf returns what the broker refused a batch of the producer with, "" when it refused none. A producer sends nothing after that.
func (o *overheard) refusalOf(name string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.producers[name].refusal
}

func (o *overheard) forget(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.producers, name)
}

// reading begins to note what the reader of the subscription is not given, until notReading.
func (o *overheard) reading(subscription string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dropped == nil {
		o.dropped = make(map[string]place)
	}
	o.dropped[subscription] = noPlace
}

func (o *overheard) notReading(subscription string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.dropped, subscription)
}

func (o *overheard) drop(subscription string, at place) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ours := o.dropped[subscription]; ours {
		o.dropped[subscription] = at
	}
}

// droppedUpTo tells whether the reader of the subscription was not given this entry, or one behind it.
func (o *overheard) droppedUpTo(subscription string, at place) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	last, ours := o.dropped[subscription]
	return ours && last.atOrBehind(at)
}

// droppedNone tells whether the reader of the subscription was given all that came for it.
func (o *overheard) droppedNone(subscription string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dropped[subscription] == noPlace
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
	log    zerolog.Logger
	heard  *overheard
	client *byte // stands for the client whose log it is
	err    error
	topic  string

	subscription string // of the consumer that speaks
	entry        place  // that it speaks of
	invalid      string // what is wrong with that
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
	if id, ok := fields["producerID"].(uint64); ok {
		if name, ok := fields["producer_name"].(string); ok {
			l.heard.opened(name, producerNumber{l.client, id})
		}
	}
	if subscription, ok := fields["subscription"].(string); ok {
		l.subscription = subscription
	}
	if id, ok := fields["msgID"].(interface {
		GetLedgerId() uint64
		GetEntryId() uint64
	}); ok {
		l.entry = place{int64(id.GetLedgerId()), int64(id.GetEntryId())} //nolint:gosec // the protocol's numbers, which are Java's
	}
	if invalid, ok := fields["validationError"].(fmt.Stringer); ok {
		l.invalid = invalid.String()
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
			l.heard.limited(int64(size))
			l.heard.setProblem("")
		}
	}
}

// Debugf looks at each command that comes, for the one that refuses a batch.
func (l clientLogger) Debugf(format string, args ...any) {
	if format != lineReceived || len(args) == 0 {
		return
	}
	command, ok := args[0].(proto.Message)
	if !ok {
		return
	}
	m := command.ProtoReflect()
	if refused := m.Descriptor().Fields().ByName("send_error"); refused == nil || !m.Has(refused) {
		return
	}
	if c, err := readCommand(command); err == nil && c.Refused != nil {
		l.heard.refused(producerNumber{l.client, c.Refused.ProducerID}, c.Refused.Error+": "+c.Refused.Message)
	}
}

func (l clientLogger) Info(args ...any)               { l.emit(zerolog.TraceLevel, args) }
func (l clientLogger) Infof(format string, a ...any)  { l.emitf(zerolog.TraceLevel, format, a) }
func (l clientLogger) Errorf(format string, a ...any) { l.emitf(zerolog.DebugLevel, format, a) }

// Error notes an entry that is not given to its reader for what was written there: its bytes are those of its writer, unless the checksum says otherwise.
func (l clientLogger) Error(args ...any) {
	if len(args) == 1 && args[0] == lineDiscarded && l.invalid != "ChecksumMismatch" {
		l.heard.drop(l.subscription, l.entry)
	}
	l.emit(zerolog.DebugLevel, args)
}

func (l clientLogger) Warn(args ...any) {
	if len(args) == 1 {
		if line, ok := args[0].(string); ok && linesConnectFailed[line] && l.err != nil {
			l.heard.setProblem(strings.TrimSpace(line) + ": " + l.err.Error())
		}
	}
	l.emit(zerolog.DebugLevel, args)
}

func (l clientLogger) Warnf(format string, a ...any) {
	if format == lineHandshakeRefused {
		l.heard.setProblem(fmt.Sprintf(format, a...))
	}
	if _, chunk, ok := strings.Cut(format, lineUnexpectedChunk); ok { // made into one text before
		var at place
		if _, err := fmt.Sscanf(chunk, "%d:%d:", &at.ledger, &at.entry); err == nil {
			l.heard.drop(l.subscription, at)
		}
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
