package testenv_test

import (
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
)

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func TestRedisKeepsNothingUnlessAsked(t *testing.T) {
	for name, c := range map[string]struct {
		settings []string
		want     string
	}{
		"by default":             {nil, ""},
		"with append-only files": {[]string{"appendonly yes", "--appendfsync always"}, "value"},
	} {
		t.Run(name, func(t *testing.T) {
			server := testenv.NewRedis(t, testenv.RedisOptions{Settings: c.settings})
			if err := redisClient(t, server.URL).Set(t.Context(), "key", "value", 0).Err(); err != nil {
				t.Fatal(err)
			}
			server.Kill()
			server.Start()
			got, err := redisClient(t, server.URL).Get(t.Context(), "key").Result()
			if got != c.want || err != nil && c.want != "" {
				t.Errorf("after kill -9 the key is %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestTheSharedRedisAnswers(t *testing.T) {
	if err := redisClient(t, testenv.Redis(t).URL).Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestASharedServerThatEndedIsStartedAgain(t *testing.T) {
	server := testenv.Redis(t)
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server has ended", func() string {
		if server.Running() {
			return "it runs"
		}
		return ""
	})
	if err := redisClient(t, testenv.Redis(t).URL).Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}
