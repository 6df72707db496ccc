package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/internal/bench"
	"github.com/outboxd/outboxd/internal/workload"
	"github.com/outboxd/outboxd/wal"
)

// start starts outboxd, with more arguments.
func (b *bencher) start(ctx context.Context, more ...string) (*supervised, error) {
	addr, err := freeAddress(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	args := more
	for _, f := range []struct{ name, value string }{
		{"--config", b.app.configFile},
		{"--env-file", b.app.envFile},
		{"--preset", b.app.preset},
		{"--database-url", b.app.database},
	} {
		if f.value != "" {
			args = append(args, f.name, f.value)
		}
	}
	args = append(args, b.app.settingFlags()...)
	return startSupervised(b.app.environ, append(args, "--set", "http.addr="+addr), addr, b.logFile())
}

func (b *bencher) profileFlags() []string {
	if b.o.profile == "" {
		return nil
	}
	return []string{"--profile", b.o.profile}
}

// makeSlot lets outboxd run for a moment: it makes the slot, from which it will go on, and looks through the old rows for what is due.
func (b *bencher) makeSlot(ctx context.Context) error {
	child, err := b.start(ctx)
	if err != nil {
		return err
	}
	const slowest = 50_000 // old rows a second, on a disk that is slow
	looking := time.Duration(b.o.old/slowest) * time.Second
	return errors.Join(child.waitReady(ctx, readyTimeout+looking), child.stop())
}

// drain writes a backlog, lets outboxd deliver it, and checks that it did.
func (b *bencher) drain(ctx context.Context) error {
	if err := b.write(ctx); err != nil {
		return err
	}
	before, after := b.rivals()
	if err := b.compete(ctx, before); err != nil {
		return err
	}
	run, err := b.deliver(ctx)
	if err != nil {
		return err
	}
	b.result.Runs = append(b.result.Runs, run)
	if err := b.check(ctx); err != nil {
		return err
	}
	if err := b.compete(ctx, after); err != nil {
		return err
	}
	if b.o.spilled {
		return b.drainSpilled(ctx, run)
	}
	return nil
}

// write makes the backlog, and leaves PostgreSQL with nothing to do after it.
func (b *bencher) write(ctx context.Context) error {
	showing := b.app.newProgress("rows written", b.o.rows, b.o.output.value)
	began := time.Now()
	err := b.backlog.Write(ctx, b.conn, showing.set)
	showing.end()
	if err != nil {
		return err
	}
	b.result.Load.WriteSeconds = time.Since(began).Seconds()
	end, err := wal.LogEnd(ctx, b.conn)
	if err != nil {
		return err
	}
	b.end = end.String()
	if err := b.vacuum(ctx); err != nil {
		return err
	}
	if b.own {
		if _, err := b.conn.Exec(ctx, `CHECKPOINT`); err != nil {
			return fmt.Errorf("make a checkpoint: %w", err)
		}
	}
	return nil
}

func (b *bencher) vacuum(ctx context.Context) error {
	if _, err := b.conn.Exec(ctx, `VACUUM (ANALYZE) `+b.backlog.Table.Sanitize()); err != nil {
		return fmt.Errorf("vacuum the outbox: %w", err)
	}
	return nil
}

// deliver lets outboxd drain the backlog and measures it.
func (b *bencher) deliver(ctx context.Context) (run bench.Run, err error) {
	from, err := b.look(ctx)
	if err != nil {
		return run, err
	}
	child, err := b.start(ctx, b.profileFlags()...)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, child.stop()) }()
	return b.watch(ctx, "outboxd", child, from)
}

// looked is what was used before a run began.
type looked struct {
	began    time.Time
	work     bench.Work
	broker   *time.Duration
	tool     *time.Duration // nil: it did not run
	backends bench.Backends
}

// look is the last thing before outboxd is started.
func (b *bencher) look(ctx context.Context) (l looked, err error) {
	if l.work, err = bench.SettledWork(ctx, b.conn, b.schemas()...); err != nil {
		return l, err
	}
	l.broker = bench.Known(b.counter().CPU(ctx))
	l.began = time.Now()
	return l, nil
}

// watch measures outboxd until all is drained, and stops it.
func (b *bencher) watch(ctx context.Context, tool string, child *supervised, from looked) (run bench.Run, err error) {
	broker := b.counter()
	showing := b.app.newProgress("events delivered", b.o.rows, b.o.output.value)
	watched, err := bench.Watch(ctx, broker, from.began, int64(b.o.rows), child.failure, func(n int64) { showing.set(int(n)) })
	showing.end()
	if err != nil {
		return run, err
	}
	pid := int(child.pid.Load())
	run = bench.NewRun(tool, watched, b.o.payload)
	run.Memory = bench.MemoryOf(pid)
	backends, err := bench.LookAtBackends(ctx, b.conn, b.schema)
	if err != nil {
		return run, err
	}
	run.CPU = bench.CPUPerMillion{
		Tool:      bench.PerMillion(since(from.tool, bench.Known(bench.CPU(pid))), watched.Entries),
		Walsender: bench.PerMillion(since(from.backends.Walsender, backends.Walsender), watched.Entries),
		Backends:  bench.PerMillion(since(from.backends.Others, backends.Others), watched.Entries),
		Broker:    bench.PerMillion(bench.Used(from.broker, bench.Known(broker.CPU(ctx))), watched.Entries),
	}
	if err := errors.Join(batches(ctx, child.addr, &run), child.stop()); err != nil {
		return run, err
	}
	if b.o.onSent.value != "keep" {
		run.Settled = time.Since(from.began).Seconds()
	}
	if n := child.kills.Load(); n > 0 {
		return run, fmt.Errorf("outboxd was killed meanwhile")
	}
	after, err := bench.SettledWork(ctx, b.conn, b.schemas()...)
	if err != nil {
		return run, err
	}
	work := after.Since(from.work)
	run.Work = &work
	return run, nil
}

// since is what a process used since a look, before which it may not have been there.
func since(before, after *time.Duration) *time.Duration {
	if before == nil {
		return after
	}
	return bench.Used(before, after)
}

// check reads everything back, and looks whether all rows are settled.
func (b *bencher) check(ctx context.Context) error {
	showing := b.app.newProgress("events checked", b.o.rows, b.o.output.value)
	defer showing.end()
	tally := bench.NewTally(b.backlog)
	err := b.broker.reader.ReadAll(ctx, func(r workload.Received) {
		tally.Add(r)
		showing.set(tally.Entries)
	})
	if err != nil {
		return fmt.Errorf("read everything back: %w", err)
	}
	if err := tally.Err(); err != nil {
		return fmt.Errorf("what was delivered is not the backlog, so the figures mean nothing: %w", err)
	}
	if err := b.checkWaiting(ctx); err != nil {
		return err
	}
	if b.o.onSent.value == "keep" {
		return nil
	}
	var left int
	err = b.conn.QueryRow(ctx, `SELECT count(*) FROM `+b.backlog.Table.Sanitize()+` WHERE status <> $1`, b.cfg.Database.Statuses.Sent).Scan(&left)
	if err != nil {
		return fmt.Errorf("count the rows that are not settled: %w", err)
	}
	if left > 0 {
		return fmt.Errorf("%d rows are not settled, so the figures mean nothing", left)
	}
	return nil
}
