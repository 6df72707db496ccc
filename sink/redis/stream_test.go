package redis_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

// setup returns a sink of the shared server, a plain client and a stream whose tail was read.
func setup(t *testing.T, cfg redis.Config) (*redis.Sink, *goredis.Client, string) {
	t.Helper()
	cfg.URL = testenv.Redis(t).URL
	s, c, stream := opened(t, cfg), plain(t, cfg.URL), newStream(t)
	t.Cleanup(func() { plain(t, cfg.URL).Del(t.Context(), stream) })
	mustTail(t, s, stream)
	return s, c, stream
}

// eachWay runs the test with each way to append.
func eachWay(t *testing.T, test func(t *testing.T, cfg redis.Config)) {
	t.Run("Fenced", func(t *testing.T) { test(t, redis.Config{}) })
	t.Run("Watched", func(t *testing.T) { test(t, redis.Config{WatchFrom: 1}) })
	t.Run("Unfenced", func(t *testing.T) { test(t, redis.Config{Unfenced: true}) })
}

func TestFieldsStandInOrderWithThePayloadLast(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg redis.Config) {
		s, c, stream := setup(t, cfg)
		m := batch(stream, 1, 1)
		m[0].Headers = append(m[0].Headers, sink.Header{Name: "a", Value: []byte{}}, sink.Header{Name: "b", Value: nil})
		mustPublish(t, s, m)
		got, err := c.Do(t.Context(), "XRANGE", stream, "-", "+").Slice()
		if err != nil {
			t.Fatal(err)
		}
		fields := fmt.Sprint(got[0].([]any)[1])
		if want := fmt.Sprint([]any{"id", "1", "position", "7:0/1:1", "a", "", "b", "", "payload", `{"n":1}`}); fields != want {
			t.Errorf("fields %s, want %s", fields, want)
		}
	})
}

// The script takes the names of fields once for messages in a row that share them.
func TestEachMessageKeepsItsFieldsWhateverItsNeighboursHave(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg redis.Config) {
		cfg.MaxLen = 1000
		s, c, stream := setup(t, cfg)
		messages := batch(stream, 1, 60)
		var want []string
		for i := range messages {
			m := &messages[i]
			for k := range []int{0, 2, 2, 1, 2}[i%5] {
				m.Headers = append(m.Headers, sink.Header{Name: fmt.Sprintf("field-%d-%d", i/10%2, k), Value: fmt.Appendf(nil, "%d-%d", i, k)})
			}
			fields := []any{}
			for _, h := range m.Headers {
				fields = append(fields, h.Name, string(h.Value))
			}
			want = append(want, fmt.Sprint(append(fields, "payload", string(m.Body))))
		}
		mustPublish(t, s, messages)
		entries, err := c.Do(t.Context(), "XRANGE", stream, "-", "+").Slice()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, entry := range entries {
			got = append(got, fmt.Sprint(entry.([]any)[1]))
		}
		if !slices.Equal(got, want) {
			t.Errorf("entries\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestDeletedEntriesAndTrimmedStreamsDoNotStopTheSink(t *testing.T) {
	s, c, stream := setup(t, redis.Config{})
	mustPublish(t, s, batch(stream, 1, 5))
	deleteAfter(t, c, stream, 3)
	mustPublish(t, s, batch(stream, 4, 6)) // the end is where it was
	wantIDs(t, c, stream, 1, 6)
	if err := c.XTrimMaxLen(t.Context(), stream, 0).Err(); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, s, batch(stream, 7, 8))
	wantIDs(t, c, stream, 7, 8)
}

func TestRemovedStreamHasAnUnknownFateAndGoesOn(t *testing.T) {
	s, c, stream := setup(t, redis.Config{})
	mustPublish(t, s, batch(stream, 1, 3))
	if err := c.Del(t.Context(), stream).Err(); err != nil {
		t.Fatal(err)
	}
	if results := s.Publish(t.Context(), batch(stream, 4, 5)); results == nil || sink.FateKnown(results[0]) {
		t.Fatalf("results %v, want an unknown fate", results)
	}
	if entries := mustTail(t, s, stream); len(entries) > 0 {
		t.Fatalf("tail %v, want none", entries)
	}
	mustPublish(t, s, batch(stream, 4, 5))
	wantIDs(t, c, stream, 4, 5)
}

func TestOrderHoldsWhenTheClockGoesBack(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg redis.Config) {
		s, c, stream := setup(t, cfg)
		future := &goredis.XAddArgs{Stream: stream, ID: "99999999999999-18446744073709551614", Values: []string{"id", "1"}}
		if err := c.XAdd(t.Context(), future).Err(); err != nil {
			t.Fatal(err)
		}
		mustTail(t, s, stream)
		mustPublish(t, s, batch(stream, 2, 40))
		wantIDs(t, c, stream, 1, 40)
		if entries := mustTail(t, s, stream); len(entries) != 40 {
			t.Fatalf("tail of %d entries, want 40", len(entries))
		}
	})
}

func TestForgottenScriptIsSentAgain(t *testing.T) {
	s, c, stream := setup(t, redis.Config{})
	for i := 1; i <= 5; i += 2 {
		if err := c.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if i > 1 {
			mustTail(t, s, stream)
		}
		if err := c.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		mustPublish(t, s, batch(stream, i, i+1))
	}
	wantIDs(t, c, stream, 1, 6)
}

