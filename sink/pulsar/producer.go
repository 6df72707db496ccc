package pulsar

import (
	"container/list"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/backoff"

	"github.com/outboxd/outboxd/sink"
)

// producer is the exclusive producer of one destination. While it lives, and its connection does, nobody else
// writes to the topic.
type producer struct {
	client.Producer
	client   *pulsarClient // of which it is one
	topic    string
	lost     context.Context // done when the connection was lost: the broker may have given the topic to another
	markLost context.CancelCauseFunc

	busy       bool          // a Publish uses it; guarded by Sink.mu
	largest    int64         // bytes of its largest entry, which the client keeps a buffer of; guarded by Sink.mu
	in         *list.List    // producers.fresh or producers.recent
	recentness *list.Element // its place there
}

// producers is the set of those that are open, and of those that are closing. It is guarded by Sink.mu.
type producers struct {
	open       map[string]*producer
	fresh      *list.List // of *producer: nothing was published since their tails were read, the newest in front; freshMost at most
	recent     *list.List // of *producer: all others, the one used last in front; Config.MaxProducers at most
	closing    map[string]chan struct{}
	settling   map[string]time.Duration // how long each topic's end must stand still before it is read; absent: settledUnknown
	retired    map[string]string        // name of the producer of each topic without an open one that was closed or refused last; rememberedMost at most
	entryLimit map[string]int           // bytes above which a topic has refused entries; absent where it has not in this session
	buffered   int64                    // sum of producer.largest
}

func newProducers() producers {
	return producers{
		open:       make(map[string]*producer),
		fresh:      list.New(),
		recent:     list.New(),
		closing:    make(map[string]chan struct{}),
		settling:   make(map[string]time.Duration),
		retired:    make(map[string]string),
		entryLimit: make(map[string]int),
	}
}

func (ps *producers) len() int { return len(ps.open) }

// all returns those that are open, in a slice of their own: one that is retired leaves the set.
func (ps *producers) all() []*producer {
	return slices.Collect(maps.Values(ps.open))
}

// freshMost is how many producers stay open, besides the others, that have published nothing yet. A tail is read to publish, and where more topics are in use
// than producers stay open, the one that was made for a publish would be closed before it.
const freshMost = 64

func (ps *producers) add(p *producer) {
	ps.open[p.topic] = p
	delete(ps.retired, p.topic)
	p.in, p.recentness = ps.fresh, ps.fresh.PushFront(p)
	if ps.fresh.Len() > freshMost {
		ps.use(ps.fresh.Back().Value.(*producer)) //nolint:forcetypeassert // nothing else is in the list
	}
}

// use notes that the producer is the one that was used last.
func (ps *producers) use(p *producer) {
	p.in.Remove(p.recentness)
	p.in, p.recentness = ps.recent, ps.recent.PushFront(p)
}

func (ps *producers) remove(p *producer) {
	if ps.open[p.topic] != p {
		return
	}
	delete(ps.open, p.topic)
	p.in.Remove(p.recentness)
	ps.buffered -= p.largest
}

// demanded is how long the topic's end must stand still before it is read.
func (ps *producers) demanded(topic string) time.Duration {
	if d, known := ps.settling[topic]; known {
		return d
	}
	return settledUnknown
}

// demand makes the topic's end stand still for so long before it is read, unless it must for longer: what an older producer left behind is not
// settled by the clean end of one that came after it.
func (ps *producers) demand(topic string, d time.Duration) {
	if d = max(ps.demanded(topic), d); d == settledUnknown {
		delete(ps.settling, topic)
		return
	}
	ps.settling[topic] = d
}

// rememberedMost is of how many topics something is remembered that may be forgotten.
const rememberedMost = 1 << 14

// settled notes that the topic's end has stood still for as long as it must.
func (ps *producers) settled(topic string) {
	if len(ps.settling) >= rememberedMost {
		ps.forgetSettled()
	}
	ps.settling[topic] = 0
}

// forgetSettled lets each end that is settled stand still for settledUnknown once more. What must stand still for longer is not forgotten, however many ends do.
func (ps *producers) forgetSettled() {
	maps.DeleteFunc(ps.settling, func(_ string, d time.Duration) bool { return d == 0 })
}

