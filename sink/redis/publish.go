package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// Publish appends by scripts, each stream's messages by one of them, and all of a server in one round trip.
func (s *Sink) Publish(ctx context.Context, batch []sink.Message) []error {
	if len(batch) == 0 {
		return nil
	}
	ctx, done := s.begin(ctx)
	defer done()
	c := s.newCall()
	defer s.release(c)
	c.asked = time.Now()
	c.split(batch)
	for i := range c.streams {
		s.prepare(c, &c.streams[i])
	}
	s.send(ctx, c)
	why := s.gone(ctx, c.lostConnection())
	for i := range c.streams {
		s.finish(c, &c.streams[i], why)
	}
	return c.results
}

// lostConnection returns the error of a stream whose connection failed, nil when there is none.
func (c *call) lostConnection() error {
	for i := range c.streams {
		if err := c.streams[i].err; err != nil && isNetwork(err) {
			return err
		}
	}
	return nil
}

// call is one Publish: the streams of its batch, and memory that the next call uses again.
type call struct {
	asked   time.Time // when it began
	batch   []sink.Message
	next    []int // next[i] is the index of the message after i in the same stream, or -1
	streams []stream
	index   map[string]int  // destination to stream
	shapes  [][]sink.Header // of the script that is being made
	shapeOf []int           // of a script's messages, in their order
	args    []any
	results []error // nil while no message has failed

	transaction transaction
}

// stream is the part of a batch that goes to one stream.
type stream struct {
	name        string
	first, last int // indices of the batch
	count       int // how many of the messages are sent: those before the first that cannot be
	bytes       int // of those
	expected    end
	next        string // the id of the first message: the one behind expected. "" where the script compares
	cut         error  // why the message after the sent ones was not sent, if there is one

	end string // the stream's new end, once everything sent has landed
	err error  // why the sent messages have not landed, or may not have
	ok  int    // how many of the sent have landed all the same
}

// split finds the streams of the batch.
func (c *call) split(batch []sink.Message) {
	c.batch = batch
	current := -1
	for i := range batch {
		c.next = append(c.next, -1)
		name := batch[i].Destination
		if current < 0 || c.streams[current].name != name {
			at, known := c.index[name]
			if !known {
				at = len(c.streams)
				c.index[name] = at
				c.streams = append(c.streams, stream{name: name, first: i, last: -1})
			}
			current = at
		}
		st := &c.streams[current]
		if st.last >= 0 {
			c.next[st.last] = i
		}
		st.last = i
		st.count++
	}
}

// callsKept is of how many calls the memory is used again: some 300 KB each, where they have appended 500 messages by a transaction.
const callsKept = 16

func (s *Sink) newCall() *call {
	select {
	case c := <-s.calls:
		return c
	default:
		return &call{index: make(map[string]int)}
	}
}

func (s *Sink) release(c *call) {
	clear(c.args) // they point into the batch
	clear(c.shapes[:cap(c.shapes)])
	clear(c.streams)
	clear(c.index)
	c.batch, c.results = nil, nil
	c.next, c.streams, c.args = c.next[:0], c.streams[:0], c.args[:0]
	select {
	case s.calls <- c:
	default:
	}
}

// prepare decides what of the stream can be sent.
func (s *Sink) prepare(c *call, st *stream) {
	var known bool
	if st.expected, known = s.ends.take(st.name); !known {
		st.count, st.cut = 0, s.fail("append to", st.name, sink.ErrTailUnread)
		return
	}
	n := 0
	for i := st.first; i >= 0; i = c.next[i] {
		size := c.batch[i].Size()
		if err := s.checkSize(&c.batch[i], size); err != nil {
			st.count, st.cut = n, err
			break
		}
		st.bytes += size
		n++
	}
}

// checkSize rejects what the server would cut the connection for.
func (s *Sink) checkSize(m *sink.Message, size int) error {
	limit := s.cfg.MaxMessageBytes
	if bulk := int(s.bulkLimit.Load()); bulk > 0 {
		limit = min(limit, bulk)
	}
	if size <= limit {
		return nil
	}
	return &sink.Error{Class: sink.Rejected, FateKnown: true, Err: fmt.Errorf(
		"append to stream %q: the message has %d bytes, the limit is %d (max_message_bytes, and the server's proto-max-bulk-len)",
		m.Destination, size, limit)}
}

// finish remembers the stream's end if it is known, and gives the messages their results. gone is why the server takes no new connection, nil where it does.
func (s *Sink) finish(c *call, st *stream, gone error) {
	err := st.cut
	switch {
	case st.err != nil:
		failed := s.fail("append to", st.name, st.err)
		if gone != nil && isNetwork(st.err) {
			s.blameBroker(failed, gone)
		}
		if failed.FateKnown {
			s.ends.put(st.name, st.expected)
		}
		err = failed
	case st.count > 0:
		s.ends.put(st.name, st.expected.moved(st.end, c.asked))
	case !errors.Is(err, sink.ErrTailUnread):
		s.ends.put(st.name, st.expected)
	}
	if err == nil {
		return
	}
	if c.results == nil {
		c.results = make([]error, len(c.batch))
	}
	n := 0
	for i := st.first; i >= 0; i = c.next[i] {
		switch {
		case n == st.ok:
			c.results[i] = err
		case n > st.ok:
			c.results[i] = sink.ErrNotAttempted
		}
		n++
	}
}
