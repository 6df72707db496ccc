package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/internal/bench"
)

// interruptible is a server that can be away for a while.
type interruptible interface {
	Interrupt() (resume func(context.Context) error, err error)
}

// drainSpilled writes the backlog once more while the broker is away, waits until outboxd has parked all of it, and measures from the broker's
// return. Its speed is compared with that of the run from the log.
func (b *bencher) drainSpilled(ctx context.Context, log bench.Run) (err error) {
	if err := b.empty(ctx); err != nil { // of the events before
		return err
	}
	resume, err := b.server.Interrupt()
	if err != nil {
		return err
	}
	if err := b.write(ctx); err != nil {
		return err
	}
	from, err := b.look(ctx)
	if err != nil {
		return err
	}
	child, err := b.start(ctx, "--set", "outage.max_retained_wal=16MiB")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, child.stop()) }()
	if err := b.awaitSpilled(ctx, child); err != nil {
		return err
	}
	parked := time.Since(from.began)
	from.tool = bench.Known(bench.CPU(int(child.pid.Load())))
	if from.backends, err = bench.LookAtBackends(ctx, b.conn, b.schema); err != nil {
		return err
	}
	if err := resume(ctx); err != nil {
		return err
	}
	from.began = time.Now()
	if err := b.redial(ctx); err != nil {
		return err
	}
	from.broker = bench.Known(b.counter().CPU(ctx))
	run, err := b.watch(ctx, bench.Spilled, child, from)
	if err != nil {
		return err
	}
	b.result.Runs = append(b.result.Runs, run)
	b.result.Spill = bench.NewSpill(parked, &log, &run)
	return b.check(ctx)
}

// awaitSpilled waits until the whole backlog is parked.
func (b *bencher) awaitSpilled(ctx context.Context, child *supervised) error {
	// A small backlog is less log than outboxd holds back at least. The log goes on in the next of its files, of 16 MiB, twice.
	for range 2 {
		for _, sql := range []string{`SELECT pg_logical_emit_message(false, 'bench', '')`, `SELECT pg_switch_wal()`} {
			if _, err := b.conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("lengthen the log: %w", err)
			}
		}
	}
	showing := b.app.newProgress("events parked", b.o.rows, b.o.output.value)
	defer showing.end()
	if _, err := bench.Watch(ctx, b.parked(), time.Now(), int64(b.o.rows), child.failure, func(n int64) { showing.set(int(n)) }); err != nil {
		return fmt.Errorf("wait until the backlog is parked: %w", err)
	}
	return nil
}

// redial connects to the broker anew, as its connections have not outlived it.
func (b *bencher) redial(ctx context.Context) error {
	old := b.broker
	fresh, err := b.dial(old.names)
	if err != nil {
		return err
	}
	b.broker = fresh
	return errors.Join(old.reader.Close(), old.hangUp(ctx))
}
