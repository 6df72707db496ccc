package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/apache/pulsar-client-go/pulsar"
	pulsarlog "github.com/apache/pulsar-client-go/pulsar/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// sender is a Writer to a broker, without a database: what an application would do that needs no outbox. All writers share it, so Close does nothing.
type sender interface {
	Writer
	failure() error // why a message was not sent, nil for none
	hangUp()        // ends the connections
}

// sender sends to what has the prefix before a topic's name.
func (f *Field) sender(prefix string) (sender, error) {
	names, body := f.destinations(prefix), fmt.Sprintf(`{"filler": "%s"}`, f.Backlog.filler())
	if f.Admin != "" {
		return newPulsarSender(f, names, []byte(body))
	}
	client, err := f.redis()
	if err != nil {
		return nil, err
	}
	return &redisSender{backlog: f.Backlog, client: client, names: names, body: body}, nil
}

type redisSender struct {
	backlog *Backlog
	client  *redis.Client
	names   []string
	body    string
}

func (s *redisSender) Write(ctx context.Context, first, last int64, sending func()) error {
	pipe := s.client.Pipeline()
	for n := first; n <= last; n++ {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: s.names[n%int64(len(s.names))], Values: []string{"id", s.backlog.id(n), "payload", s.body}})
	}
	sending()
	_, err := pipe.Exec(ctx)
	return err
}

func (s *redisSender) Close(context.Context) error { return nil }

func (s *redisSender) failure() error { return nil } // Write has said it

func (s *redisSender) hangUp() { _ = s.client.Close() } // everything has arrived

// pulsarSender sends each message by itself, and none waits for another.
type pulsarSender struct {
	backlog   *Backlog
	client    pulsar.Client
	producers []pulsar.Producer
	body      []byte

	mu     sync.Mutex
	failed error // guarded by mu
}

func newPulsarSender(f *Field, topics []string, body []byte) (*pulsarSender, error) {
	client, err := pulsar.NewClient(pulsar.ClientOptions{
		URL: f.Broker, Logger: pulsarlog.DefaultNopLogger(), MetricsCardinality: pulsar.MetricsCardinalityNone, MetricsRegisterer: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, fmt.Errorf("make a client of Pulsar: %w", err)
	}
	s := &pulsarSender{backlog: f.Backlog, client: client, body: body}
	for _, topic := range topics {
		producer, err := client.CreateProducer(pulsar.ProducerOptions{Topic: topic, DisableBatching: true})
		if err != nil {
			client.Close()
			return nil, fmt.Errorf("make a producer: %w", err)
		}
		s.producers = append(s.producers, producer)
	}
	return s, nil
}

func (s *pulsarSender) Write(ctx context.Context, first, last int64, sending func()) error {
	sending()
	for n := first; n <= last; n++ {
		message := &pulsar.ProducerMessage{Payload: s.body, Key: strconv.FormatInt(n%int64(s.backlog.Keys), 10), Properties: map[string]string{"id": s.backlog.id(n)}}
		s.producers[n%int64(len(s.producers))].SendAsync(ctx, message, func(_ pulsar.MessageID, _ *pulsar.ProducerMessage, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.failed == nil {
				s.failed = err
			}
		})
	}
	return s.failure()
}

func (s *pulsarSender) Close(context.Context) error { return nil }

func (s *pulsarSender) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *pulsarSender) hangUp() { s.client.Close() }
