package redis_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink/redis"
)

func TestSentinelFailoverGoesOnAtTheNewMaster(t *testing.T) {
	t.Parallel()
	options := testenv.RedisOptions{Settings: []string{"repl-diskless-sync-delay 0"}}
	master, replica := testenv.NewRedis(t, options), testenv.NewRedis(t, options)
	m, r := plain(t, master.URL), plain(t, replica.URL)
	ip, port, err := net.SplitHostPort(host(t, master.URL))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Do(t.Context(), "REPLICAOF", ip, port).Err(); err != nil {
		t.Fatal(err)
	}
	watching := testenv.NewRedis(t, testenv.RedisOptions{Sentinel: true, Settings: []string{
		fmt.Sprintf("sentinel monitor orders %s %s 1", ip, port),
		"sentinel down-after-milliseconds orders 500", "sentinel failover-timeout orders 3000",
	}})
	s := opened(t, redis.Config{URL: "redis+sentinel://" + host(t, watching.URL) + "/orders/0"})
	stream := newStream(t)
	mustTail(t, s, stream)
	mustPublish(t, s, batch(stream, 1, 20))
	eventually(t, "the sentinel knows the replica and it is in step", func() bool {
		known, err := plain(t, "redis://"+host(t, watching.URL)).Do(t.Context(), "SENTINEL", "REPLICAS", "orders").Slice()
		if err != nil {
			t.Fatal(err)
		}
		acknowledged, err := m.Wait(t.Context(), 1, 0).Result()
		return err == nil && acknowledged == 1 && len(known) == 1
	})
	eventually(t, "the replica holds the stream", func() bool {
		n, err := r.XLen(t.Context(), stream).Result()
		return err == nil && n == 20
	})

	master.Kill()
	if held := goesOn(t, "the new master", s, stream, 40); held != 20 {
		t.Fatalf("the new master held %d entries, want 20", held)
	}
	wantIDs(t, r, stream, 1, 40)
}

// watched returns a master and three sentinels of it, and how to reach it through them.
func watched(t *testing.T) (master *goredis.Client, sentinels []*goredis.Client, cfg redis.Config) {
	t.Helper()
	master = plain(t, testenv.NewRedis(t, testenv.RedisOptions{}).URL)
	ip, port, err := net.SplitHostPort(master.Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for range 3 {
		server := testenv.NewRedis(t, testenv.RedisOptions{Sentinel: true, Settings: []string{fmt.Sprintf("sentinel monitor orders %s %s 2", ip, port)}})
		sentinels, hosts = append(sentinels, plain(t, server.URL)), append(hosts, server.Addr)
	}
	return master, sentinels, redis.Config{URL: "redis+sentinel://" + strings.Join(hosts, ",") + "/orders", Timeout: 5 * time.Second}
}

func TestSentinelThatHangsFromTheBeginningFailsNoCall(t *testing.T) {
	t.Parallel()
	_, sentinels, cfg := watched(t)
	freeze(t, sentinels[1])
	mustTail(t, opened(t, cfg), newStream(t))
}

// The client asks one sentinel, as long as that answers.
func TestSentinelThatHangsIsLeftForAnother(t *testing.T) {
	t.Parallel()
	master, sentinels, cfg := watched(t)
	s, stream := opened(t, cfg), newStream(t)
	mustTail(t, s, stream)
	asked := -1
	eventually(t, "the client has subscribed to a sentinel's news", func() bool {
		asked = slices.IndexFunc(sentinels, func(c *goredis.Client) bool {
			subscribed, err := c.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
			return err == nil && subscribed != ""
		})
		return asked >= 0
	})
	freeze(t, sentinels[asked])
	if err := master.ClientKillByFilter(t.Context(), "TYPE", "normal").Err(); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, s, batch(stream, 1, 20)) // by a new connection
	wantIDs(t, master, stream, 1, 20)
}
