package sinktest

import (
	"context"
	"testing"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// Harness is one kind of sink with the server behind it. New, Destination and Read must be set.
type Harness struct {
	// New returns a fresh client of the server, as after a restart of the process. The suite closes it.
	New func(t testing.TB) sink.Sink

	// Destination returns the full name of a destination that holds nothing and that no test has used. It need
	// not exist; the first Tail or Publish may create it.
	Destination func(t testing.TB) string

	// Read returns everything that the destination holds, oldest first.
	Read func(t testing.TB, destination string) []Message

	// WriteOnly says that the sink cannot read back what it wrote: its Tail returns nothing, no publish is refused, and the
	// tests that need a tail are not run.
	WriteOnly bool

	// TextOnly says that a body which is not UTF-8 does not arrive as it was.
	TextOnly bool

	// Unfenced says that a late batch of an older process can land behind a tail that was read: the fence is not tested.
	Unfenced bool

	// Clustered says that the broker is several servers, so that what one of them says is never said of the whole broker.
	Clustered bool

	// Partitioned returns a fresh destination that stands for at least two others. The sink is then a sink.Partitioner.
	Partitioned func(t testing.TB) string

	// Append writes an entry that is none of ours: without a position, and with the id where it is not "".
	Append func(t testing.TB, destination, id string)

	// TooLarge is the size in bytes of a body that the sink or the server rejects; 0 when there is none.
	TooLarge int

	// Missing returns a name that can be no destination because something that it lies in does not exist, and
	// that is not created by use.
	Missing func(t testing.TB) string

	// WrongCredentials returns a sink that the server turns away.
	WrongCredentials func(t testing.TB) Intruder

	// Unreachable returns a sink whose server does not listen.
	Unreachable func(t testing.TB) sink.Sink

	// Freeze stops the server from answering, as SIGSTOP does, until thaw is called. It returns when the server stands still.
	Freeze func(t testing.TB) (thaw func())

	// Kill ends the server with SIGKILL; Start runs it again on the same data and address and returns when it
	// answers. It must keep what it acknowledged.
	Kill  func(t testing.TB)
	Start func(t testing.TB)
	// Kills is how often the test of a killed server kills it; 0 means 3.
	Kills int

	// Patience bounds each call of the sink and each wait for a condition; 0 means 30 s.
	Patience time.Duration
}

// Message is what a server holds of one message.
type Message struct {
	Headers map[string]string
	Body    []byte
}

// ID returns the id header.
func (m Message) ID() string { return m.Headers[sink.HeaderID] }

// Intruder is a sink with credentials that the server does not accept.
type Intruder struct {
	Sink        sink.Sink
	Destination string
	Secrets     []string // what no error may show
}

func (h *Harness) patience() time.Duration {
	if h.Patience > 0 {
		return h.Patience
	}
	return 30 * time.Second
}

// open returns a fresh sink that is closed when the test ends.
func (h *Harness) open(t testing.TB) *client {
	t.Helper()
	s := h.New(t)
	c := &client{h: h, sink: s}
	t.Cleanup(func() { c.close(t) })
	return c
}

// client calls a sink with deadlines and fails the test on what a test does not expect.
type client struct {
	h      *Harness
	sink   sink.Sink
	closed bool
}

func (c *client) close(t testing.TB) {
	t.Helper()
	if c.closed {
		return
	}
	c.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), c.h.patience()) // t.Context is over in a cleanup
	defer cancel()
	if err := c.sink.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func (c *client) publish(t testing.TB, batch []sink.Message) []error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), c.h.patience())
	defer cancel()
	results := c.sink.Publish(ctx, batch)
	if results != nil && len(results) != len(batch) {
		t.Fatalf("publish returned %d results for %d messages", len(results), len(batch))
	}
	return results
}

func (c *client) mustPublish(t testing.TB, batch []sink.Message) {
	t.Helper()
	for i, err := range c.publish(t, batch) {
		if err != nil {
			t.Fatalf("publish message %d of %d: %v", i, len(batch), err)
		}
	}
}

func (c *client) tail(t testing.TB, destination string, n int) ([]sink.Entry, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), c.h.patience())
	defer cancel()
	return c.sink.Tail(ctx, destination, n)
}

func (c *client) mustTail(t testing.TB, destination string, n int) []sink.Entry {
	t.Helper()
	entries, err := c.tail(t, destination, n)
	if err != nil {
		t.Fatalf("tail of %s: %v", destination, err)
	}
	return entries
}

func (c *client) probe(t testing.TB, destination string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), c.h.patience())
	defer cancel()
	return c.sink.Probe(ctx, destination)
}
