package sinktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// start returns a fresh sink and a fresh destination whose tail was read.
func (s *suite) start(t *testing.T) (*client, string) {
	t.Helper()
	c := s.h.open(t)
	destination := s.h.Destination(t)
	c.mustTail(t, destination, 1)
	return c, destination
}

func (s *suite) messagesLandInOrder(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 1))
	c.mustPublish(t, numbered(destination, 2, 40))
	c.mustPublish(t, numbered(destination, 41, 55))
	s.h.holds(t, destination, 1, 55)
}

func (s *suite) oneBatchHoldsSeveralDestinations(t *testing.T) {
	c := s.h.open(t)
	var destinations []string
	for range 5 {
		d := s.h.Destination(t)
		c.mustTail(t, d, 1)
		destinations = append(destinations, d)
	}
	for round := range 3 {
		var batch []sink.Message
		for i := round*20 + 1; i <= round*20+20; i++ {
			for _, d := range destinations {
				batch = append(batch, numbered(d, i, i)...)
			}
		}
		c.mustPublish(t, batch)
	}
	for _, d := range destinations {
		s.h.holds(t, d, 1, 60)
	}
}

func (s *suite) lanesPublishAtOnce(t *testing.T) {
	const lanes, rounds, each = 8, 10, 20
	c := s.h.open(t)
	var destinations []string
	for range lanes {
		destinations = append(destinations, s.h.Destination(t))
	}
	var wait sync.WaitGroup
	for _, d := range destinations {
		wait.Go(func() {
			if _, err := c.tail(t, d, 1); err != nil {
				t.Errorf("tail of %s: %v", d, err)
				return
			}
			for round := range rounds {
				if err := first(c.publish(t, numbered(d, round*each+1, round*each+each))); err != nil {
					t.Errorf("publish to %s: %v", d, err)
					return
				}
			}
		})
	}
	wait.Wait()
	for _, d := range destinations {
		s.h.holds(t, d, 1, rounds*each)
	}
}

func (s *suite) largestBatchLandsAtOnce(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, sink.MaxBatch))
	c.mustPublish(t, numbered(destination, sink.MaxBatch+1, 2*sink.MaxBatch))
	s.h.holds(t, destination, 1, 2*sink.MaxBatch)
	if s.h.WriteOnly {
		return
	}
	entries := c.mustTail(t, destination, sink.MaxBatch)
	if len(entries) < sink.MaxBatch {
		t.Fatalf("tail returned %d entries, want at least %d", len(entries), sink.MaxBatch)
	}
	newest := entryIDs(entries[len(entries)-sink.MaxBatch:])
	diff(t, "tail", newest, ids(sink.MaxBatch+1, 2*sink.MaxBatch))
}

func (s *suite) contentArrivesAsItWas(t *testing.T) {
	c, destination := s.start(t)
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	bodies := [][]byte{{}, []byte("{}"), []byte(`{"name": "Zoë 🐘"}`), bytes.Repeat([]byte("x"), 100_000)}
	if !s.h.TextOnly {
		bodies = append(bodies, everyByte)
	}
	var batch []sink.Message
	for i, body := range bodies {
		m := message(destination, i+1, body)
		m.EventTime = time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC)
		m.Headers = append(m.Headers,
			sink.Header{Name: "metadata", Value: []byte(`{"café":"\u00fc 東京 \"quoted\"\n"}`)},
			sink.Header{Name: "aggregate_id", Value: []byte("naïve/%2F 🐘")})
		batch = append(batch, m)
	}
	c.mustPublish(t, batch)
	got := s.h.Read(t, destination)
	if len(got) != len(batch) {
		t.Fatalf("%d messages landed, want %d", len(got), len(batch))
	}
	for i, m := range got {
		if !bytes.Equal(m.Body, bodies[i]) {
			t.Errorf("body %d: got %.80q, want %.80q", i, m.Body, bodies[i])
		}
		want := make(map[string]string)
		for _, header := range batch[i].Headers {
			want[header.Name] = string(header.Value)
		}
		if !maps.Equal(m.Headers, want) {
			t.Errorf("headers %d: got %q, want %q", i, m.Headers, want)
		}
	}
}

