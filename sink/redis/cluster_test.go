package redis_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
	"github.com/outboxd/outboxd/sink/sinktest"
)

// redisCluster is a cluster of three masters.
type redisCluster struct {
	url     string
	servers []*testenv.RedisServer
	nodes   []*goredis.Client
	ids     []string
	all     *goredis.ClusterClient
}

func newCluster(t *testing.T) *redisCluster {
	t.Helper()
	c := &redisCluster{}
	var hosts []string
	do := func(node *goredis.Client, args ...any) any {
		t.Helper()
		reply, err := node.Do(t.Context(), args...).Result()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return reply
	}
	const count, slots = 3, 16384
	for i := range count {
		bus := freePort(t)
		server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{
			"cluster-enabled yes", "cluster-replica-validity-factor 0", fmt.Sprintf("cluster-port %d", bus), "repl-diskless-sync-delay 0",
		}})
		node := plain(t, server.URL)
		do(node, "CLUSTER", "ADDSLOTSRANGE", i*slots/count, (i+1)*slots/count-1)
		do(node, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		c.servers = append(c.servers, server)
		c.nodes, hosts = append(c.nodes, node), append(hosts, host(t, server.URL))
		c.ids = append(c.ids, do(node, "CLUSTER", "MYID").(string))
		if i > 0 {
			ip, port, err := net.SplitHostPort(hosts[i])
			if err != nil {
				t.Fatal(err)
			}
			do(c.nodes[0], "CLUSTER", "MEET", ip, port, bus)
		}
	}
	eventually(t, "every node serves and knows the others", func() bool {
		for _, node := range c.nodes {
			info := do(node, "CLUSTER", "INFO").(string)
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_size:%d\r", count)) {
				return false
			}
		}
		return true
	})
	c.url = "redis+cluster://" + strings.Join(hosts, ",")
	c.all = goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: hosts})
	t.Cleanup(func() { _ = c.all.Close() })
	return c
}

// owner returns the indices of the node that holds the slot of the stream and of another one.
func (c *redisCluster) owner(t *testing.T, stream string) (slot int64, from, to int) {
	t.Helper()
	slot, err := c.nodes[0].ClusterKeySlot(t.Context(), stream).Result()
	if err != nil {
		t.Fatal(err)
	}
	from = int(slot) * len(c.nodes) / 16384
	return slot, from, (from + 1) % len(c.nodes)
}

