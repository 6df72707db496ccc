package bench

import (
	"context"
	"errors"
	"time"
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
	l.Tool, l.Memory = name, MemoryOf(d.pid())
	return l, nil
}

func direct(ctx context.Context, f *Field, p *Pace) (l Latency, err error) {
	prefix := f.Name + "-" + Direct + "-"
	reader, err := f.reader(prefix)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, reader.Delete(context.WithoutCancel(ctx)), reader.Close()) }()
	s, err := f.sender(prefix)
	if err != nil {
		return l, err
	}
	defer s.hangUp()
	p.Broker, p.Ended = reader, s.failure
	p.Writer = func(context.Context) (Writer, error) { return s, nil }
	l, err = p.Run(ctx)
	l.Tool = Direct
	return l, err
}
