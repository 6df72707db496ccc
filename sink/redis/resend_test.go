package redis_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

// gate is an address that passes everything on to a server. Once it is armed, a script that is sent by its text is the last thing that passes: its
// answer does not, and nobody is let in any more.
type gate struct {
	net.Listener
	armed atomic.Bool
}

func newGate(t *testing.T, address, server string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", server) //nolint:noctx // it ends with the test
			if err != nil {
				_ = client.Close()
				continue
			}
			go g.pass(client, to)
		}
	}()
	return g
}

func (g *gate) pass(client, server net.Conn) {
	var last atomic.Bool
	go func() {
		_, _ = io.Copy(writer(func(p []byte) (int, error) {
			if g.armed.Load() && bytes.Contains(bytes.ToLower(p), []byte("\r\neval\r\n")) {
				last.Store(true)
			}
			return server.Write(p)
		}), client)
		_ = server.Close()
	}()
	_, _ = io.Copy(writer(func(p []byte) (int, error) {
		if last.Load() {
			_ = g.Close()
			return 0, io.ErrClosedPipe
		}
		return client.Write(p)
	}), server)
	_ = client.Close()
}

type writer func(p []byte) (int, error)

// Write calls it.
func (w writer) Write(p []byte) (int, error) { return w(p) }

// The cluster's client would send the script once more, find nobody there, and say so, as if nothing had been sent.
func TestResentBatchWhoseAnswerIsLostMayHaveLanded(t *testing.T) {
	address := testenv.FreeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"cluster-enabled yes", fmt.Sprintf("cluster-port %d", freePort(t)), "cluster-announce-port " + port}})
	c := plain(t, server.URL)
	if err := c.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, address, server.Addr)
	s, stream := opened(t, redis.Config{URL: "redis+cluster://" + address}), newStream(t)
	eventually(t, "the cluster serves", func() bool { return s.Probe(t.Context(), stream) == nil })
	mustTail(t, s, stream)
	if err := c.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	g.armed.Store(true)
	results := s.Publish(t.Context(), batch(stream, 1, 1))
	wantIDs(t, c, stream, 1, 1)
	if results == nil || sink.FateKnown(results[0]) {
		t.Errorf("a batch that has landed: %v", results)
	}
	if info := c.Info(t.Context(), "commandstats").Val(); strings.Contains(info, "cmdstat_command") {
		t.Errorf("the client has asked for COMMAND:\n%s", info)
	}
}
