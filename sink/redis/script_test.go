package redis

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
)

// An id that is given is refused where the stream ever had one behind the expected end, and everything else compares the ends.
func TestGivenIDIsRefusedBehindWhatWasDeleted(t *testing.T) {
	url := testenv.Redis(t).URL
	o, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := goredis.NewClient(o)
	defer client.Close() //nolint:errcheck // nothing is pending
	const stream = "outbox:given"
	for _, c := range []struct {
		ids     []string // the stream's entries
		deleted []string // of them
		want    string
	}{
		{[]string{"7-1"}, nil, "7-2"},
		{[]string{"7-1", "7-2"}, nil, "FENCED the stream does not end at 7-1"},
		{[]string{"7-1", "7-5"}, []string{"7-5"}, "FENCED the stream does not end at 7-1"},
		{[]string{"7-1", "8-0"}, []string{"8-0"}, "FENCED the stream does not end at 7-1"},
		{nil, nil, "FENCED the stream ends at 0-0 and not at 7-1"},
		{[]string{"7-1", "7-5"}, []string{"7-1", "7-5"}, "FENCED the stream ends at 7-5 and not at 7-1"},
	} {
		if err := client.Del(t.Context(), stream).Err(); err != nil {
			t.Fatal(err)
		}
		for _, id := range c.ids {
			if err := client.XAdd(t.Context(), &goredis.XAddArgs{Stream: stream, ID: id, Values: []string{"a", "b"}}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if len(c.deleted) > 0 {
			if err := client.XDel(t.Context(), stream, c.deleted...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		before := client.XLen(t.Context(), stream).Val()
		reply, err := client.Eval(t.Context(), appendScript.source.(string), []string{stream}, "0", 1, 1, "payload", "7-1", "7-2", 3, 1, 1, "x").Slice()
		if err != nil || len(reply) != 1 || strings.Trim(fmt.Sprint(reply[0]), "[]") != c.want {
			t.Errorf("a stream with %v, without %v: %v, %v; want %s", c.ids, c.deleted, reply, err, c.want)
		}
		if landed := client.XLen(t.Context(), stream).Val() > before; landed != !strings.HasPrefix(c.want, "FENCED") {
			t.Errorf("a stream with %v, without %v: landed %v", c.ids, c.deleted, landed)
		}
	}
}

// The client would leave what follows a typed error in a list, and take it for the next replies.
func TestRefusedStreamsLeaveNothingOnTheConnection(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"maxmemory 1", "maxmemory-policy noeviction"}})
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr, PoolSize: 1, MaxRetries: -1})
	defer client.Close() //nolint:errcheck // nothing is pending
	one := []any{"0-0", "", 3, 1, 1, "x"}
	args := slices.Concat([]any{"0", 1, 1, "payload"}, one, one)
	pipe := client.Pipeline()
	refused := pipe.Eval(t.Context(), appendScript.source.(string), []string{"a", "b"}, args...)
	next := pipe.Echo(t.Context(), "next")
	_, _ = pipe.Exec(t.Context()) // each command has its own error
	ends, err := refused.Slice()
	if err != nil || len(ends) != 2 || next.Val() != "next" {
		t.Fatalf("ends %v, %v; the next reply is %q, %v", ends, err, next.Val(), next.Err())
	}
	for _, end := range ends {
		_, err := endIn(end)
		if r := (&Sink{}).classify(err); !r.known || !r.broker {
			t.Errorf("%v is read as %+v", end, r)
		}
	}
}

func TestRefusalOfAnOldServerIsRead(t *testing.T) {
	for _, text := range []string{"OOM no memory", "-OOM no memory", "@user_script: 12: -OOM no memory"} {
		_, err := endIn([]any{text})
		if reply, is := replyOf(err); !is || reply != "OOM no memory" {
			t.Errorf("%q is read as %q", text, reply)
		}
	}
}

// With few streams an entry's id has the server's time.
func TestOnlyManyStreamsAreGivenIDs(t *testing.T) {
	s, err := New(Config{URL: "redis://localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context()) //nolint:errcheck // nothing is connected
	for _, n := range []int{1, manyStreams - 1, manyStreams} {
		c := &call{index: map[string]int{}, asked: time.Now()}
		var batch []sink.Message
		for i := range n {
			name := fmt.Sprint("stream", i)
			s.ends.put(name, end{"7-1", c.asked})
			batch = append(batch, sink.Message{Destination: name, Body: []byte("x")})
		}
		c.split(batch)
		for i := range c.streams {
			s.prepare(c, &c.streams[i])
		}
		portions := s.portions(t.Context(), c)
		if len(portions) != 1 {
			t.Fatalf("%d streams are in %d portions", n, len(portions))
		}
		given := slices.ContainsFunc(portions[0].args, func(arg any) bool { text, is := arg.(*string); return is && *text == "7-2" })
		if given != (n >= manyStreams) {
			t.Errorf("%d streams are given ids: %v", n, given)
		}
	}
}
