package redis_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

// virtualAddress leads each connection to the server that is its target when the connection is made.
type virtualAddress struct {
	addr   string
	target atomic.Value // string
	made   atomic.Int64 // connections
}

func newVirtualAddress(t *testing.T, target string) *virtualAddress {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &virtualAddress{addr: l.Addr().String()}
	v.target.Store(target)
	var open sync.WaitGroup
	t.Cleanup(func() { // after the sink is closed
		_ = l.Close()
		open.Wait()
	})
	open.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			v.made.Add(1)
			open.Go(func() { forward(client, v.target.Load().(string)) })
		}
	})
	return v
}

// forward returns when one of the two has closed the connection.
func forward(client net.Conn, target string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}

// A master that becomes a replica keeps its clients' connections, and an address that leads elsewhere by now keeps them, too.
func TestNoConnectionToADemotedMasterIsUsedAgain(t *testing.T) {
	t.Parallel()
	pems := testenv.NewCertificates(t)
	secure := sink.TLS{CAFile: pems.CA, CertFile: pems.ClientCert, KeyFile: pems.ClientKey}
	for name, c := range map[string]struct {
		cfg   redis.Config
		stale string // the server's replica-serve-stale-data
		says  string
	}{
		"Fenced":   {redis.Config{}, "yes", "READONLY"},
		"Unfenced": {redis.Config{Unfenced: true}, "yes", "READONLY"},
		"Silenced": {redis.Config{}, "no", "MASTERDOWN"},
		"TLS":      {redis.Config{TLS: secure}, "yes", "READONLY"},
	} {
		t.Run(name, func(t *testing.T) {
			scheme, ports, addrs := "redis", [2]int{freePort(t), freePort(t)}, [2]string{}
			var servers [2]*testenv.RedisServer
			for i, port := range ports {
				servers[i] = testenv.NewRedis(t, testenv.RedisOptions{Settings: tlsSettings(pems, pems.ServerCert, port)})
				addrs[i] = servers[i].Addr
				if c.cfg.TLS != (sink.TLS{}) {
					scheme, addrs[i] = "rediss", fmt.Sprintf("127.0.0.1:%d", port)
				}
			}
			demoted, promoted := plain(t, servers[0].URL), plain(t, servers[1].URL)
			address := newVirtualAddress(t, addrs[0])
			c.cfg.URL = scheme + "://" + address.addr
			s := opened(t, c.cfg)

			const connections = 8
			var all [connections]string
			for i := range all {
				all[i] = newStream(t)
			}
			each := func(call func(stream string)) {
				var wait sync.WaitGroup
				for _, stream := range all {
					wait.Go(func() { call(stream) })
				}
				wait.Wait()
			}
			thaw := freeze(t, demoted)
			var tails sync.WaitGroup
			tails.Go(func() {
				each(func(stream string) {
					if _, err := s.Tail(t.Context(), stream, 1); err != nil {
						t.Error(err)
					}
				})
			})
			eventually(t, "each call has a connection of its own", func() bool { return address.made.Load() >= connections })
			thaw()
			tails.Wait()

			for _, command := range [][]any{{"CONFIG", "SET", "replica-serve-stale-data", c.stale}, {"REPLICAOF", "127.0.0.1", "1"}} {
				if err := demoted.Do(t.Context(), command...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			address.target.Store(addrs[1])
			refusedFor(t, s.Publish(t.Context(), batch(all[0], 1, 3)), c.says)
			each(func(stream string) {
				if results := s.Publish(t.Context(), batch(stream, 1, 3)); results != nil {
					t.Errorf("publish: %v", results)
				}
			})
			for _, stream := range all {
				wantIDs(t, promoted, stream, 1, 3)
			}
		})
	}
}
