package redis_test

import (
	"fmt"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
	"github.com/outboxd/outboxd/sink/sinktest"
)

// durable makes the server keep what it acknowledged, whenever it is killed.
var durable = testenv.RedisOptions{Settings: []string{"appendonly yes", "appendfsync always"}}

func TestConformance(t *testing.T) {
	server := testenv.NewRedis(t, durable)
	c := plain(t, server.URL)
	sinktest.Run(t, harness(c, server, redis.Config{URL: server.URL, MaxMessageBytes: 1 << 20}))
}

func TestConformanceWatched(t *testing.T) {
	server := testenv.NewRedis(t, durable)
	c := plain(t, server.URL)
	sinktest.Run(t, harness(c, server, redis.Config{URL: server.URL, MaxMessageBytes: 1 << 20, WatchFrom: 1}))
}

func TestConformanceUnfenced(t *testing.T) {
	server := testenv.NewRedis(t, durable)
	c := plain(t, server.URL)
	h := harness(c, server, redis.Config{URL: server.URL, MaxMessageBytes: 1 << 20, Unfenced: true})
	h.Unfenced = true
	h.Kills = 1
	sinktest.Run(t, h)
}

func harness(c *goredis.Client, server *testenv.RedisServer, cfg redis.Config) sinktest.Harness {
	h := onClient(c, cfg)
	h.Freeze = func(t testing.TB) func() { return freeze(t, c) }
	h.Kill = func(testing.TB) { server.Kill() }
	h.Start = func(testing.TB) { server.Start() }
	return h
}

// onClient is the part of the harness that goes without the server's process.
func onClient(c goredis.UniversalClient, cfg redis.Config) sinktest.Harness {
	return sinktest.Harness{
		New:         func(t testing.TB) sink.Sink { return open(t, cfg) },
		Destination: newStream,
		Read:        func(t testing.TB, stream string) []sinktest.Message { return readWith(t, c, stream) },
		TooLarge:    cfg.MaxMessageBytes + 1,
		Append: func(t testing.TB, stream, id string) {
			values := map[string]any{"body": "from somebody else", "position": "no position", "replay": "-1"}
			if id != "" {
				values["id"] = id
			}
			if err := c.XAdd(t.Context(), &goredis.XAddArgs{Stream: stream, Values: values}).Err(); err != nil {
				t.Fatal(err)
			}
		},
		WrongCredentials: func(t testing.TB) sinktest.Intruder {
			wrong := cfg
			wrong.Username, wrong.Password = "default-not", "correct-horse-battery"
			return sinktest.Intruder{Sink: open(t, wrong), Destination: newStream(t), Secrets: []string{wrong.Password}}
		},
		Unreachable: func(t testing.TB) sink.Sink {
			nobody := cfg
			nobody.URL = fmt.Sprintf("redis://127.0.0.1:%d", freePort(t))
			return open(t, nobody)
		},
	}
}
