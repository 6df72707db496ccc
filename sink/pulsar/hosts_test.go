package pulsar_test

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
	"github.com/outboxd/outboxd/sink/sinktest"
)

// muteHost returns the address of a host that accepts connections and never says anything.
func muteHost(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// proxy returns a host that passes everything on to the server.
func (s server) proxy(t *testing.T) *toxiproxy.Proxy {
	t.Helper()
	proxies := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(proxies, t.Name(), testenv.FreeAddress(t), strings.TrimPrefix(s.url, "pulsar://"))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return proxy
}

// behind returns the server with another host before it in the service URL.
func (s server) behind(host string) server {
	return server{url: "pulsar://" + host + "," + strings.TrimPrefix(s.url, "pulsar://"), admin: s.admin}
}

func TestHostThatDoesNotAnswerHoldsNothingUp(t *testing.T) {
	for name, host := range map[string]func(*testing.T) string{"DropsPackets": sinktest.DeafHost, "IsMute": muteHost} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sharedServer(t)
			both := s.behind(host(t))
			usual := func(c *pulsar.Config) { c.Timeout = 9 * time.Second }
			p, topic := both.open(t, usual), s.topic(t)
			if err := p.Probe(t.Context(), topic); err != nil {
				t.Error(err)
			}
			mustTail(t, p, topic, 1)
			mustPublish(t, p, messages(topic, 1, 3, 10))
			newer := both.open(t, usual)
			wantTail(t, newer, topic, 5, 3) // cuts p off, for which it asks the hosts which broker has the topic
			mustPublish(t, newer, messages(topic, 4, 4, 10))
			s.wantIDs(t, topic, 4)
		})
	}
}

// The client asks its hosts in turn, and a lookup at the one that hangs fails.
func TestHostThatBeginsToHangIsLeftOut(t *testing.T) {
	s := sharedServer(t)
	proxy := s.proxy(t)
	p := s.behind(proxy.Listen).open(t, func(c *pulsar.Config) { c.Timeout = 6 * time.Second })
	lookup := func() error {
		_, err := p.Partitions(t.Context(), s.topic(t))
		if sink.BrokerDown(err) {
			t.Fatalf("the whole broker is said to be down: %v", err)
		}
		return err
	}
	for range 2 {
		if err := lookup(); err != nil {
			t.Error(err)
		}
	}
	if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(`{"type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`)); err != nil {
		t.Fatal(err)
	}
	failed, inTurn := 0, 0
	waitUntil(t, "lookups succeed at the other host alone", func() bool {
		if lookup() != nil {
			failed, inTurn = failed+1, 0
		} else {
			inTurn++
		}
		return failed > 0 && inTurn == 10
	})
	mustTail(t, p, s.topic(t), 1)
}

// Every lookup there takes its time, and then succeeds at the other host.
func TestHostThatComesBackMuteIsLeftOut(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	proxy := s.proxy(t)
	var leftOut atomic.Bool
	log := zerolog.New(io.Discard).Hook(zerolog.HookFunc(func(_ *zerolog.Event, _ zerolog.Level, text string) {
		if strings.HasPrefix(text, "look topics up at other hosts") {
			leftOut.Store(true)
		}
	}))
	p, err := pulsar.New(pulsar.Config{URL: s.behind(proxy.Listen).url}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeSink(t, p) })
	lookup := func() {
		if _, err := p.Partitions(t.Context(), s.topic(t)); err != nil {
			t.Error(err)
		}
	}
	lookup()
	lookup()
	proxy.Stop()
	mute, err := net.Listen("tcp", proxy.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	waitUntil(t, "topics are looked up at the other host", func() bool {
		lookup()
		return leftOut.Load()
	})
}

// The last call had an answer, so that the next one finds out only when the client has given up.
func TestBrokerThatHasGoneIsDown(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	proxy := s.proxy(t)
	p, topic := server{url: "pulsar://" + proxy.Listen}.open(t), s.topic(t)
	if _, err := p.Partitions(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	proxy.Stop()
	if _, err := p.Partitions(t.Context(), topic); !sink.BrokerDown(err) {
		t.Errorf("the whole broker is not said to be down: %v", err)
	}
}

func TestBrokerIsDownWhereNoHostAnswers(t *testing.T) {
	for name, second := range map[string]func(*testing.T) string{
		"DropsPackets": sinktest.DeafHost, "IsMute": muteHost, "Refuses": func(*testing.T) string { return "127.0.0.1:1" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := server{url: "pulsar://" + second(t)}.behind(sinktest.DeafHost(t)).open(t, func(c *pulsar.Config) { c.Timeout = 2 * time.Second })
			for range 2 {
				if _, err := p.Partitions(t.Context(), "persistent://public/default/orders"); !sink.BrokerDown(err) || !sink.FateKnown(err) {
					t.Errorf("the whole broker is not said to be down: %v", err)
				}
			}
		})
	}
}
