package sinktest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/sink"
)

// numbered returns the messages from..to (inclusive) for the destination: number i has the id "event-i" and
// stands at position 7:0/i:1.
func numbered(destination string, from, to int) []sink.Message {
	batch := make([]sink.Message, 0, to-from+1)
	for i := from; i <= to; i++ {
		batch = append(batch, message(destination, i, []byte(fmt.Sprintf(`{"number": %d}`, i))))
	}
	return batch
}

func message(destination string, i int, body []byte) sink.Message {
	return sink.Message{
		Destination: destination,
		Key:         []byte(fmt.Sprintf("acme/order/%d", i%5)),
		Headers: []sink.Header{
			{Name: sink.HeaderID, Value: []byte(id(i))},
			{Name: "tenant_id", Value: []byte("acme")},
			{Name: sink.HeaderPosition, Value: []byte(position(i).String())},
		},
		Body: body,
	}
}

func id(i int) string { return fmt.Sprintf("event-%d", i) }

func position(i int) event.Position {
	return event.Position{Epoch: 7, Commit: event.LSN(i), Ordinal: 1}
}

func ids(from, to int) []string {
	var all []string
	for i := from; i <= to; i++ {
		all = append(all, id(i))
	}
	return all
}

// holds fails the test unless the destination holds exactly the messages from..to, once each and in order.
func (h *Harness) holds(t testing.TB, destination string, from, to int) {
	t.Helper()
	var got []string
	for _, m := range h.Read(t, destination) {
		got = append(got, m.ID())
	}
	diff(t, "ids of "+destination, got, ids(from, to))
}

// diff fails the test with the first difference between two lists.
func diff(t testing.TB, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: got %d, want %d; number %d is %q, want %q", what, len(got), len(want), i, got[i], want[i])
		}
	}
	t.Fatalf("%s: got %d, want %d; the shorter one is the beginning of the other", what, len(got), len(want))
}

func entryIDs(entries []sink.Entry) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.ID
	}
	return all
}
