package main

import (
	"context"
	"fmt"

	"github.com/outboxd/outboxd/internal/bench"
)

// fillTable writes the old rows. There is no slot yet, so nobody has to read them from the log.
func (b *bencher) fillTable(ctx context.Context) error {
	if b.o.old == 0 {
		return nil
	}
	old := *b.backlog
	old.Rows, old.Status, old.Transaction = b.o.old, b.cfg.Database.Statuses.Sent, 10_000
	showing := b.app.newProgress("old rows written", old.Rows, b.o.output.value)
	defer showing.end()
	return old.Write(ctx, b.conn, showing.set)
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

func (b *bencher) parked() *bench.Parked {
	return &bench.Parked{Backlog: b.backlog, Conn: b.conn, Schema: b.schema + "_own"}
}

// checkWaiting looks whether the keys that are to wait still do, and nothing else does.
func (b *bencher) checkWaiting(ctx context.Context) error {
	n, err := b.parked().StillWaiting(ctx)
	if err == nil && n != b.o.waiting {
		err = fmt.Errorf("%d events are parked, and not %d, so the figures mean nothing", n, b.o.waiting)
	}
	return err
}
