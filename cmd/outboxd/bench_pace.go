package main

import (
	"context"
	"errors"
	"time"

	"github.com/outboxd/outboxd/internal/bench"
	"github.com/outboxd/outboxd/internal/workload"
)

// paceWarmUp is how long outboxd delivers before it is measured.
const paceWarmUp = time.Second

// pace lets outboxd deliver events as they are written, and measures how long each takes; then the rivals do.
func (b *bencher) pace(ctx context.Context) error {
	if err := b.paceOutboxd(ctx, "outboxd", b.counter(), nothing); err != nil {
		return err
	}
	if b.o.failing > 0 {
		return b.paceBesideFailing(ctx)
	}
	for _, name := range b.o.against {
		err := b.paceRival(ctx, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.leaveOut(name, err)
		}
	}
	return nil
}

// warmUp is longer where the first of two runs is compared with the second, for which it has warmed up the servers.
func (b *bencher) warmUp() time.Duration {
	if b.o.failing > 0 && len(b.result.Latencies) == 0 {
		return b.o.duration
	}
	return paceWarmUp
}

// newPace is a pace that lacks its broker.
func (b *bencher) newPace(seen func(int)) *bench.Pace {
	return &bench.Pace{
		Backlog: b.backlog, Rate: b.o.rate, WarmUp: b.warmUp(), For: b.o.duration, Seen: seen,
		Writer: func(ctx context.Context) (bench.Writer, error) {
			conn, err := connect(ctx, b.cfg, nil)
			if err != nil {
				return nil, err
			}
			return bench.NewDatabaseWriter(ctx, b.backlog, conn)
		},
	}
}

func nothing(context.Context, *supervised) error { return nil }

// paceOutboxd measures outboxd, of which the reader sees what is to arrive. The check is made while it still runs.
func (b *bencher) paceOutboxd(ctx context.Context, name string, reader workload.Reader, check func(context.Context, *supervised) error) (err error) {
	child, err := b.start(ctx, b.profileFlags()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, child.stop()) }()
	if err := child.waitReady(ctx, readyTimeout); err != nil {
		return err
	}
	used := func() *time.Duration { return bench.Known(bench.CPU(int(child.pid.Load()))) }
	b.say("writing %g events a second for %s", b.o.rate, b.o.duration)
	showing := b.app.newProgress("events arrived", b.result.Load.Rows, b.o.output.value)
	defer showing.end()
	p := b.newPace(showing.set)
	p.Broker, p.Ended, p.CPU = reader, child.failure, used
	l, err := p.Run(ctx)
	if err != nil {
		return err
	}
	if err := check(ctx, child); err != nil {
		return err
	}
	l.Tool, l.Memory = name, bench.MemoryOf(int(child.pid.Load()))
	b.result.Latencies, b.result.Load.Rows = append(b.result.Latencies, l), b.backlog.Rows
	return nil
}

func (b *bencher) paceRival(ctx context.Context, name string) error {
	showing := b.app.newProgress("events arrived by "+name, b.result.Load.Rows, b.o.output.value)
	defer showing.end()
	l, err := bench.LatencyTools[name](ctx, b.field(func(int64) {}), b.newPace(showing.set))
	if err != nil {
		return err
	}
	b.result.Latencies = append(b.result.Latencies, l)
	return nil
}
