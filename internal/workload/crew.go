package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// hand writes transactions one after the other, with keys and a connection of its own. One goroutine uses it.
type hand interface {
	// draw chooses the next transaction when it is due; nil when there is no other one, or ctx has ended.
	draw(ctx context.Context) (transact func(context.Context) error)
	inDoubt() bool
	// resolve finds out what became of the transaction in doubt. An error says that this is not known yet.
	resolve(ctx context.Context) error
	interrupted(err error) // told of a transaction that failed, but may succeed when it is tried again
	wire() *wire
}

// wire is a connection that is opened when it is needed.
type wire struct {
	open func(context.Context) (*pgx.Conn, error)
	conn *pgx.Conn // nil while there is none
}

func (w *wire) connect(ctx context.Context) (err error) {
	if w.conn == nil {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		w.conn, err = w.open(ctx)
	}
	return err
}

// hangUp closes the connection without waiting for the server.
func (w *wire) hangUp() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // every answer that counts was received
	w.conn = nil
}

// runAll lets all of them write until ctx ends or there is nothing left to write, and then finishes the transactions that were begun. The error is
// one that repeating cannot mend; a lost connection is none.
func runAll[H hand](ctx context.Context, all []H) error {
	running, ctx := errgroup.WithContext(ctx)
	for i, h := range all {
		running.Go(func() error {
			if err := run(ctx, h); err != nil {
				return fmt.Errorf("writer %d: %w", i, err)
			}
			return nil
		})
	}
	return running.Wait()
}

// run writes until ctx ends. An interruption only costs the transaction that was under way.
func run(ctx context.Context, h hand) error {
	defer h.wire().hangUp()
	for {
		transact := h.draw(ctx)
		if transact == nil {
			return nil
		}
		err := attempt(context.WithoutCancel(ctx), h, transact)
		if err == nil {
			continue
		}
		h.wire().hangUp()
		if permanent(err) {
			return err
		}
		h.interrupted(err)
		if !Sleep(ctx, pauseAfterTrouble) {
			return nil
		}
	}
}

// attempt settles the last transaction if that is still open, and runs another one.
func attempt(ctx context.Context, h hand, transact func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	if h.inDoubt() {
		if err := h.resolve(ctx); err != nil {
			return err
		}
	}
	if err := h.wire().connect(ctx); err != nil {
		return err
	}
	return transact(ctx)
}

// resolveAll finds out what became of the transactions that are in doubt. It tries until ctx ends. None may be running.
func resolveAll[H hand](ctx context.Context, all []H) error {
	for i, h := range all {
		for h.inDoubt() {
			err := h.resolve(ctx)
			if err != nil && (permanent(err) || !Sleep(ctx, pauseAfterTrouble)) {
				return fmt.Errorf("resolve the last transaction of writer %d: %w", i, err)
			}
		}
		h.wire().hangUp()
	}
	return nil
}
