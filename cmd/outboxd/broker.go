package main

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/sink/pulsar"
	"github.com/outboxd/outboxd/sink/redis"
)

// broker is a sink's broker, seen from its other side.
type broker struct {
	sink   string
	names  []string // of the destinations
	reader workload.Reader
	remove func(ctx context.Context, name string) error // nil where it cannot be done
	hangUp func(context.Context) error
}

// openBroker makes the clients of a sink's broker, as one that calls itself by the name.
func openBroker(sink string, c config.Sink, name string, names []string) (*broker, error) {
	b := &broker{sink: sink, names: names}
	if c.Redis != nil {
		s, err := redis.New(redisConfig(c.Redis))
		if err != nil {
			return nil, err
		}
		b.hangUp = s.Close
		client, err := s.Client()
		if err != nil {
			return nil, errors.Join(err, s.Close(context.Background()))
		}
		b.reader = workload.NewRedisReaderOn(client, names...)
		b.remove = func(ctx context.Context, name string) error { return client.Del(ctx, name).Err() }
		return b, nil
	}
	s, err := pulsar.New(pulsarConfig(c.Pulsar, func() string { return name }), zerolog.Nop())
	if err != nil {
		return nil, err
	}
	b.hangUp = s.Close
	if b.reader, err = workload.NewPulsarReaderWith(s.ClientOptions(), workload.PulsarTopics{Names: names, AdminURL: c.Pulsar.AdminURL.Reveal()}); err != nil {
		return nil, errors.Join(err, s.Close(context.Background()))
	}
	if !c.Pulsar.AdminURL.Empty() {
		b.remove = s.Remove
	}
	return b, nil
}
