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
	t.Run("Script", func(t *testing.T) { lateBatchIsRefused(t, redis.Config{}) })
	t.Run("Transaction", func(t *testing.T) { lateBatchIsRefused(t, redis.Config{WatchFrom: 1}) })
}

func lateBatchIsRefused(t *testing.T, cfg redis.Config) {
	older, c, stream := setup(t, cfg)
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

// INFO commandstats counts what a server has run.
func TestLargeBatchOfOneStreamIsATransaction(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	s, c, stream, other := opened(t, redis.Config{URL: server.URL}), plain(t, server.URL), newStream(t), newStream(t)
	mustTail(t, s, stream)
	mustTail(t, s, other)
	transactions := func() string {
		t.Helper()
		stats, err := c.InfoMap(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		calls, _, _ := strings.Cut(stats["Commandstats"]["cmdstat_exec"], ",")
		return calls
	}
	const large = redis.DefaultWatchFrom
	mustPublish(t, s, batch(stream, 1, large-1))
	mustPublish(t, s, append(batch(stream, large, 2*large), batch(other, 1, 1)...))
	if calls := transactions(); calls != "" {
		t.Errorf("a small batch, or one of two streams, is a transaction: %s", calls)
	}
	mustPublish(t, s, batch(stream, 2*large+1, 3*large))
	mustPublish(t, s, batch(stream, 3*large+1, 5*large))
	if calls := transactions(); calls != "calls=2" {
		t.Errorf("EXEC has %q, want calls=2", calls)
	}
	wantIDs(t, c, stream, 1, 5*large)
}

// Who may not run transactions goes on by scripts, and no connection stays within a transaction.
func TestTransactionThatIsNotAllowedIsAScript(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	c := plain(t, server.URL)
	for _, missing := range []string{"-watch", "-multi", "-exec"} {
		if err := c.Do(t.Context(), "ACL", "SETUSER", "app", "reset", "on", ">word", "~*", "+@all", missing).Err(); err != nil {
			t.Fatal(err)
		}
		s, stream := opened(t, redis.Config{URL: withUser(t, server.URL, "app", "word"), WatchFrom: 1, PoolSize: 1}), newStream(t)
		mustTail(t, s, stream)
		mustPublish(t, s, batch(stream, 1, 3))
		mustPublish(t, s, batch(stream, 4, 5))
		wantIDs(t, c, stream, 1, 5)
		clients, err := c.ClientList(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(clients) {
			if strings.Contains(line, "user=app") && !strings.Contains(line, "multi=-1") {
				t.Errorf("%s: %s", missing, line)
			}
		}
	}
}
