package redis_test

import (
	"errors"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

// A consumer that deletes what it has read is common; the last entry's id would then no longer tell that another instance wrote.
func TestLateBatchIsRefusedThoughTheEndWasDeleted(t *testing.T) {
	older, c, stream := setup(t, redis.Config{})
	mustPublish(t, older, batch(stream, 1, 2))

	newer := opened(t, redis.Config{URL: testenv.Redis(t).URL})
	mustTail(t, newer, stream)
	mustPublish(t, newer, batch(stream, 3, 4))
	deleteAfter(t, c, stream, 2)
	wantIDs(t, c, stream, 1, 2)

	results := older.Publish(t.Context(), batch(stream, 3, 4))
	if results == nil || results[0] == nil || sink.FateKnown(results[0]) {
		t.Fatalf("results %v, want refused with an unknown fate", results)
	}
	wantIDs(t, c, stream, 1, 2)
	mustPublish(t, newer, batch(stream, 5, 5))
}

// Whoever else appends makes the tail be read again, and is no failure of the stream.
func TestSecondWriterCostsALookAtTheTail(t *testing.T) {
	s, c, stream := setup(t, redis.Config{})
	mustPublish(t, s, batch(stream, 1, 2))
	if err := c.XAdd(t.Context(), &goredis.XAddArgs{Stream: stream, Values: []string{"id", "3"}}).Err(); err != nil {
		t.Fatal(err)
	}
	results := s.Publish(t.Context(), batch(stream, 4, 5))
	if results == nil || !errors.Is(results[0], sink.ErrTailUnread) || sink.FateKnown(results[0]) || !strings.Contains(results[0].Error(), "FENCED") {
		t.Fatalf("results %v, want ErrTailUnread with an unknown fate, and the server's word", results)
	}
	mustTail(t, s, stream)
	mustPublish(t, s, batch(stream, 4, 5))
	wantIDs(t, c, stream, 1, 5)
}

// With many streams the server compares no ends: it refuses the id.
func TestLateBatchOfManyStreamsIsRefusedThoughTheEndWasDeleted(t *testing.T) {
	older, c, stream := setup(t, redis.Config{})
	newer := opened(t, redis.Config{URL: testenv.Redis(t).URL})
	names := []string{stream}
	for len(names) < 20 {
		names = append(names, newStream(t))
		mustTail(t, older, names[len(names)-1])
	}
	all := func(from, to int) (messages []sink.Message) {
		for _, name := range names {
			messages = append(messages, batch(name, from, to)...)
		}
		return messages
	}
	mustPublish(t, older, all(1, 2))
	mustPublish(t, older, all(3, 3))
	mustTail(t, newer, stream)
	mustPublish(t, newer, batch(stream, 4, 5))
	deleteAfter(t, c, stream, 3)

	results := older.Publish(t.Context(), all(4, 4))
	if results == nil || results[0] == nil || sink.FateKnown(results[0]) {
		t.Fatalf("results %v, want the first refused with an unknown fate", results)
	}
	wantIDs(t, c, stream, 1, 3)
	for i, name := range names[1:] {
		if results[1+i] != nil {
			t.Errorf("%s: %v", name, results[1+i])
		}
		wantIDs(t, c, name, 1, 4)
	}
}

// deleteAfter deletes the entries behind the first n.
func deleteAfter(t *testing.T, c *goredis.Client, stream string, n int) {
	t.Helper()
	entries, err := c.XRange(t.Context(), stream, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries[n:] {
		if err := c.XDel(t.Context(), stream, e.ID).Err(); err != nil {
			t.Fatal(err)
		}
	}
}