func (s *suite) emptyBatchIsAccepted(t *testing.T) {
	c := s.h.open(t)
	if results := c.publish(t, nil); results != nil {
		t.Fatalf("publish of nothing returned %v", results)
	}
}

// nothingLandsBehindARejectedMessage publishes a batch with one message that is refused. History 7 of the protocol.
func (s *suite) nothingLandsBehindARejectedMessage(t *testing.T) {
	c, destination := s.start(t)
	other := s.h.Destination(t)
	c.mustTail(t, other, 1)

	batch := numbered(destination, 1, 9)
	batch[4] = message(destination, 5, bytes.Repeat([]byte("x"), s.h.TooLarge))
	batch = append(batch, numbered(other, 1, 3)...)
	results := c.publish(t, batch)
	if results == nil {
		t.Fatal("a message that is too large was accepted")
	}
	for i, err := range results {
		if accepted := i < 4 || i > 8; accepted != (err == nil) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if err := results[4]; sink.ClassOf(err) != sink.Rejected || !sink.FateKnown(err) {
		t.Errorf("class %s, fate known %v, want rejected and known: %v", sink.ClassOf(err), sink.FateKnown(err), err)
	}
	for i := 5; i < 9; i++ {
		if !errors.Is(results[i], sink.ErrNotAttempted) {
			t.Errorf("message %d behind the rejected one: %v, want ErrNotAttempted", i, results[i])
		}
	}
	s.h.holds(t, destination, 1, 4)
	s.h.holds(t, other, 1, 3)

	c.mustPublish(t, numbered(destination, 5, 9)) // the fate was known, so no tail is needed
	s.h.holds(t, destination, 1, 9)
}

func (s *suite) publishBeforeTailIsRefused(t *testing.T) {
	c := s.h.open(t)
	destination := s.h.Destination(t)
	refused(t, c.publish(t, numbered(destination, 1, 3)))
	s.h.landed(t, c, destination, 0)

	c.mustPublish(t, numbered(destination, 1, 3)) // landed has read the tail
	second := s.h.open(t)
	refused(t, second.publish(t, numbered(destination, 4, 5)))
	s.h.holds(t, destination, 1, 3)
}

func (s *suite) publishAfterAnUnknownFateIsRefused(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 2))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	results := c.sink.Publish(ctx, numbered(destination, 3, 4))
	if first(results) == nil {
		t.Fatalf("publish with a context that has ended: %v", results)
	}
	if sink.FateKnown(results[0]) {
		c.mustPublish(t, numbered(destination, 3, 4))
		s.h.holds(t, destination, 1, 4)
		return
	}
	refused(t, c.publish(t, numbered(destination, 3, 4)))
	l := lane{c: c, destination: destination}
	l.read(t)
	if l.landed != 2 && l.landed != 4 {
		t.Fatalf("the tail ends at %d, want 2 or 4", l.landed)
	}
	l.publish(t, 3, 6)
	s.h.holds(t, destination, 1, 6)
}

// refused fails the test unless every message was refused in a way that makes the lane read the tail.
func refused(t testing.TB, results []error) {
	t.Helper()
	if results == nil {
		t.Fatal("publish was accepted")
	}
	for i, err := range results {
		if err == nil {
			t.Fatalf("message %d was accepted", i)
		}
	}
	if err := results[0]; sink.FateKnown(err) || sink.ClassOf(err) == sink.Rejected {
		t.Fatalf("fate known %v, class %s; want an unknown fate, so that the tail is read: %v",
			sink.FateKnown(err), sink.ClassOf(err), err)
	}
}

// landed fails the test unless the tail says that the messages 1..n have landed, and the server holds them.
func (h *Harness) landed(t testing.TB, c *client, destination string, n int) {
	t.Helper()
	entries := c.mustTail(t, destination, sink.MaxBatch)
	diff(t, fmt.Sprintf("tail of %s", destination), entryIDs(entries), ids(1, n))
	if n > 0 { // reading a missing destination may be an error
		h.holds(t, destination, 1, n)
	}
}