func (c *redisCluster) setSlot(t *testing.T, node int, slot int64, state string, id string) {
	t.Helper()
	if err := c.nodes[node].Do(t.Context(), "CLUSTER", "SETSLOT", slot, state, id).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestCluster(t *testing.T) {
	c := newCluster(t)
	t.Run("Conformance", func(t *testing.T) {
		h := onClient(c.all, redis.Config{URL: c.url, MaxMessageBytes: 1 << 20})
		h.Clustered = true
		sinktest.Run(t, h)
	})
	t.Run("ConformanceUnfenced", func(t *testing.T) {
		h := onClient(c.all, redis.Config{URL: c.url, MaxMessageBytes: 1 << 20, Unfenced: true})
		h.Unfenced, h.Clustered = true, true
		sinktest.Run(t, h)
	})
	t.Run("SlotUnderMigrationIsFollowed", func(t *testing.T) { slotUnderMigrationIsFollowed(t, c) })
	t.Run("UnfencedGoesOnAfterAMigration", func(t *testing.T) { unfencedGoesOnAfterAMigration(t, c) })
	t.Run("LeastRightsAreEnough", func(t *testing.T) {
		for _, node := range c.nodes {
			rights := []any{
				"ACL", "SETUSER", "app", "reset", "on", ">word", "~outbox:*",
				"+evalsha", "+eval", "+xadd", "+xinfo|stream", "+xrevrange", "+xlen", "+cluster|slots",
			}
			if err := node.Do(t.Context(), rights...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		s := opened(t, redis.Config{URL: c.url, Username: "app", Password: "word"})
		for range 8 { // on several nodes
			stream := newStream(t)
			mustTail(t, s, stream)
			mustPublish(t, s, batch(stream, 1, 3))
			if err := s.Probe(t.Context(), stream); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("NodeWithoutClusterURLSaysSo", func(t *testing.T) {
		s, stream := opened(t, redis.Config{URL: "redis://" + c.nodes[0].Options().Addr}), ""
		for from := 0; from == 0; { // a stream of another node
			stream = newStream(t)
			_, from, _ = c.owner(t, stream)
		}
		_, err := s.Tail(t.Context(), stream, 1)
		if sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), "redis+cluster://") {
			t.Fatalf("class %s: %v", sink.ClassOf(err), err)
		}
	})
}

// migrate moves the stream's slot from its node to another, half or fully.
func (c *redisCluster) migrate(t *testing.T, stream string, between func()) {
	t.Helper()
	slot, from, to := c.owner(t, stream)
	c.setSlot(t, to, slot, "IMPORTING", c.ids[from])
	c.setSlot(t, from, slot, "MIGRATING", c.ids[to])
	ip, port, err := net.SplitHostPort(c.nodes[to].Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.nodes[from].Migrate(t.Context(), ip, port, stream, 0, 0).Err(); err != nil {
		t.Fatal(err)
	}
	between()
	for _, node := range []int{to, from} {
		c.setSlot(t, node, slot, "NODE", c.ids[to])
	}
}

func slotUnderMigrationIsFollowed(t *testing.T, c *redisCluster) {
	s, stream := opened(t, redis.Config{URL: c.url}), newStream(t)
	mustTail(t, s, stream)
	mustPublish(t, s, batch(stream, 1, 5))
	c.migrate(t, stream, func() {
		mustPublish(t, s, batch(stream, 6, 10)) // ASK
		if entries := mustTail(t, s, stream); len(entries) != 10 {
			t.Errorf("tail of %d entries under migration, want 10", len(entries))
		}
		if err := s.Probe(t.Context(), stream); err != nil {
			t.Errorf("probe under migration: %v", err)
		}
	})
	mustPublish(t, s, batch(stream, 11, 12)) // MOVED
	mustPublish(t, s, batch(stream, 13, 14))
	_, _, to := c.owner(t, stream)
	wantIDs(t, c.nodes[to], stream, 1, 14)
}

func unfencedGoesOnAfterAMigration(t *testing.T, c *redisCluster) {
	s, stream := opened(t, redis.Config{URL: c.url, Unfenced: true}), newStream(t)
	mustTail(t, s, stream)
	mustPublish(t, s, batch(stream, 1, 5))
	c.migrate(t, stream, func() {
		results := s.Publish(t.Context(), batch(stream, 6, 7))
		if results == nil || sink.ClassOf(results[0]) != sink.Retry || !sink.FateKnown(results[0]) {
			t.Errorf("results %v under migration, want retry with a known fate", results)
		}
	})
	eventually(t, "the cluster client knows the new owner", func() bool {
		results := s.Publish(t.Context(), batch(stream, 6, 10))
		if results != nil && !sink.FateKnown(results[0]) {
			t.Fatalf("unknown fate: %v", results[0])
		}
		return results == nil
	})
	_, _, to := c.owner(t, stream)
	wantIDs(t, c.nodes[to], stream, 1, 10)
}

func TestClusterFailoverGoesOnAtThePromotedReplica(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	replica := c.addReplica(t, 0)
	s, stream := opened(t, redis.Config{URL: c.url, Timeout: 2 * time.Second}), ""
	for from := -1; from != 0; {
		stream = newStream(t)
		_, from, _ = c.owner(t, stream)
	}
	mustTail(t, s, stream)
	mustPublish(t, s, batch(stream, 1, 10))
	eventually(t, "the replica holds the stream", func() bool { // the only key, written by one script
		n, err := replica.DBSize(t.Context()).Result()
		return err == nil && n == 1
	})
	hasten(t, append(c.nodes, replica))
	c.servers[0].Kill()
	if held := goesOn(t, "the promoted replica", s, stream, 20); held != 10 {
		t.Fatalf("the promoted replica held %d entries, want 10", held)
	}
	wantIDs(t, replica, stream, 1, 20)
}

// A node that hangs keeps no look-up of who holds what from its end, and so no later one from its beginning.
func TestClusterFailoverFromANodeThatHangsGoesOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	replica := c.addReplica(t, 0)
	s, stream := opened(t, redis.Config{URL: c.url, Timeout: time.Second}), ""
	for from := -1; from != 0; {
		stream = newStream(t)
		_, from, _ = c.owner(t, stream)
	}
	mustTail(t, s, stream)
	hasten(t, append(c.nodes, replica))
	freeze(t, c.nodes[0])
	eventually(t, "the replica is promoted", func() bool {
		// Each call that fails makes the client look again, and it asks the nodes in any order: so it asks the one that hangs, too.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, _ = s.Tail(ctx, stream, 1)
		role, err := replica.Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "master"
	})
	goesOn(t, "the promoted replica", s, stream, 20)
	wantIDs(t, replica, stream, 1, 20)
}

// hasten lets the nodes find soon that one of them is gone. Before that a busy machine should make none of them think so.
func hasten(t *testing.T, nodes []*goredis.Client) {
	t.Helper()
	for _, node := range nodes {
		if err := node.ConfigSet(t.Context(), "cluster-node-timeout", "1500").Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// goesOn waits until the stream holds the ids up to the last, each of which is sent behind the tail, and returns what that held at first.
func goesOn(t *testing.T, at string, s sink.Sink, stream string, last int) (held int) {
	t.Helper()
	held = -1
	eventually(t, "a tail of "+at+", and a batch behind it", func() bool {
		entries, err := s.Tail(t.Context(), stream, 100)
		if err != nil {
			return false
		}
		if held < 0 {
			held = len(entries) // a batch may land without an answer
		}
		return len(entries) == last || s.Publish(t.Context(), batch(stream, len(entries)+1, last)) == nil
	})
	return held
}

// addReplica adds a node that follows the master, and returns when it is in step.
func (c *redisCluster) addReplica(t *testing.T, master int) *goredis.Client {
	t.Helper()
	bus := freePort(t)
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{
		"cluster-enabled yes", "cluster-replica-validity-factor 0", fmt.Sprintf("cluster-port %d", bus),
	}})
	ip, port, err := net.SplitHostPort(host(t, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.nodes[master].Do(t.Context(), "CLUSTER", "MEET", ip, port, bus).Err(); err != nil {
		t.Fatal(err)
	}
	node := plain(t, server.URL)
	eventually(t, "the replica knows its master", func() bool {
		return node.Do(t.Context(), "CLUSTER", "REPLICATE", c.ids[master]).Err() == nil
	})
	eventually(t, "every node knows it as a replica, it knows all of them, and is in step", func() bool { // else nobody votes for it
		for _, other := range c.nodes {
			known, err := other.ClusterNodes(t.Context()).Result()
			if err != nil || !strings.Contains(known, " slave "+c.ids[master]) {
				return false
			}
		}
		known, err := node.ClusterNodes(t.Context()).Result()
		if err != nil || strings.Count(known, " connected") != len(c.nodes)+1 {
			return false
		}
		info, err := node.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	return node
}