// retire remembers the name of a producer that was closed or refused. Of too many any other one is forgotten: where the broker holds that one still, a Probe
// takes its topic for one that we produce to, and the next Tail cuts it off.
func (ps *producers) retire(topic, name string) {
	ps.retired[topic] = name
	for other := range ps.retired {
		if len(ps.retired) <= rememberedMost {
			return
		}
		if other != topic {
			delete(ps.retired, other)
		}
	}
}

// BeginSession lets the end of every topic stand still before it is read, also behind a clean end of our last producer: another instance may have
// had the topic since, and been killed. The sizes that topics have refused are forgotten, and the brokers' own limit is that of the next handshake: somebody may have
// raised them.
func (s *Sink) BeginSession() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.producers.entryLimit)
	s.heard.sizeIsOld.Store(true)
	s.producers.forgetSettled()
}

// acquire returns the destination's producer for one Publish, which is one of the sends of its client from then on.
func (s *Sink) acquire(destination string) (*producer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.producers.open[destination]
	switch {
	case s.closed:
		return nil, errClosed
	case p == nil:
		return nil, fmt.Errorf("publish to %s: %w", destination, sink.ErrTailUnread)
	case p.lost.Err() != nil:
		s.retireLocked(p, false)
		return nil, fmt.Errorf("publish to %s: %w: %w", destination, sink.ErrTailUnread, context.Cause(p.lost))
	}
	p.busy = true
	p.client.sends.Add(1)
	s.producers.use(p)
	return p, nil
}

// release gives the producer back after a Publish, and closes others when there are too many.
func (s *Sink) release(p *producer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.busy = false
	s.evictLocked()
}

// evictLocked closes the producers that were idle longest while there are too many of them or of their buffers.
func (s *Sink) evictLocked() {
	for e := s.producers.recent.Back(); e != nil && e != s.producers.recent.Front(); {
		if s.producers.recent.Len() <= s.cfg.MaxProducers && s.producers.buffered <= 4*s.cfg.PendingBytes {
			return
		}
		p := e.Value.(*producer) //nolint:forcetypeassert // nothing else is in the list
		e = e.Prev()
		if !p.busy {
			s.log.Debug().Str("topic", p.topic).Msg("close the producer that was idle longest")
			s.retireLocked(p, false)
		}
	}
}

// noteEntry remembers the size of the producer's largest entry.
func (s *Sink) noteEntry(p *producer, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size > p.largest {
		s.producers.buffered += size - p.largest
		p.largest = size
	}
}

// retireDoubtful closes a producer of which an entry has an unknown fate.
func (s *Sink) retireDoubtful(p *producer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retireLocked(p, true)
}

// retireLocked closes the producer in the background: closing asks the broker, and waits for an answer. doubtful says that an entry of it has an unknown fate.
func (s *Sink) retireLocked(p *producer, doubtful bool) {
	s.producers.remove(p)
	s.producers.retire(p.topic, p.Name())
	closed := make(chan struct{})
	s.producers.closing[p.topic] = closed
	s.background.Go(func() {
		began := time.Now()
		s.closeProducer(p)
		settling := settledAfter(doubtful || p.lost.Err() != nil, time.Since(began))
		p.markLost(errClosed)
		s.mu.Lock()
		s.producers.demand(p.topic, settling)
		s.mu.Unlock()
		s.doneClosing(p.topic, closed)
	})
}

func (s *Sink) closeProducer(p client.Producer) {
	p.Close()
	s.heard.forget(p.Name())
}

// doneClosing says that a producer of the topic is closed.
func (s *Sink) doneClosing(topic string, closed chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.producers.closing[topic] == closed {
		delete(s.producers.closing, topic)
	}
	close(closed)
}

// The broker writes what it has received before it lets go of a producer that is closed, but not when the producer's connection
// breaks, which may be while it is being closed: what was under way then lands behind the end that is read too soon. So the end must stand still
// for a while: not at all after a clean end, longer after a broker hung, whose writes may have timed out and be repeated.
const (
	settledUnknown = 200 * time.Millisecond
	settledHung    = 2 * time.Second
	hung           = time.Second // a broker that lives closes a producer in less
)

// settledAfter is how long the end must stand still after a producer was closed in so much time. Something may have been under way where its
// connection was lost, or where it left a fate unknown.
func settledAfter(underWay bool, closing time.Duration) time.Duration {
	switch {
	case closing >= hung:
		return settledHung
	case underWay:
		return settledUnknown
	default:
		return 0
	}
}

