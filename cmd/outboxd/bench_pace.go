package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/bench"
)

// pace lets outboxd deliver events as they are written, and measures how long each takes.
func (b *bencher) pace(ctx context.Context) (err error) {
	child, err := b.start(ctx, b.profileFlags()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, child.stop()) }()
	if err := child.waitReady(ctx); err != nil {
		return err
	}
	began, before := time.Now(), bench.Known(bench.CPU(int(child.pid.Load())))
	b.say("writing %g events a second for %s", b.o.rate, b.o.duration)
	showing := b.app.newProgress("events arrived", b.result.Load.Rows, b.o.output.value)
	defer showing.end()
	p := bench.Pace{
		Backlog: b.backlog, Broker: b.counter(), Rate: b.o.rate, For: b.o.duration, Ended: child.failure, Seen: showing.set,
		Connect: func(ctx context.Context) (*pgx.Conn, error) { return connect(ctx, b.cfg, nil) },
	}
	l, err := p.Run(ctx)
	if err != nil {
		return err
	}
	if used := bench.Used(before, bench.Known(bench.CPU(int(child.pid.Load())))); used != nil {
		l.Cores = used.Seconds() / time.Since(began).Seconds()
	}
	l.PeakMemory = bench.PeakMemory(int(child.pid.Load()))
	b.result.Latency, b.result.Load.Rows = &l, b.backlog.Rows
	return nil
}