func TestLongStreamIsTrimmedToAboutMaxLen(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg redis.Config) {
		cfg.MaxLen = 1000
		s, c, stream := setup(t, cfg)
		for i := 1; i <= 3000; i += 500 {
			mustPublish(t, s, batch(stream, i, i+499))
		}
		length, err := c.XLen(t.Context(), stream).Result()
		if err != nil {
			t.Fatal(err)
		}
		if length < 1000 || length > 1200 {
			t.Errorf("the stream holds %d entries, want about 1000", length)
		}
		if entries := mustTail(t, s, stream); len(entries) != sink.MaxBatch || entries[len(entries)-1].ID != "3000" {
			t.Errorf("tail of %d entries", len(entries))
		}
	})
}

func TestForgottenEndIsReadAgain(t *testing.T) {
	s, c, first := setup(t, redis.Config{MaxStreams: 2})
	second, third := newStream(t), newStream(t)
	mustTail(t, s, second)
	mustPublish(t, s, batch(first, 1, 1)) // used more lately than the second
	mustTail(t, s, third)
	mustPublish(t, s, batch(first, 2, 2))
	mustPublish(t, s, batch(third, 1, 1))
	results := s.Publish(t.Context(), batch(second, 1, 2))
	if results == nil || !errors.Is(results[0], sink.ErrTailUnread) || sink.FateKnown(results[0]) {
		t.Fatalf("results %v, want ErrTailUnread with an unknown fate", results)
	}
	mustTail(t, s, second)
	mustPublish(t, s, batch(second, 1, 2))
	wantIDs(t, c, first, 1, 2)
	wantIDs(t, c, second, 1, 2)
}

func TestTailOfLargeEntriesIsReadInParts(t *testing.T) {
	s, _, stream := setup(t, redis.Config{})
	const size, count = 200_000, 60
	messages := batch(stream, 1, count)
	for i := range messages {
		messages[i].Body = bytes.Repeat([]byte("x"), size)
	}
	mustPublish(t, s, messages)
	var got []string
	for _, e := range mustTail(t, s, stream) {
		got = append(got, e.ID)
	}
	var want []string
	for i := 1; i <= count; i++ {
		want = append(want, fmt.Sprint(i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("tail %v, want %v", got, want)
	}
}

// As far back as events may lie that were taken by a destination and not by the checkpoint.
func TestTailReadsFarBack(t *testing.T) {
	s, _, stream := setup(t, redis.Config{Timeout: 2 * time.Second}) // a part takes far less, all of them may take more
	const total = 100_000
	for i := 1; i <= total; i += sink.MaxBatch {
		mustPublish(t, s, batch(stream, i, i+sink.MaxBatch-1))
	}
	for _, n := range []int{total - 1, total, 2 * total} {
		began := time.Now()
		entries, err := s.Tail(t.Context(), stream, n)
		if err != nil || len(entries) != min(n, total) {
			t.Fatalf("tail of %d entries, want %d: %v", len(entries), min(n, total), err)
		}
		for i, e := range entries {
			if want := strconv.Itoa(total - len(entries) + 1 + i); e.ID != want {
				t.Fatalf("entry %d is %s, want %s", i, e.ID, want)
			}
		}
		t.Logf("%d entries in %s", len(entries), time.Since(began).Round(time.Millisecond))
	}
}

func TestServersOwnLimitRejectsAndKeepsTheConnection(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"proto-max-bulk-len 1mb"}})
	s, c, stream := opened(t, redis.Config{URL: server.URL}), plain(t, server.URL), newStream(t)
	mustTail(t, s, stream)
	messages := batch(stream, 1, 3)
	messages[1].Body = bytes.Repeat([]byte("x"), 2<<20)
	results := s.Publish(t.Context(), messages)
	if len(results) != 3 || results[0] != nil || sink.ClassOf(results[1]) != sink.Rejected || !sink.FateKnown(results[1]) {
		t.Fatalf("results %v, want the second rejected", results)
	}
	mustPublish(t, s, batch(stream, 2, 3))
	wantIDs(t, c, stream, 1, 3)
}

func TestOneRefusedStreamDoesNotStopTheOthers(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg redis.Config) {
		s, c, good := setup(t, cfg)
		bad, last := newStream(t), newStream(t)
		mustTail(t, s, bad)
		mustTail(t, s, last)
		if err := c.Set(t.Context(), bad, "no stream", 0).Err(); err != nil {
			t.Fatal(err)
		}
		messages := slices.Concat(batch(good, 1, 2), batch(bad, 1, 2), batch(last, 1, 2))
		results := s.Publish(t.Context(), messages)
		refusedFor(t, results[2:3], "WRONGTYPE")
		if !errors.Is(results[3], sink.ErrNotAttempted) {
			t.Errorf("the message behind it: %v", results[3])
		}
		wantIDs(t, c, good, 1, 2)
		wantIDs(t, c, last, 1, 2)
		if err := s.Probe(t.Context(), bad); sink.ClassOf(err) != sink.Unavailable || sink.BrokerDown(err) || sink.BrokerDown(results[2]) {
			t.Errorf("probe of a key that is no stream: %v", err)
		}
		if _, err := s.Tail(t.Context(), bad, 1); sink.ClassOf(err) != sink.Unavailable {
			t.Errorf("tail of a key that is no stream: %v", err)
		}
	})
}

// refusedFor fails the test unless the first message was refused with that code, with nothing landed.
func refusedFor(t *testing.T, results []error, code string) {
	t.Helper()
	if len(results) == 0 || results[0] == nil {
		t.Fatal("publish was accepted")
	}
	if err := results[0]; sink.ClassOf(err) != sink.Unavailable || !sink.FateKnown(err) || !strings.Contains(err.Error(), code) {
		t.Errorf("class %s, fate known %v, want unavailable and known for %s: %v", sink.ClassOf(err), sink.FateKnown(err), code, err)
	}
}