// retireOwn closes our producer of the topic, if there is one, and waits until none is closing.
func (s *Sink) retireOwn(ctx context.Context, topic string) error {
	s.mu.Lock()
	if p := s.producers.open[topic]; p != nil {
		s.retireLocked(p, false)
	}
	s.mu.Unlock()
	return s.awaitClosing(ctx, topic)
}

// awaitClosing waits until no producer of ours is closing.
func (s *Sink) awaitClosing(ctx context.Context, topic string) error {
	s.mu.Lock()
	closing := s.producers.closing[topic]
	s.mu.Unlock()
	if closing == nil {
		return nil
	}
	select {
	case <-closing:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close our own producer: %w: no answer from Pulsar", ctx.Err())
	}
}

// never is later than any process lives: the client has timers that cannot be turned off.
const never = 365 * 24 * time.Hour

// create makes an exclusive producer, or fails when another producer has the topic.
func (s *Sink) create(ctx context.Context, topic string) (*producer, error) {
	if err := s.isServed(ctx, topic); err != nil {
		return nil, err
	}
	lost, markLost := context.WithCancelCause(context.Background())
	options := s.producerOptions(topic, func() {
		s.silent.Store(true) // the next call looks first whether anybody listens
		markLost(errLost)
	})
	made, err := call(ctx, s, topic, func(c *pulsarClient) (*producer, error) {
		p, err := c.CreateProducer(options)
		return &producer{Producer: p, client: c, topic: topic, lost: lost, markLost: markLost}, err
	}, func(p *producer) { s.closeProducer(p) })
	if err != nil {
		markLost(err)
		s.noteRefused(topic, options.Name, err)
		return nil, err
	}
	return made, nil
}

// noteRefused remembers the name of a producer that could not be made though nobody else had the topic: the broker may hold it all the same.
func (s *Sink) noteRefused(topic, name string, err error) {
	if isHeld(err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.producers.retire(topic, name)
}

// producerOptions returns options with which the client sends what it is given as one batch, once: the limits of a
// batch are out of reach, its timer never fires, and a lost connection is not made again. lost is called when that happens.
func (s *Sink) producerOptions(topic string, lost func()) client.ProducerOptions {
	reconnect := uint(0)
	return client.ProducerOptions{
		Topic:              topic,
		Name:               s.producerName(),
		ProducerAccessMode: client.ProducerAccessModeExclusive,
		CompressionType:    compressionType(s.cfg.Compression),

		MaxPendingMessages:      sink.MaxBatch,
		BatchingMaxMessages:     sink.MaxBatch,
		BatchingMaxSize:         1 << 30,
		BatchingMaxPublishDelay: never,
		SendTimeout:             -1, // sendEntry watches

		// The client makes a backoff policy at the beginning of each reconnection, before it looks at the number of attempts. It is
		// the only sign of a lost connection that it gives: with 0 attempts what is pending would wait for ever.
		MaxReconnectToBroker: &reconnect,
		BackOffPolicyFunc: func() backoff.Policy {
			lost()
			return backoff.NewDefaultBackoff()
		},
		PartitionsAutoDiscoveryInterval: never,
		DisableMultiSchema:              true,
	}
}

func compressionType(name string) client.CompressionType {
	switch name {
	case CompressionLZ4:
		return client.LZ4
	case CompressionZSTD:
		return client.ZSTD
	case CompressionZLib:
		return client.ZLib
	default:
		return client.NoCompression
	}
}

// nameEnd stands between Config.Name and the rest of a producer's name.
const nameEnd = "@"

// producerName says who holds a topic, in the error that another producer gets: "outboxd@HOST:PID:RANDOM". Each producer's name is its
// own: a broker refuses two of one name, and keeps the last sequence id of each where it removes duplicates.
func (s *Sink) producerName() string {
	random := make([]byte, 6)
	_, _ = rand.Read(random) // never fails, as crypto/rand says
	return s.cfg.Name() + nameEnd + s.process + hex.EncodeToString(random)
}

// processName returns "HOST:PID:".
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return fmt.Sprintf("%s:%d:", host, os.Getpid())
}
