package pulsar

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/sink"
)

// clientOverhead is about what the client holds for a message besides its bytes, in bytes: its metadata twice, one small object a
// property.
const clientOverhead = 2 << 10

// busyStall is how many times AckStall one entry may take while others are acknowledged.
const busyStall = 3

// sendEntry sends the messages as one broker entry of at most size bytes and waits for its acknowledgement. It returns how
// many landed for certain: all, unless there is an error.
func (s *Sink) sendEntry(ctx context.Context, p *producer, messages []*sink.Message, size int) (int, *sink.Error) {
	bytes := min(int64(size+len(messages)*clientOverhead), s.cfg.PendingBytes)
	if err := s.pending.Acquire(ctx, bytes); err != nil {
		return 0, known(sink.Unavailable, fmt.Errorf("wait for memory: %w", err))
	}
	defer s.pending.Release(bytes)
	s.noteEntry(p, int64(size))

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.lost, func() { cancel(context.Cause(p.lost)) })()
	defer s.watchStall(cancel)()

	e := newEntry(messages)
	err := e.send(ctx, p)
	if err == nil {
		e.release()
		s.lastAck.Store(time.Now().UnixNano())
		p.client.hears()
		return len(messages), nil
	}
	failed := sendError(ctx, err, len(messages))
	if text := s.heard.refusalOf(p.Name()); text != "" && (errors.Is(failed, errStalled) || errors.Is(failed, errLost)) {
		s.refused(p, text, size, len(messages), failed)
	}
	return 0, failed
}

// refused adds to an entry's error what the broker has refused it with: the client then lets it wait, or closes the connection. When it is the size, which a namespace or topic
// can limit below the broker's own limit, the topic's entries become smaller, until a single message is refused a second time.
func (s *Sink) refused(p *producer, text string, size, messages int, failed *sink.Error) {
	failed.Err = fmt.Errorf("%w: the broker has refused the batch: %s", failed.Err, text)
	if !strings.Contains(text, "Exceed maximum message size") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, again := s.producers.entryLimit[p.topic]; again && messages == 1 && size <= before {
		failed.Class = sink.Rejected
		return
	}
	if messages > 1 {
		size /= refusedShrink
	}
	s.producers.entryLimit[p.topic] = size
}

// refusedShrink is by how much entries become smaller when the broker refuses one for its size. Each try costs AckStall.
const refusedShrink = 4

// sendError says what is known after a failed entry. Only one failure proves that nothing left the process: a batch
// that the client found too large while it serialized it.
func sendError(ctx context.Context, err error, messages int) *sink.Error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if containsAny(err.Error(), rejectedTexts) && messages == 1 {
		return known(sink.Rejected, err)
	}
	class := classOf(err)
	switch {
	case class == sink.Rejected:
		class = sink.Retry // one of several, and it is not known which
	case errors.Is(err, context.DeadlineExceeded):
		class = sink.Unavailable
	}
	return &sink.Error{Class: class, Err: err}
}

// watchStall cancels when acknowledgements have stood still for AckStall: all of them, or this one for three times as
// long. The function that it returns ends the watch.
func (s *Sink) watchStall(cancel context.CancelCauseFunc) (stop func()) {
	began := time.Now()
	var mu sync.Mutex // the timer's function runs before t is set
	var t *time.Timer
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(s.cfg.AckStall, func() {
		mu.Lock()
		defer mu.Unlock()
		quiet := time.Since(time.Unix(0, max(s.lastAck.Load(), began.UnixNano())))
		if quiet >= s.cfg.AckStall || time.Since(began) >= busyStall*s.cfg.AckStall {
			cancel(fmt.Errorf("%w for %s", errStalled, time.Since(began).Round(time.Millisecond)))
			return
		}
		t.Reset(s.cfg.AckStall - quiet)
	})
	return func() { t.Stop() }
}

// entry is a batch in the client's form. It owns its bytes: after an unknown fate the client may still read them
// when the caller's are used again.
type entry struct {
	messages   []client.ProducerMessage
	properties []map[string]string // of the messages, and empty ones from larger batches

	mu     sync.Mutex
	failed error // the first error of any message; guarded by mu
}

// entries are those whose acknowledgement has come: the client reads them no more, and a map for each message is most of what an entry is made of.
var entries = sync.Pool{New: func() any { return new(entry) }}

// release lets the entry be used again. Only one that landed for certain may be.
func (e *entry) release() {
	for i := range e.messages {
		clear(e.properties[i])
	}
	clear(e.messages)
	entries.Put(e)
}

func newEntry(messages []*sink.Message) *entry {
	var textBytes, bodyBytes int
	for _, m := range messages {
		textBytes += m.Size() - len(m.Body)
		bodyBytes += len(m.Body)
	}
	e := entries.Get().(*entry)
	e.messages = slices.Grow(e.messages[:0], len(messages))[:len(messages)]
	var texts strings.Builder
	texts.Grow(textBytes)
	bodies := make([]byte, 0, bodyBytes)
	text := func(b []byte) string {
		from := texts.Len()
		texts.Write(b)
		return texts.String()[from:]
	}
	for i, m := range messages {
		from := len(bodies)
		bodies = append(bodies, m.Body...)
		if i == len(e.properties) {
			e.properties = append(e.properties, make(map[string]string, len(m.Headers)))
		}
		properties := e.properties[i]
		for _, h := range m.Headers {
			properties[h.Name] = text(h.Value)
		}
		e.messages[i] = client.ProducerMessage{
			Payload:    bodies[from:len(bodies):len(bodies)], // never nil, which would be a tombstone
			Key:        text(m.Key),
			Properties: properties,
			EventTime:  eventTime(m.EventTime),
		}
	}
	return e
}

// eventTime is the time that a message gets: none where Pulsar's milliseconds since 1970, or the client's nanoseconds, cannot say it.
func eventTime(t time.Time) time.Time {
	if t.Before(time.UnixMilli(1)) || t.After(time.Unix(0, math.MaxInt64)) {
		return time.Time{}
	}
	return t
}

// send hands all messages to the client and waits until the last is acknowledged, which is after the others: they are
// in one entry. The last is sent with Send, because it is what makes the client send the batch at once.
func (e *entry) send(ctx context.Context, p client.Producer) error {
	last := len(e.messages) - 1
	for i := range last {
		p.SendAsync(ctx, &e.messages[i], e.done)
		if err := e.err(); err != nil {
			return err
		}
	}
	if _, err := p.Send(ctx, &e.messages[last]); err != nil {
		return errors.Join(e.err(), err)
	}
	return e.err()
}

// done is a message's callback. It may run on the connection's own goroutine and under the client's locks, so it
// only keeps the error.
func (e *entry) done(_ client.MessageID, _ *client.ProducerMessage, err error) {
	if err == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed == nil {
		e.failed = err
	}
}

func (e *entry) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed
}
