package redis_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

// A server that refuses everything is Unavailable, says why, and has taken nothing: once it is mended the same batch is
// accepted without a look at the tail.
func TestRefusalOfTheServerIsKnownAndMended(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{`user app on >secret-word-1 ~* &* +@all`}})
	c := plain(t, server.URL)
	do := func(args ...any) {
		t.Helper()
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, refusal := range []struct {
		says        string
		spoil, mend []any
	}{
		{"OOM", []any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		{"READONLY", []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
		{"NOREPLICAS", []any{"CONFIG", "SET", "min-replicas-to-write", "1"}, []any{"CONFIG", "SET", "min-replicas-to-write", "0"}},
		{"grant the ACL user", []any{"ACL", "SETUSER", "app", "-xadd"}, []any{"ACL", "SETUSER", "app", "+xadd"}},
	} {
		t.Run(refusal.says, func(t *testing.T) {
			bothWays(t, func(t *testing.T, cfg redis.Config) {
				cfg.URL, cfg.Username, cfg.Password = server.URL, "app", "secret-word-1"
				s, stream := opened(t, cfg), newStream(t)
				mustTail(t, s, stream)
				mustPublish(t, s, batch(stream, 1, 2))
				do(refusal.spoil...)
				results := s.Publish(t.Context(), batch(stream, 3, 5))
				probe := s.Probe(t.Context(), stream)
				do(refusal.mend...)
				refusedFor(t, results, refusal.says)
				if sink.ClassOf(probe) != sink.Unavailable || !strings.Contains(probe.Error(), refusal.says) {
					t.Errorf("probe: %v", probe)
				}
				wantIDs(t, c, stream, 1, 2)
				mustPublish(t, s, batch(stream, 3, 5))
				wantIDs(t, c, stream, 1, 5)
			})
		})
	}
}

// A look that the server did not answer is not said to have landed.
func TestUnansweredLookLeavesNothingBehind(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s, stream := opened(t, redis.Config{URL: "redis://" + silent.Addr().String(), Timeout: 100 * time.Millisecond}), newStream(t)
	_, tail := s.Tail(t.Context(), stream, 1)
	for call, err := range map[string]error{"tail": tail, "probe": s.Probe(t.Context(), stream)} {
		if sink.ClassOf(err) != sink.Unavailable || !sink.FateKnown(err) || strings.Contains(err.Error(), "landed") {
			t.Errorf("%s: class %s: %v", call, sink.ClassOf(err), err)
		}
	}
}

// The rights that the documentation names are enough, and without one of them the sink says so.
func TestLeastRightsAreEnough(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	c := plain(t, server.URL)
	rights := []any{
		"ACL", "SETUSER", "app", "reset", "on", ">p@ss/word", "~outbox:*",
		"+evalsha", "+eval", "+xadd", "+xinfo|stream", "+xrevrange", "+xlen",
	}
	if err := c.Do(t.Context(), rights...).Err(); err != nil {
		t.Fatal(err)
	}
	s := opened(t, redis.Config{URL: withUser(t, server.URL, "app", "p@ss/word")})
	stream := newStream(t)
	if err := s.Probe(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	mustTail(t, s, stream)
	mustPublish(t, s, batch(stream, 1, 3))
	if entries := mustTail(t, s, stream); len(entries) != 3 {
		t.Fatalf("tail of %d entries, want 3", len(entries))
	}
	for _, missing := range []string{"xinfo|stream", "xrevrange", "evalsha"} {
		if err := c.Do(t.Context(), "ACL", "SETUSER", "app", "-"+missing).Err(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Tail(t.Context(), stream, 1)
		if sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "grant the ACL user") {
			t.Errorf("tail without %s: class %s: %v", missing, sink.ClassOf(err), err)
		}
		if err := c.Do(t.Context(), "ACL", "SETUSER", "app", "+"+missing).Err(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Tail(t.Context(), "elsewhere", 1)
	if sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "grant the ACL user") {
		t.Errorf("tail of a key without rights: %v", err)
	}
}

func TestMissingPasswordIsNamed(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"requirepass secret-word-2"}})
	for name, password := range map[string]string{"none": "", "wrong": "secret-word-3", "right": "secret-word-2"} {
		s := opened(t, redis.Config{URL: server.URL, Password: password})
		stream := newStream(t)
		err := s.Probe(t.Context(), stream)
		if name == "right" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "the password") || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("password %s: class %s: %v", name, sink.ClassOf(err), err)
		}
		if _, err := s.Tail(t.Context(), stream, 1); sink.ClassOf(err) != sink.Unavailable {
			t.Errorf("tail: password %s: %v", name, err)
		}
	}
}
