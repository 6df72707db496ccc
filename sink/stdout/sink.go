package stdout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tidwall/gjson"

	"github.com/outboxd/outboxd/sink"
)

// writeBytes is about how much is written at once.
const writeBytes = 64 << 10

// Sink writes JSON lines. It is a sink.Sink.
type Sink struct {
	w    io.Writer
	turn chan *bytes.Buffer // holds the one buffer while nobody writes
}

var _ sink.Sink = (*Sink)(nil)

// New returns a sink that writes to w, usually os.Stdout. It is the only writer of w and does not close it.
func New(w io.Writer) *Sink {
	s := &Sink{w: w, turn: make(chan *bytes.Buffer, 1)}
	s.turn <- new(bytes.Buffer)
	return s
}

// Publish writes the messages, one line each. It waits for its turn and for the reader of the pipe, as long as ctx lasts.
func (s *Sink) Publish(ctx context.Context, batch []sink.Message) []error {
	for from := 0; from < len(batch); {
		var buf *bytes.Buffer
		select {
		case buf = <-s.turn:
		case <-ctx.Done():
			return failed(batch, from, context.Cause(ctx))
		}
		buf.Reset()
		to := from
		for to < len(batch) && buf.Len() < writeBytes {
			buf.Write(appendLine(buf.AvailableBuffer(), &batch[to]))
			to++
		}
		if err := s.write(ctx, buf); err != nil {
			return failed(batch, from, err)
		}
		from = to
	}
	return nil
}

// write writes the buffer and gives up the turn. A blocked write cannot be taken back, so it goes on when ctx ends, and keeps
// the turn.
func (s *Sink) write(ctx context.Context, buf *bytes.Buffer) error {
	written := make(chan error, 1)
	go func() {
		_, err := s.w.Write(buf.Bytes())
		s.turn <- buf
		written <- err
	}()
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// failed returns the results when the messages from that index on were not written, or not all of them. One write holds
// several destinations: each has an unknown fate of its own.
func failed(batch []sink.Message, from int, cause error) []error {
	class := sink.Unavailable
	if errors.Is(cause, context.Canceled) {
		class = sink.Retry
	}
	err := &sink.Error{Class: class, Err: fmt.Errorf("write to standard output: %w", cause)}
	results := make([]error, len(batch))
	for i := from; i < len(batch); i++ {
		results[i] = err
	}
	return results
}

// Tail returns nothing: what was written cannot be read back.
func (s *Sink) Tail(context.Context, string, int) ([]sink.Entry, error) { return nil, nil }

// Probe returns nil: only a write can tell whether somebody reads.
func (s *Sink) Probe(context.Context, string) error { return nil }

// Close returns nil. The writer stays open.
func (s *Sink) Close(context.Context) error { return nil }

func appendLine(b []byte, m *sink.Message) []byte {
	b = append(b, `{"destination":`...)
	b = gjson.AppendJSONString(b, m.Destination)
	b = append(b, `,"key":`...)
	b = gjson.AppendJSONString(b, string(m.Key))
	b = append(b, `,"headers":{`...)
	for i, h := range m.Headers {
		if i > 0 {
			b = append(b, ',')
		}
		b = gjson.AppendJSONString(b, h.Name)
		b = append(b, ':')
		b = gjson.AppendJSONString(b, string(h.Value))
	}
	b = append(b, `},"body":`...)
	b = appendBody(b, m.Body)
	return append(b, '}', '\n')
}

// appendBody embeds a body: JSON as it is but on one line, anything else as a JSON string.
func appendBody(b, body []byte) []byte {
	switch {
	case !gjson.ValidBytes(body):
		return gjson.AppendJSONString(b, string(body))
	case bytes.IndexByte(body, '\n') < 0:
		return append(b, body...)
	}
	for _, c := range body { // JSON has line breaks between its tokens only
		if c == '\n' || c == '\r' {
			c = ' '
		}
		b = append(b, c)
	}
	return b
}
