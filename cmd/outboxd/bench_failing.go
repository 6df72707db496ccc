package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/internal/bench"
)

// breakable are destinations that can be made to refuse everything. The readers of workload are such.
type breakable interface {
	Break(ctx context.Context) error
}

// paceBesideFailing measures the latency once more while the destinations of the last tenants refuse everything, and compares.
func (b *bencher) paceBesideFailing(ctx context.Context) (err error) {
	if err := b.empty(ctx); err != nil { // of the events before
		return err
	}
	names := b.broker.names
	working := len(names) - b.o.failing*b.o.topics
	if err := b.breakDestinations(ctx, names[working:]); err != nil {
		return err
	}
	others, err := b.dial(names[:working])
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, others.reader.Close(), others.hangUp(context.WithoutCancel(ctx)))
	}()
	b.backlog.Refused = true
	compared := bench.Isolation{Tenants: b.o.tenants, Failing: b.o.failing}
	if err := b.paceOutboxd(ctx, compared.Tool(), others.reader, b.awaitParked); err != nil {
		return err
	}
	b.result.Isolation = bench.NewIsolation(b.backlog, &b.result.Latencies[0], &b.result.Latencies[1])
	return nil
}

// breakDestinations makes some of the destinations refuse everything.
func (b *bencher) breakDestinations(ctx context.Context, names []string) error {
	failing, err := b.dial(names)
	if err != nil {
		return err
	}
	err = failing.reader.(breakable).Break(ctx) //nolint:errcheck,forcetypeassert // openBroker makes no other
	return errors.Join(err, failing.reader.Close(), failing.hangUp(context.WithoutCancel(ctx)))
}

// awaitParked waits until every event that its destination refuses is parked: none is lost.
func (b *bencher) awaitParked(ctx context.Context, child *supervised) error {
	want := int64(b.backlog.ToRefuse())
	w, err := bench.Watch(ctx, b.parked(), time.Now(), want, child.failure, func(int64) {})
	if err != nil {
		return fmt.Errorf("wait until what is refused is parked: %w", err)
	}
	if w.Entries > want {
		return fmt.Errorf("%d events are parked, and %d were refused", w.Entries, want)
	}
	return nil
}
