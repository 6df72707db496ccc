package redis_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
	"github.com/outboxd/outboxd/sink/sinktest"
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
		broker      bool
		spoil, mend []any
	}{
		{"OOM", true, []any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		{"READONLY", true, []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
		{"NOREPLICAS", true, []any{"CONFIG", "SET", "min-replicas-to-write", "1"}, []any{"CONFIG", "SET", "min-replicas-to-write", "0"}},
		{"grant the ACL user", false, []any{"ACL", "SETUSER", "app", "-xadd"}, []any{"ACL", "SETUSER", "app", "+xadd"}},
	} {
		t.Run(refusal.says, func(t *testing.T) {
			eachWay(t, func(t *testing.T, cfg redis.Config) {
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
				if sink.BrokerDown(probe) != refusal.broker || sink.BrokerDown(results[0]) != refusal.broker {
					t.Errorf("broker down: %v by the probe, %v by the publish, want %v",
						sink.BrokerDown(probe), sink.BrokerDown(results[0]), refusal.broker)
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
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s, stream := opened(t, redis.Config{URL: "redis://" + silent.Addr().String(), Timeout: time.Second}), newStream(t) // in which a busy machine connects
	_, tail := s.Tail(t.Context(), stream, 1)
	for call, err := range map[string]error{"tail": tail, "probe": s.Probe(t.Context(), stream)} {
		if sink.ClassOf(err) != sink.Unavailable || !sink.FateKnown(err) || strings.Contains(err.Error(), "landed") {
			t.Errorf("%s: class %s: %v", call, sink.ClassOf(err), err)
		}
		if sink.BrokerDown(err) {
			t.Errorf("%s: a server that hangs is said to be down: %v", call, err)
		}
	}
}

// A connection that is never made is the whole server's failure, and nothing was sent over it.
func TestHostThatDropsPacketsIsDown(t *testing.T) {
	t.Parallel()
	deaf := sinktest.DeafHost(t)
	for _, url := range []string{"redis://" + deaf, "redis+sentinel://" + deaf + "/orders"} {
		s, stream := opened(t, redis.Config{URL: url, Timeout: 2 * time.Second}), newStream(t)
		_, tail := s.Tail(t.Context(), stream, 1)
		for call, err := range map[string]error{"tail": tail, "probe": s.Probe(t.Context(), stream)} {
			if sink.ClassOf(err) != sink.Unavailable || !sink.FateKnown(err) || !sink.BrokerDown(err) {
				t.Errorf("%s of %s: class %s, fate known %v, broker down %v: %v", call, url, sink.ClassOf(err), sink.FateKnown(err), sink.BrokerDown(err), err)
			}
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

// Who is told that a stream accepts can begin a session there, and nothing was written to find that out.
func TestProbeFindsEachRightThatATailNeeds(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	c := plain(t, server.URL)
	do := func(args ...any) {
		t.Helper()
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	eachWay(t, func(t *testing.T, cfg redis.Config) {
		for _, missing := range []string{"xinfo|stream", "xrevrange", "evalsha", "eval"} {
			do("SCRIPT", "FLUSH") // as after a restart of the server
			do("ACL", "SETUSER", "app", "reset", "on", ">word", "~outbox:*", "+@all", "-"+missing)
			cfg.URL = withUser(t, server.URL, "app", "word")
			s, stream := opened(t, cfg), newStream(t)
			err := s.Probe(t.Context(), stream)
			if sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "grant the ACL user") {
				t.Errorf("probe without %s: class %s: %v", missing, sink.ClassOf(err), err)
			}
			do("ACL", "SETUSER", "app", "+"+missing)
			if err := s.Probe(t.Context(), stream); err != nil {
				t.Errorf("probe with %s: %v", missing, err)
			}
			if c.Exists(t.Context(), stream).Val() != 0 {
				t.Errorf("a probe made %s", stream)
			}
			mustTail(t, s, stream)
		}
	})
}

func TestWhatLandsWhereMultiIsRefusedHasAnUnknownFate(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	c := plain(t, server.URL)
	if err := c.Do(t.Context(), "ACL", "SETUSER", "app", "reset", "on", ">p@ss/word", "~*", "+@all", "-multi").Err(); err != nil {
		t.Fatal(err)
	}
	s := opened(t, redis.Config{URL: withUser(t, server.URL, "app", "p@ss/word"), Unfenced: true})
	stream := newStream(t)
	mustTail(t, s, stream)
	err := s.Publish(t.Context(), batch(stream, 1, 3))[0]
	if sink.FateKnown(err) || !strings.Contains(err.Error(), "MULTI is refused") {
		t.Errorf("the fate of the first message is known: %v", err)
	}
	if n, err := c.XLen(t.Context(), stream).Result(); err != nil || n != 3 {
		t.Errorf("%d landed (%v), so the test shows nothing", n, err)
	}
}

// A transaction that is not allowed is found by a look, and leaves no connection inside of one.
func TestRefusedTransactionIsFoundByAProbe(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	c := plain(t, server.URL)
	allow := func(rights ...any) {
		t.Helper()
		if err := c.Do(t.Context(), append([]any{"ACL", "SETUSER", "app", "reset", "on", ">word", "~*", "+@all"}, rights...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	allow()
	s := opened(t, redis.Config{URL: withUser(t, server.URL, "app", "word"), Unfenced: true})
	stream := newStream(t)
	mustTail(t, s, stream)
	for right, says := range map[string]string{"-multi": "MULTI is refused", "-exec": "EXEC is refused"} {
		allow(right)
		if err := s.Probe(t.Context(), stream); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", right, err)
		}
		allow()
		if err := s.Probe(t.Context(), stream); err != nil {
			t.Errorf("%s is granted again: %v", right, err)
		}
	}
	mustPublish(t, s, batch(stream, 1, 3))
	allow("-exec")
	if err := s.Publish(t.Context(), batch(stream, 4, 5))[0]; err == nil || !strings.Contains(err.Error(), "EXEC is refused") {
		t.Error(err)
	}
	allow()
	if entries := mustTail(t, s, stream); len(entries) != 3 {
		t.Errorf("%d entries landed, want 3", len(entries))
	}
	mustPublish(t, s, batch(stream, 4, 5))
	wantIDs(t, c, stream, 1, 5)
}

// The server refuses a script for one key of several.
func TestOneForbiddenStreamDoesNotStopTheOthers(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	c := plain(t, server.URL)
	allow := func(keys string) {
		t.Helper()
		if err := c.Do(t.Context(), "ACL", "SETUSER", "app", "reset", "on", ">word", keys, "+@all").Err(); err != nil {
			t.Fatal(err)
		}
	}
	allow("~*")
	s := opened(t, redis.Config{URL: withUser(t, server.URL, "app", "word")})
	names := []string{"outbox:a", "forbidden", "outbox:b"}
	var messages []sink.Message
	for _, name := range names {
		mustTail(t, s, name)
		messages = append(messages, batch(name, 1, 2)...)
	}
	allow("~outbox:*")
	results := s.Publish(t.Context(), messages)
	refusedFor(t, results[2:3], "grant the ACL user")
	if results[0] != nil || results[1] != nil || results[4] != nil || results[5] != nil {
		t.Errorf("results %v, want the others to land", results)
	}
	wantIDs(t, c, "outbox:a", 1, 2)
	wantIDs(t, c, "outbox:b", 1, 2)
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
		if _, tail := s.Tail(t.Context(), stream, 1); sink.ClassOf(tail) != sink.Unavailable || !sink.BrokerDown(tail) || !sink.BrokerDown(err) {
			t.Errorf("password %s: tail %v, broker down %v and by the probe %v", name, tail, sink.BrokerDown(tail), sink.BrokerDown(err))
		}
	}
}

// What the server refuses for a while, whatever the stream, by the one call or the other.
func TestServerThatServesNobodyIsDown(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	c := plain(t, server.URL)
	for _, refusal := range []struct {
		name        string
		spoil, mend [][]any
	}{
		{
			"MASTERDOWN",
			[][]any{{"CONFIG", "SET", "replica-serve-stale-data", "no"}, {"REPLICAOF", "127.0.0.1", "1"}},
			[][]any{{"REPLICAOF", "NO", "ONE"}},
		},
		{"maxclients", [][]any{{"CONFIG", "SET", "maxclients", "1"}}, [][]any{{"CONFIG", "SET", "maxclients", "100"}}},
	} {
		t.Run(refusal.name, func(t *testing.T) {
			s, stream := opened(t, redis.Config{URL: server.URL}), newStream(t)
			for _, command := range refusal.spoil {
				if err := c.Do(t.Context(), command...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			_, tail := s.Tail(t.Context(), stream, 1)
			probe := s.Probe(t.Context(), stream)
			for _, command := range refusal.mend {
				if err := c.Do(t.Context(), command...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			for call, err := range map[string]error{"tail": tail, "probe": probe} {
				if !sink.BrokerDown(err) || sink.ClassOf(err) != sink.Unavailable {
					t.Errorf("%s: broker down %v, class %s: %v", call, sink.BrokerDown(err), sink.ClassOf(err), err)
				}
			}
			mustTail(t, s, stream)
		})
	}
}

// The first batch that fails says it already, though its own fate is unknown.
func TestKilledServerIsDownAtOnce(t *testing.T) {
	server := testenv.NewRedis(t, durable)
	s, streams := opened(t, redis.Config{URL: server.URL}), []string{newStream(t), newStream(t)}
	var messages []sink.Message
	for _, stream := range streams {
		mustTail(t, s, stream)
		messages = append(messages, batch(stream, 1, 2)...)
	}
	thaw := freeze(t, plain(t, server.URL))
	results := make(chan []error)
	go func() { results <- s.Publish(t.Context(), messages) }()
	thaw()
	server.Kill()
	down := <-results
	if down == nil { // it was taken before the kill
		down = s.Publish(t.Context(), messages)
	}
	for _, i := range []int{0, 2} {
		if !sink.BrokerDown(down[i]) || sink.ClassOf(down[i]) != sink.Unavailable {
			t.Errorf("message %d: broker down %v, class %s: %v", i, sink.BrokerDown(down[i]), sink.ClassOf(down[i]), down[i])
		}
	}
	server.Start()
	for _, stream := range streams {
		mustTail(t, s, stream)
	}
}

// A limit that was not learned because the server was away is learned when it is back.
func TestLimitOfTheServerIsLearnedWhenItIsBack(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"proto-max-bulk-len 1mb"}})
	s, stream := opened(t, redis.Config{URL: server.URL}), newStream(t)
	server.Kill()
	if _, err := s.Tail(t.Context(), stream, 1); !sink.BrokerDown(err) {
		t.Fatalf("tail of a killed server: %v", err)
	}
	server.Start()
	mustTail(t, s, stream)
	large := batch(stream, 1, 1)
	large[0].Body = make([]byte, 2<<20)
	if results := s.Publish(t.Context(), large); len(results) != 1 || sink.ClassOf(results[0]) != sink.Rejected {
		t.Errorf("results %v, want rejected", results)
	}
}
