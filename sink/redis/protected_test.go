package redis_test

import (
	"net"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

// otherAddress returns an address of this machine that is not of its loopback interface.
func otherAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has a loopback interface alone")
	return ""
}

// The server sends a word and closes, which go-redis takes for an answer to its greeting.
func TestServerThatTurnsConnectionsAwaySaysWhy(t *testing.T) {
	address := otherAddress(t)
	server := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"bind 127.0.0.1 " + address, "protected-mode no"}})
	c := plain(t, server.URL)
	set := func(setting, value string) {
		t.Helper()
		if err := c.ConfigSet(t.Context(), setting, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, turned := range []struct{ says, mend, setting, away, back string }{
		{"DENIED", "protected-mode no", "protected-mode", "yes", "no"},
		{"max number of clients", "maxclients", "maxclients", "1", "1000"},
	} {
		t.Run(turned.setting, func(t *testing.T) {
			s, stream := opened(t, redis.Config{URL: strings.Replace(server.URL, "127.0.0.1", address, 1)}), newStream(t)
			set(turned.setting, turned.away)
			_, tail := s.Tail(t.Context(), stream, 1)
			probe := s.Probe(t.Context(), stream)
			set(turned.setting, turned.back)
			for call, err := range map[string]error{"tail": tail, "probe": probe} {
				if sink.ClassOf(err) != sink.Unavailable || !sink.FateKnown(err) || !sink.BrokerDown(err) {
					t.Errorf("%s: class %s, fate known %v, broker down %v", call, sink.ClassOf(err), sink.FateKnown(err), sink.BrokerDown(err))
				}
				if err == nil || !strings.Contains(err.Error(), turned.says) || !strings.Contains(err.Error(), turned.mend) {
					t.Errorf("%s: %v", call, err)
				}
			}
			mustTail(t, s, stream)
		})
	}
}
