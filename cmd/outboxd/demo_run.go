package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxd/outboxd/internal/workload"
)

const (
	demoFrame = 250 * time.Millisecond // between two pictures on the screen
	demoLine  = time.Second            // between two lines of progress
)

// stream runs the application and shows what arrives until ctx or the demo's time ends, then stops the application and waits until
// everything that it committed has arrived, or nothing arrives any more.
func (d *demo) stream(ctx context.Context, screen bool) error {
	working := context.WithoutCancel(ctx)
	d.meter = newDemoMeter(d.producer)
	d.meter.live.Destination = d.broker.destination
	following, stopFollowing := context.WithCancel(working)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		d.broker.reader.Follow(following, d.meter.add, d.meter.complain)
	}()
	defer func() {
		stopFollowing()
		<-followed
	}()
	writing, stopWriting := context.WithCancel(working)
	wrote := make(chan error, 1)
	go func() { wrote <- d.producer.Run(writing) }()
	view := d.newView(screen)
	failure := d.watch(ctx, view, wrote)
	stopWriting()
	if errors.Is(failure, errApplication) {
		return failure // and it writes no more
	}
	if failure != nil {
		return errors.Join(failure, <-wrote)
	}
	if err := <-wrote; err != nil {
		return fmt.Errorf("%w: %w", errApplication, err)
	}
	resolving, cancel := context.WithTimeout(working, demoArrival)
	defer cancel()
	if err := d.producer.Resolve(resolving); err != nil {
		return err
	}
	return d.awaitArrival(view)
}

var errApplication = errors.New("the demo's application failed")

// watch shows what happens until it is time to stop. An error says what must not have happened.
func (d *demo) watch(ctx context.Context, view demoView, wrote <-chan error) error {
	tick := time.NewTicker(view.interval())
	defer tick.Stop()
	var over <-chan time.Time
	if d.o.duration > 0 {
		timer := time.NewTimer(d.o.duration)
		defer timer.Stop()
		over = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			view.end()
			d.say("stopping: waiting for what is committed, then removing everything; another Ctrl-C leaves %s", d.leftovers())
			return nil
		case <-over:
			view.end()
			return nil
		case err := <-wrote:
			return fmt.Errorf("%w: %w", errApplication, err)
		case <-d.child.ended:
			return d.child.stop()
		case now := <-tick.C:
			if err := view.show(now); err != nil {
				return err
			}
		}
	}
}

// leftovers names what an impatient end leaves behind.
func (d *demo) leftovers() string {
	if d.o.postgres == "" {
		return "nothing running"
	}
	return "slot " + d.database.name + " on your server, which then holds back its log"
}

// awaitArrival waits until all that was committed is there.
func (d *demo) awaitArrival(view demoView) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	want := d.producer.Totals().Committed
	seen, at := d.meter.arrived(), time.Now()
	shown := at
	for seen < want {
		select {
		case <-d.child.ended:
			return d.child.stop()
		case now := <-tick.C:
			if n := d.meter.arrived(); n > seen {
				seen, at = n, now
			}
			if now.Sub(at) > demoArrival {
				d.say("%d of %d events have not arrived, and none has for %s", want-seen, want, demoArrival)
				return nil
			}
			if now.Sub(shown) < demoLine {
				continue
			}
			shown = now
			if err := view.wait(want - seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify stops outboxd, as a supervisor does, and reads everything that lies at the broker once more, from its beginning.
func (d *demo) verify(ctx context.Context) (workload.Report, error) {
	if err := d.child.stop(); err != nil {
		return workload.Report{}, err
	}
	checker := workload.NewChecker(d.producer.Ledger())
	checker.Destination = d.broker.destination
	if err := d.broker.reader.ReadAll(ctx, func(r workload.Received) { checker.Add(r) }); err != nil {
		return workload.Report{}, fmt.Errorf("read everything back: %w", err)
	}
	return checker.Report(), nil
}
