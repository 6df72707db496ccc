package pulsar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/outboxd/outboxd/sink"
)

// Sink publishes to Apache Pulsar. Make it with New. All methods may be called at once, but Publish and Tail never for
// one destination at a time, as package sink says.
type Sink struct {
	cfg     Config
	options client.ClientOptions
	log     zerolog.Logger
	heard   *overheard
	admin   *http.Client
	process string // part of the producers' names

	pending *semaphore.Weighted // bytes that wait for an acknowledgement; cfg.PendingBytes in all
	silent  atomic.Bool         // the last call into the client brought no answer, there was none yet, or a connection was lost since
	lastAck atomic.Int64        // when any destination was last acknowledged, in nanoseconds since 1970

	background sync.WaitGroup // calls into the client and producers being closed, which nobody may wait for any more

	mu        sync.Mutex                 // guards the fields below; never held across I/O
	clients   [clientCount]*pulsarClient // each for a part of the namespaces; nil: not needed yet
	hosts     []string                   // of the service URL, which the clients know
	producers producers
	unserved  map[string]string // of each namespace that has no broker, as far as is known, the topic that was looked up last; unservedMost at most
	closed    bool
}

var _ sink.Sink = (*Sink)(nil)

// New returns a Sink. It reads the token, certificate and CA files, and connects to nothing: the brokers need not be up.
// The error names every problem of cfg.
func New(cfg Config, log zerolog.Logger) (*Sink, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure sink pulsar: %w", err)
	}
	// The client's own fields are not used: they check the certificate of each broker against the host of the service URL, which is wrong as soon
	// as there are two brokers. Without a ServerName, crypto/tls takes the host that is dialled.
	tlsConfig, err := cfg.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("configure sink pulsar: %w", err)
	}
	authentication, err := cfg.authentication()
	if err != nil {
		return nil, fmt.Errorf("configure sink pulsar: %w", err)
	}
	s := &Sink{
		cfg:       cfg,
		log:       log,
		heard:     &overheard{},
		admin:     &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Second}},
		process:   processName(),
		pending:   semaphore.NewWeighted(cfg.PendingBytes),
		producers: newProducers(),
		unserved:  make(map[string]string),
	}
	s.silent.Store(true)
	s.options = s.clientOptions(tlsConfig, authentication)
	s.hosts, err = s.serviceHosts()
	if err == nil {
		s.clients[0], err = s.newClient(0, s.hosts) // which fails where the settings are wrong
	}
	if err != nil {
		return nil, fmt.Errorf("configure sink pulsar: %w", err)
	}
	return s, nil
}

// Publish sends each destination's messages as one broker entry, several where they are larger than the broker or the
// memory allows; the next entry leaves when the one before was acknowledged. Destinations progress independently of
// each other.
func (s *Sink) Publish(ctx context.Context, batch []sink.Message) []error {
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	groups := groupByDestination(batch)
	failures := make([]failure, len(groups))
	var wg sync.WaitGroup
	for i := range groups[1:] {
		wg.Go(func() { failures[i+1] = s.publish(ctx, groups[i+1]) })
	}
	failures[0] = s.publish(ctx, groups[0])
	wg.Wait()
	s.blameBroker(ctx, errorsOf(failures)...)

	var results []error
	for i, f := range failures {
		if f.err == nil {
			continue
		}
		if results == nil {
			results = make([]error, len(batch))
		}
		f.fill(results, groups[i].at)
	}
	return results
}

// group is one destination's part of a batch.
type group struct {
	destination string
	messages    []*sink.Message
	at          []int // where each stands in the batch
}

func groupByDestination(batch []sink.Message) []group {
	groups := make([]group, 0, 1)
	index := make(map[string]int, 1)
	for i := range batch {
		m := &batch[i]
		g, ok := index[m.Destination]
		if !ok {
			g = len(groups)
			index[m.Destination] = g
			groups = append(groups, group{destination: m.Destination})
		}
		groups[g].messages = append(groups[g].messages, m)
		groups[g].at = append(groups[g].at, i)
	}
	return groups
}

// publish sends one destination's messages, entry by entry.
func (s *Sink) publish(ctx context.Context, g group) failure {
	p, err := s.acquire(g.destination)
	if err != nil {
		// The fate is given as unknown although nothing was sent: it is what makes the lane read the tail.
		return failure{doubtful: len(g.messages), err: unknown(err)}
	}
	defer p.client.sends.Done()
	landed := 0
	for landed < len(g.messages) {
		rest := g.messages[landed:]
		n, size := s.splitter(p).next(rest)
		if n == 0 {
			s.release(p)
			err := fmt.Errorf("message of %d bytes for %s is larger than the limit of %d bytes", rest[0].Size(), g.destination, s.maxMessageSize())
			return failure{landed, 1, known(sink.Rejected, err)}
		}
		sent, failed := s.sendEntry(ctx, p, rest[:n], size)
		landed += sent
		if failed != nil {
			s.finish(p, failed)
			failed.Err = fmt.Errorf("publish to %s: %w", g.destination, failed.Err)
			return failure{landed, doubt(failed, n-sent), failed}
		}
	}
	s.release(p)
	return failure{}
}

// doubt is how many messages an error is about: with a known fate it is the first one's.
func doubt(err *sink.Error, rest int) int {
	if err.FateKnown {
		return 1
	}
	return rest
}

// finish gives the producer back after a failed entry. One whose entry has an unknown fate is closed.
func (s *Sink) finish(p *producer, failed *sink.Error) {
	if failed.FateKnown {
		s.release(p)
		return
	}
	s.log.Debug().Str("topic", p.topic).Err(failed.Err).Msg("close producer after a batch of unknown fate")
	s.retireDoubtful(p)
}

// maxMessageSize is the largest message that may be sent, by the configuration and the broker's word.
func (s *Sink) maxMessageSize() int64 {
	limit := s.brokerLimit()
	if s.cfg.MaxMessageBytes > 0 {
		limit = min(limit, s.cfg.MaxMessageBytes)
	}
	return limit
}

// brokerLimit is the size above which the broker would refuse an entry.
func (s *Sink) brokerLimit() int64 {
	limit := s.heard.maxMessageSize.Load()
	if limit == 0 {
		limit = defaultMaxMessageSize
	}
	if s.cfg.Compression != CompressionNone {
		limit -= limit / compressionSlack
	}
	return limit
}

// splitter returns how entries are cut now. The client keeps a buffer of the largest entry for each producer, so with
// many producers entries are smaller.
func (s *Sink) splitter(p *producer) splitter {
	s.mu.Lock()
	open := int64(max(1, s.producers.len()))
	refused, limited := s.producers.entryLimit[p.topic]
	s.mu.Unlock()
	broker := s.brokerLimit()
	entry := int(min(broker, max(s.cfg.PendingBytes/open, minEntryBytes)))
	if limited {
		entry = min(entry, refused)
	}
	return splitter{maxMessage: s.cfg.MaxMessageBytes, broker: int(broker), entry: entry, oneKey: s.cfg.EntryPerKey}
}

// Close closes the producers, so that their topics are free for others, and the connections. It returns ctx's error when
// that takes longer; the rest then ends by itself.
func (s *Sink) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for _, p := range s.producers.all() {
		s.retireLocked(p, false)
	}
	clients := s.clients
	s.mu.Unlock()

	done := make(chan struct{})
	go func() {
		defer close(done)
		s.background.Wait()
		for _, c := range clients {
			if c != nil {
				c.Close()
			}
		}
		s.admin.CloseIdleConnections()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close sink pulsar: %w", errors.Join(ctx.Err(), errors.New("producers or connections are still closing")))
	}
}
