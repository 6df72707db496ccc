package redis

import (
	"errors"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
)

// Whatever changes the stream between a look at its end and the transaction, as the batch of another instance does, discards the transaction: so does a late
// one of ours that is overtaken.
func TestTransactionIsDiscardedWhereTheStreamWasChanged(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	o, err := goredis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	other := goredis.NewClient(o)
	defer other.Close() //nolint:errcheck // of the test
	s, err := New(Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context()) //nolint:errcheck // of the test
	ctx, stream, last := t.Context(), "stream", ""
	appends := func() error {
		last, err = other.XAdd(ctx, &goredis.XAddArgs{Stream: stream, Values: []string{"n", "1"}}).Result()
		return err
	}
	for _, change := range []struct {
		name string
		do   func() error
		left int64
	}{
		{"AppendToNone", appends, 1},
		{"Append", appends, 2},
		{"Delete", func() error { return other.XDel(ctx, stream, last).Err() }, 1},
		{"Remove", func() error { return other.Del(ctx, stream).Err() }, 0},
	} {
		t.Run(change.name, func(t *testing.T) {
			if _, err := s.Tail(ctx, stream, 1); err != nil {
				t.Fatal(err)
			}
			expected, _ := s.ends.take(stream)
			c := &call{index: map[string]int{}}
			c.split([]sink.Message{{Destination: stream, Body: []byte("x")}, {Destination: stream, Body: []byte("y")}})
			st := &c.streams[0]
			st.expected = expected
			conn := s.client.single.Conn()
			defer conn.Close() //nolint:errcheck // of the test
			if err := openWatched(ctx, conn, st); err != nil {
				t.Fatal(err)
			}
			if err := change.do(); err != nil {
				t.Fatal(err)
			}
			if end, err := s.execute(ctx, c, conn, st); !errors.Is(err, errDiscarded) {
				t.Errorf("end %q, error %v, want a discarded transaction", end, err)
			}
			if n := other.XLen(ctx, stream).Val(); n != change.left {
				t.Errorf("the stream has %d entries, want %d", n, change.left)
			}
		})
	}
}

// A connection that was abandoned within a transaction would answer its next user with QUEUED.
func TestAbandonedConnectionIsClosed(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	s, err := New(Config{URL: server.URL, PoolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context()) //nolint:errcheck // of the test
	conn := s.client.single.Conn()
	if err := openWatched(t.Context(), conn, &stream{name: "stream", expected: end{id: "0-0"}}); !errors.Is(err, errDiscarded) {
		t.Fatalf("%v, want a refusal: the server does not know the script", err)
	}
	abandon(t.Context(), conn)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if reply, err := s.client.single.Ping(t.Context()).Result(); err != nil || reply != "PONG" {
		t.Errorf("the pool's next connection answers %q, %v", reply, err)
	}
}

func TestReplyToATransactionIsRead(t *testing.T) {
	for reply, want := range map[string]string{
		"*2\r\n$3\r\n7-1\r\n$4\r\n17-2\r\n": "17-2",
		"*-1\r\n":                           "was not carried out",
		"-EXECABORT Transaction discarded because of: OOM\r\n":   "was not carried out",
		"-NOPERM User app has no permissions to run 'exec'\r\n":  "was not carried out",
		"-MOVED 63 127.0.0.1:7001\r\n":                           "was not carried out",
		"-ERR EXEC without MULTI\r\n":                            "not obeyed",
		"*2\r\n$3\r\n7-1\r\n-ERR the ID is equal or smaller\r\n": "message 1 of the batch failed alone: -ERR the ID is equal",
		"*2\r\n-OOM command not allowed\r\n$3\r\n7-1\r\n":        "message 0 of the batch failed alone",
		"*1\r\n$3\r\n7-1\r\n":                                    "unexpected reply",
		"+QUEUED\r\n":                                            "unexpected reply",
		"":                                                       "unexpected reply",
	} {
		id, err := lastAdded(reply, 2)
		if err != nil {
			id = err.Error()
		}
		if !strings.Contains(id, want) {
			t.Errorf("%q is read as %q, want %q", reply, id, want)
		}
		if discarded := errors.Is(err, errDiscarded); discarded != (want == "was not carried out") {
			t.Errorf("%q: discarded is %v", reply, discarded)
		}
	}
}
