package pulsar

import (
	"context"
	"crypto/tls"
	"fmt"
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
	sends sync.WaitGroup // Publishes that use a producer of it
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
		MaxConnectionsPerBroker: 1,  // order between a producer's close and the next one's begin needs no more
		MemoryLimitBytes:        -1, // Sink.pending is the limit; the client's own would block in the middle of an entry
		MetricsCardinality:      client.MetricsCardinalityNone,
		MetricsRegisterer:       prometheus.NewRegistry(), // not the process's default one
		Description:             "outboxd",
	}
}

// newClient makes a client that knows these hosts of the service URL. It has a log of its own: each client numbers its producers from one.
func (s *Sink) newClient(hosts []string) (*pulsarClient, error) {
	options := s.options
	scheme, _, _ := strings.Cut(s.cfg.URL, "://")
	options.URL = scheme + "://" + strings.Join(hosts, ",")
	options.Logger = clientLogger{log: s.log, heard: s.heard, client: new(byte)}
	c, err := client.NewClient(options)
	if err != nil {
		return nil, err
	}
	return &pulsarClient{Client: c}, nil
}

// call runs f, which takes no context, and returns when it ends, ctx does or Config.Timeout is over. When that is first, f's late
// result goes to dispose (nil where there is nothing to dispose of).
func call[T any](ctx context.Context, s *Sink, f func(*pulsarClient) (T, error), dispose func(T)) (T, error) {
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
	c := s.client
	var claimed atomic.Bool // by the one of the two that ends first
	ended := make(chan result, 1)
	s.background.Go(func() {
		value, err := f(c)
		s.noteAnswer(c)
		s.silent.Store(err != nil && lostTouch(err))
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

func (s *Sink) noteAnswer(c *pulsarClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == c {
		s.answered = time.Now()
	}
}

// replaceSilentClient makes a new client when calls into c have not come back for so long that it must be stuck: an
// unreachable broker makes them fail, not hang.
func (s *Sink) replaceSilentClient(c *pulsarClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.client != c || time.Since(s.answered) < clientSilence {
		return
	}
	s.log.Warn().Stringer("silent", time.Since(s.answered).Round(time.Millisecond)).Msg("replace the silent pulsar client")
	s.replaceLocked(s.hosts)
}

// replaceLocked makes a new client that knows these hosts. The producers of the old one are lost.
func (s *Sink) replaceLocked(hosts []string) {
	fresh, err := s.newClient(hosts)
	if err != nil {
		s.log.Error().Err(err).Msg("replace the pulsar client")
		return
	}
	old := s.client
	s.client, s.hosts, s.answered = fresh, hosts, time.Now()
	for _, p := range s.producers.all() {
		p.markLost(errReplaced)
	}
	s.background.Go(func() {
		old.sends.Wait() // their contexts have ended, and nobody begins to send by it any more
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
