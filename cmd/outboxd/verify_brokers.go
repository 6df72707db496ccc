package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/sink/pulsar"
	"github.com/outboxd/outboxd/sink/redis"
	"github.com/outboxd/outboxd/wal"
)

const (
	verifyFirstLook = 15 * time.Second // at the destinations of one sink, before anything is written
	verifyLastLook  = 10 * time.Minute // at everything that has arrived there
	verifyRemoval   = 30 * time.Second // of one destination
)

// verifyBroker is a sink's broker, seen from its other side.
type verifyBroker struct {
	sink   string
	names  []string // of the destinations
	reader workload.Reader
	remove func(ctx context.Context, name string) error // nil where it cannot be done
	hangUp func(context.Context) error
}

// openBrokers connects to each broker and reads what lies there already, so that a fault shows before anything is written.
func (v *verifier) openBrokers(ctx context.Context) error {
	logging.Disable() // the client would write over the progress
	names := map[string][]string{}
	var sinks []string
	for _, p := range v.allPlaces() {
		if names[p.Sink] == nil {
			sinks = append(sinks, p.Sink)
		}
		names[p.Sink] = append(names[p.Sink], p.Destination)
	}
	for _, sink := range sinks {
		b, err := openBroker(sink, v.cfg.Sinks[sink], "outboxd-verify-"+v.id, names[sink])
		if err != nil {
			return fmt.Errorf("open sink %s: %w", sink, err)
		}
		v.brokers = append(v.brokers, b)
		looking, cancel := context.WithTimeout(ctx, verifyFirstLook)
		err = b.reader.ReadAll(looking, func(workload.Received) {})
		cancel()
		if err != nil {
			return fmt.Errorf("nothing was written, as sink %s cannot be read: %w", sink, err)
		}
	}
	return nil
}

// openBroker makes the clients of a sink's broker, as one that calls itself by the name.
func openBroker(sink string, c config.Sink, name string, names []string) (*verifyBroker, error) {
	b := &verifyBroker{sink: sink, names: names}
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

// readAll reads everything once more, from the beginning, into a new audit.
func (v *verifier) readAll(ctx context.Context) (*workload.Audit, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyLastLook)
	defer cancel()
	audit := v.newAudit()
	for _, b := range v.brokers {
		if err := b.reader.ReadAll(ctx, func(r workload.Received) { audit.Add(b.sink, r) }); err != nil {
			return nil, fmt.Errorf("read everything back from sink %s: %w", b.sink, err)
		}
	}
	return audit, nil
}

// removeDestinations deletes the streams and topics that bear the id, and says what stays.
func (v *verifier) removeDestinations(ctx context.Context) (removed int, left []string) {
	for _, b := range v.brokers {
		for _, name := range b.names {
			switch {
			case !strings.Contains(name, v.id):
				left = append(left, b.sink+" "+name+": it is not verify's alone, and its entries stay")
			case b.remove == nil:
				left = append(left, b.sink+" "+name+": it can be deleted where sinks."+b.sink+".admin_url is set")
			default:
				removing, cancel := context.WithTimeout(ctx, verifyRemoval)
				err := b.remove(removing, name)
				cancel()
				if err != nil {
					left = append(left, b.sink+" "+name+": "+err.Error())
					continue
				}
				removed++
			}
		}
	}
	return removed, left
}

// close ends the connections.
func (v *verifier) close(ctx context.Context) error {
	var failed []error
	for _, b := range v.brokers {
		failed = append(failed, b.reader.Close())
		closing, cancel := context.WithTimeout(ctx, closeLimit)
		failed = append(failed, b.hangUp(closing))
		cancel()
	}
	if v.conn != nil {
		failed = append(failed, wal.CloseConn(ctx, v.conn))
	}
	return errors.Join(failed...)
}
