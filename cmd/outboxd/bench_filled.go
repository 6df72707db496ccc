package main

import (
	"context"
	"fmt"

	"github.com/outboxd/outboxd/internal/bench"
	"github.com/outboxd/outboxd/internal/config"
)

// fillTable writes the old rows, and vacuums them, as autovacuum has done with old ones. There is no slot yet, so nobody has to read them from the log.
func (b *bencher) fillTable(ctx context.Context) error {
	if b.o.old == 0 {
		return nil
	}
	old := *b.backlog
	old.Rows, old.Status, old.Transaction = b.o.old, b.cfg.Database.Statuses.Sent, 10_000
	showing := b.app.newProgress("old rows written", old.Rows, b.o.output.value)
	err := old.Write(ctx, b.conn, showing.set)
	showing.end()
	if err != nil {
		return err
	}
	return b.vacuum(ctx)
}

// fillParked lets keys wait.
func (b *bencher) fillParked(ctx context.Context) error {
	if b.o.waiting == 0 {
		return nil
	}
	showing := b.app.newProgress("waiting keys parked", b.o.waiting, b.o.output.value)
	defer showing.end()
	return b.parked().Fill(ctx, b.sink, b.broker.names, b.o.waiting, showing.set)
}

// parked is what waits in outboxd's own table: that of the first shard, as what parks on purpose goes with one alone.
func (b *bencher) parked() *bench.Parked { return b.parkedIn(b.parts[0]) }

func (b *bencher) parkedIn(part *config.Config) *bench.Parked {
	return &bench.Parked{Backlog: b.backlog, Conn: b.conn, Schema: part.Database.Schema}
}

// checkWaiting looks whether the keys that are to wait still do, and nothing else does.
func (b *bencher) checkWaiting(ctx context.Context) error {
	all := 0
	for _, part := range b.parts {
		n, err := b.parkedIn(part).StillWaiting(ctx)
		if err != nil {
			return err
		}
		all += n
	}
	if all != b.o.waiting {
		return fmt.Errorf("%d events are parked, and not %d, so the figures mean nothing", all, b.o.waiting)
	}
	return nil
}
