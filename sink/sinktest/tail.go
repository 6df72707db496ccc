package sinktest

import (
	"testing"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/sink"
)

func (s *suite) tailOfAnEmptyDestinationIsEmpty(t *testing.T) {
	c := s.h.open(t)
	destination := s.h.Destination(t)
	for range 2 { // the first tail may have created it
		if entries := c.mustTail(t, destination, 10); len(entries) > 0 {
			t.Fatalf("tail of an empty destination: %v", entries)
		}
	}
	c.mustPublish(t, numbered(destination, 1, 3))
	s.h.holds(t, destination, 1, 3)
}

func (s *suite) tailReturnsTheNewestEntries(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 70)) // one batch
	c.mustPublish(t, numbered(destination, 71, 71))
	c.mustPublish(t, numbered(destination, 72, 100))
	for _, reader := range []*client{c, s.h.open(t)} {
		for _, n := range []int{1, 2, 29, 30, 40, 100, 1000} {
			entries := reader.mustTail(t, destination, n)
			if len(entries) < min(n, 100) || len(entries) > 100 {
				t.Fatalf("tail of %d returned %d entries", n, len(entries))
			}
			first := 100 - len(entries) + 1
			diff(t, "tail", entryIDs(entries), ids(first, 100))
			for i, e := range entries {
				want := sink.Entry{ID: id(first + i), Position: position(first + i)}
				if e != want {
					t.Fatalf("entry %d: got %+v, want %+v", i, e, want)
				}
			}
		}
	}
	c = s.h.open(t) // the last to fence
	c.mustTail(t, destination, 1)
	c.mustPublish(t, numbered(destination, 101, 102))
	s.h.holds(t, destination, 1, 102)
}

func (s *suite) tailReadsFrontierAndReplay(t *testing.T) {
	c, destination := s.start(t)
	batch := numbered(destination, 1, 3)
	batch[1].Headers = append(batch[1].Headers, sink.Header{Name: sink.HeaderFrontier, Value: []byte("7:1/A0:12")})
	batch[2].Headers = append(batch[2].Headers,
		sink.Header{Name: sink.HeaderFrontier, Value: []byte("7:1/A1:1")},
		sink.Header{Name: sink.HeaderReplay, Value: []byte("3")},
		sink.Header{Name: "metadata", Value: []byte(`{"id": "not the id", "position": "nor the position"}`)})
	c.mustPublish(t, batch)
	want := []sink.Entry{
		{ID: id(1), Position: position(1)},
		{ID: id(2), Position: position(2), Frontier: event.Position{Epoch: 7, Commit: 0x1000000A0, Ordinal: 12}},
		{ID: id(3), Position: position(3), Frontier: event.Position{Epoch: 7, Commit: 0x1000000A1, Ordinal: 1}, Replay: 3},
	}
	got := c.mustTail(t, destination, 3)
	if len(got) != len(want) {
		t.Fatalf("tail returned %d entries, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("entry %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}

func (s *suite) tailPassesOverForeignEntries(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 2))
	s.h.Append(t, destination, "")

	entries := s.h.open(t).mustTail(t, destination, 10)
	if len(entries) != 3 {
		t.Fatalf("tail returned %d entries, want 3", len(entries))
	}
	diff(t, "tail", entryIDs(entries), []string{id(1), id(2), ""})
	if e := entries[2]; e != (sink.Entry{}) {
		t.Fatalf("entry of somebody else: %+v, want zero", e)
	}
}

// foreignEntryWithOurIDIsNoneOfOurs has somebody else write what bears the id of an event that has not landed: by the tail it would count as delivered.
func (s *suite) foreignEntryWithOurIDIsNoneOfOurs(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 2))
	s.h.Append(t, destination, id(3))
	entries := s.h.open(t).mustTail(t, destination, sink.MaxBatch)
	if len(entries) != 3 || entries[2] != (sink.Entry{}) {
		t.Fatalf("tail %+v, want ours and a zero entry", entries)
	}
}

func (s *suite) foreignWriterDoesNotStopTheStream(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 2))
	s.h.Append(t, destination, "")
	l := lane{c: c, destination: destination}
	l.publish(t, 3, 5) // may be refused first, with an unknown fate
	var ours []string
	for _, m := range s.h.Read(t, destination) {
		if m.ID() != "" {
			ours = append(ours, m.ID())
		}
	}
	diff(t, "ids", ours, ids(1, 5))
}

func (s *suite) partitionsAreDestinationsOfTheirOwn(t *testing.T) {
	c := s.h.open(t)
	p, ok := c.sink.(sink.Partitioner)
	if !ok {
		t.Fatalf("%T is no sink.Partitioner", c.sink)
	}
	single := s.h.Destination(t)
	names, err := p.Partitions(t.Context(), single)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "partitions of an unpartitioned destination", names, []string{single})

	names, err = p.Partitions(t.Context(), s.h.Partitioned(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 2 {
		t.Fatalf("partitions: %q, want several", names)
	}
	for i, name := range names {
		if entries := c.mustTail(t, name, 5); len(entries) > 0 {
			t.Fatalf("tail of an empty partition: %v", entries)
		}
		c.mustPublish(t, numbered(name, 1, i+1))
	}
	fresh := s.h.open(t)
	for i, name := range names {
		s.h.landed(t, fresh, name, i+1)
	}
	for _, key := range []string{"", "acme/order/1", "acme/order/2"} {
		if n := p.Partition([]byte(key), len(names)); n < 0 || n >= len(names) {
			t.Errorf("partition of %q: %d of %d", key, n, len(names))
		}
	}
}
