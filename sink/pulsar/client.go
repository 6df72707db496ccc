package pulsar

import (
	"context"
	"crypto/tls"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/prometheus/client_golang/prometheus"
)

// pulsarClient is Apache's client. Closed under a send it can panic ("send on closed channel"), so it outlives those that send by it.
type pulsarClient struct {
	client.Client
	slot     int            // its place in Sink.clients
	sends    sync.WaitGroup // Publishes that use a producer of it
	calls    sync.WaitGroup // into it
	calling  int            // how many of those are under way; guarded by Sink.mu
	answered atomic.Int64   // when a call or an entry of it was last answered, or a call began while no other was under way, in nanoseconds since 1970
}

// silent is for how long nothing has been answered that was asked.
func (c *pulsarClient) silent() time.Duration { return time.Since(time.Unix(0, c.answered.Load())) }

// hears notes that there is an answer, or a question.
func (c *pulsarClient) hears() { c.answered.Store(time.Now().UnixNano()) }

// beginLocked and end are around each call into the client.
func (c *pulsarClient) beginLocked() {
	if c.calling == 0 {
		c.hears()
	}
	c.calling++
	c.calls.Add(1)
}

func (s *Sink) end(c *pulsarClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.hears()
	c.calling--
	c.calls.Done()
}

// clientCount is how many clients, each with connections of its own, share out the namespaces. A broker that is sent more than a publish rate allows, which is a
// policy of a namespace or of a topic in it, reads nothing from the connection until that is made up for: all topics of the connection stand still.
// Source: https://pulsar.apache.org/docs/4.0.x/admin-api-namespaces/#configure-publish-throttling-for-topics
const clientCount = 8

// slotOf returns which client is the one of the topic's namespace.
func slotOf(topic string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(namespaceOf(topic))) // never fails
	return int(h.Sum32() % clientCount)
}

// namespaceOf returns what stands before the topic's own name.
func namespaceOf(topic string) string { return topic[:max(0, strings.LastIndexByte(topic, '/'))] }

// clientLocked returns the topic's client, which is made when it is first needed.
func (s *Sink) clientLocked(topic string) (*pulsarClient, error) {
	slot := slotOf(topic)
	if s.clients[slot] == nil {
		c, err := s.newClient(slot, s.hosts)
		if err != nil {
			return nil, err
		}
		s.clients[slot] = c
	}
	return s.clients[slot], nil
}

const (
	// keepAlive is how often a connection is pinged; one that has brought nothing for two to three times as long is closed
	// by the client, which is what frees everything that waits on a silent broker.
	keepAlive = 5 * time.Second
	// operationTimeout is how long the client itself repeats a lookup.
	operationTimeout = 10 * time.Second
	// clientSilence is how long no call may come back before the client is replaced.
	clientSilence = 4 * keepAlive
)

func (s *Sink) clientOptions(tlsConfig *tls.Config, authentication client.Authentication) client.ClientOptions {
	return client.ClientOptions{
		URL:                     s.cfg.URL,
		Authentication:          authentication,
		TLSConfig:               tlsConfig,
		ConnectionTimeout:       min(s.cfg.Timeout, operationTimeout),
		OperationTimeout:        min(s.cfg.Timeout, operationTimeout),
		KeepAliveInterval:       keepAlive,
		MaxConnectionsPerBroker: 1,  // more would not keep topics apart: lookups use all in turn
		MemoryLimitBytes:        -1, // Sink.pending is the limit; the client's own would block in the middle of an entry
		MetricsCardinality:      client.MetricsCardinalityNone,
		MetricsRegisterer:       prometheus.NewRegistry(), // not the process's default one
		Description:             "outboxd",
	}
}

// newClient makes a client for the slot that knows these hosts of the service URL. It has a log of its own: each client numbers its producers from one.
func (s *Sink) newClient(slot int, hosts []string) (*pulsarClient, error) {
	options := s.options
	scheme, _, _ := strings.Cut(s.cfg.URL, "://")
	options.URL = scheme + "://" + strings.Join(hosts, ",")
	options.Logger = clientLogger{log: s.log, heard: s.heard, client: new(byte)}
	c, err := client.NewClient(options)
	if err != nil {
		return nil, err
	}
	return &pulsarClient{Client: c, slot: slot}, nil
}

// call runs f with the topic's client. f takes no context; call returns when it ends, ctx does or Config.Timeout is over. When that is first, f's late
// result goes to dispose (nil where there is nothing to dispose of).
func call[T any](ctx context.Context, s *Sink, topic string, f func(*pulsarClient) (T, error), dispose func(T)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	type result struct {
		value T
		err   error
	}
	var none T
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return none, errClosed
	}
	c, err := s.clientLocked(topic)
	if err != nil {
		s.mu.Unlock()
		return none, err
	}
	c.beginLocked()
	var claimed atomic.Bool // by the one of the two that ends first
	ended := make(chan result, 1)
	s.background.Go(func() {
		value, err := f(c)
		s.end(c)
		s.silent.Store(err != nil && lostTouch(err))
		s.noteUnserved(topic, err)
		if claimed.CompareAndSwap(false, true) {
			ended <- result{value, err}
		} else if err == nil && dispose != nil {
			dispose(value)
		}
	})
	s.mu.Unlock()

	select {
	case r := <-ended:
		return r.value, r.err
	case <-ctx.Done():
		if !claimed.CompareAndSwap(false, true) {
			r := <-ended
			return r.value, r.err
		}
		s.silent.Store(true)
		s.replaceSilentClient(c)
		return none, fmt.Errorf("%w: no answer from Pulsar", ctx.Err())
	}
}

// replaceSilentClient makes a new client when calls into c have not come back for so long that it must be stuck: an
// unreachable broker makes them fail, not hang.
func (s *Sink) replaceSilentClient(c *pulsarClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	silent := c.silent()
	if s.closed || s.clients[c.slot] != c || silent < clientSilence {
		return
	}
	s.log.Warn().Stringer("silent", silent.Round(time.Millisecond)).Msg("replace the silent pulsar client")
	s.replaceLocked(c)
}

// replaceLocked makes a new client that knows the hosts of now. The producers of the old one are lost.
func (s *Sink) replaceLocked(old *pulsarClient) {
	fresh, err := s.newClient(old.slot, s.hosts)
	if err != nil {
		s.log.Error().Err(err).Msg("replace the pulsar client")
		return
	}
	s.clients[old.slot] = fresh
	for _, p := range s.producers.all() {
		if p.client == old {
			p.markLost(errReplaced)
		}
	}
	answered := make(chan struct{})
	s.background.Go(func() {
		old.calls.Wait()
		close(answered)
	})
	s.background.Go(func() {
		old.sends.Wait() // their contexts have ended, and nobody begins to send by it any more
		select {
		case <-answered: // a connection that a call makes after the end stays open
		case <-time.After(operationTimeout): // it is stuck, and its end lets them go
		}
		old.Close()
	})
}

// sleep waits for d or until ctx ends, and tells whether it slept.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
