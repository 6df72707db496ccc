package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	pulsarlog "github.com/apache/pulsar-client-go/pulsar/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Direct is the name of the rival that needs no outbox: the broker's own client, by which events are sent at the rate.
const Direct = "direct"

// LatencyTools are the tools whose latency can be measured, by name. They set the pace's Broker, Ended, Writer and CPU.
var LatencyTools = map[string]func(context.Context, *Field, *Pace) (Latency, error){
	Direct: direct,
	"debezium": func(ctx context.Context, f *Field, p *Pace) (Latency, error) {
		return raceDebezium(ctx, f, p, "debezium", "512m")
	},
	"debezium-128m": func(ctx context.Context, f *Field, p *Pace) (Latency, error) {
		return raceDebezium(ctx, f, p, "debezium-128m", "128m")
	},
}

// javaWarmUp is how long a program of Java needs to start and to become as fast as it will be.
const javaWarmUp = 30 * time.Second

func raceDebezium(ctx context.Context, f *Field, p *Pace, name, heap string) (l Latency, err error) {
	d, err := startDebezium(ctx, f, name, heap)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	p.CPU = func() *time.Duration { return Known(CPU(d.pid())) }
	p.Broker, p.Ended, p.WarmUp = d.broker, d.failure, javaWarmUp
	if l, err = p.Run(ctx); err != nil {
		return l, d.explain(err)
	}
	l.Tool, l.PeakMemory = name, PeakMemory(d.pid())
	return l, nil
}

func direct(ctx context.Context, f *Field, p *Pace) (l Latency, err error) {
	prefix := f.Name + "-" + Direct + "-"
	reader, err := f.reader(prefix)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, reader.Delete(context.WithoutCancel(ctx)), reader.Close()) }()
	w, failed, hangUp, err := f.directWriter(prefix)
	if err != nil {
		return l, err
	}
	defer hangUp()
	p.Broker, p.Ended = reader, failed
	p.Writer = func(context.Context) (Writer, error) { return w, nil }
	l, err = p.Run(ctx)
	l.Tool = Direct
	return l, err
}

// directWriter returns a Writer that sends to the broker, why a message was not sent, and what ends its connections.
func (f *Field) directWriter(prefix string) (w Writer, failed func() error, hangUp func(), err error) {
	b := f.Backlog
	body := fmt.Sprintf(`{"filler": "%s"}`, b.filler())
	if f.Admin == "" {
		options, err := redis.ParseURL(f.Broker)
		if err != nil {
			return nil, nil, nil, errors.New("read the URL of Redis: it is no URL")
		}
		client := redis.NewClient(options)
		w := &redisWriter{backlog: b, client: client, body: body}
		for i := range b.Topics {
			w.names = append(w.names, prefix+TopicName(i))
		}
		return w, func() error { return nil }, func() { _ = client.Close() }, nil // everything has arrived
	}
	client, err := pulsar.NewClient(pulsar.ClientOptions{
		URL: f.Broker, Logger: pulsarlog.DefaultNopLogger(), MetricsCardinality: pulsar.MetricsCardinalityNone, MetricsRegisterer: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make a client of Pulsar: %w", err)
	}
	sender := &pulsarWriter{backlog: b, body: []byte(body)}
	for i := range b.Topics {
		producer, err := client.CreateProducer(pulsar.ProducerOptions{Topic: "persistent://public/default/" + prefix + TopicName(i), DisableBatching: true})
		if err != nil {
			client.Close()
			return nil, nil, nil, fmt.Errorf("make a producer: %w", err)
		}
		sender.producers = append(sender.producers, producer)
	}
	return sender, sender.failure, client.Close, nil
}
