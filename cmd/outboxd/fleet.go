package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/relay"
)

// fleet are the instances of one process: one for each shard that it is for. It never changes while they run.
type fleet []*instance

// openFleet opens an instance for each part. Beside an error it returns those that are open.
func openFleet(ctx context.Context, parts []*config.Config, o instanceOptions) (f fleet, err error) {
	for _, part := range parts {
		i, err := openInstance(ctx, part, o)
		if err != nil {
			return f, err
		}
		f = append(f, i)
	}
	return f, nil
}

// run runs all of them until they have stopped. ended says what the end of one means. One that ends with an error, which only a person can mend, stops the
// others too.
func (f fleet) run(ctx context.Context, ended func(zerolog.Logger, error) error) error {
	return f.each(func(i *instance) error {
		err := ended(i.log, i.relay.Run(ctx))
		if err != nil {
			f.stop()
		}
		return err
	})
}

func (f fleet) stop() {
	for _, i := range f {
		i.relay.Stop()
	}
}

// close closes all at once: each may take its time.
func (f fleet) close() error { return f.each((*instance).close) }

// each does something to all at once, and returns what went wrong with any of them.
func (f fleet) each(do func(*instance) error) error {
	errs := make([]error, len(f))
	var all sync.WaitGroup
	for n, i := range f {
		all.Go(func() { errs[n] = f.of(i, do(i)) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// of says which shard an error is of.
func (f fleet) of(i *instance, err error) error {
	if err == nil || !i.cfg.Shard().Split() {
		return err
	}
	return fmt.Errorf("shard %d: %w", i.cfg.Shards.Number, err)
}

// Ready returns what any of them has against it.
func (f fleet) Ready() error {
	var all []error
	for _, i := range f {
		all = append(all, f.of(i, i.relay.Ready()))
	}
	return errors.Join(all...)
}

// Status is the only one's; of several, the state of the one that is farthest from streaming, with its reason.
func (f fleet) Status() relay.Status {
	var worst relay.Status
	for n, i := range f {
		if s := i.relay.Status(); n == 0 || distance[s.State] > distance[worst.State] {
			worst = s
			if i.cfg.Shard().Split() && s.Reason != "" {
				worst.Reason = fmt.Sprintf("shard %d: %s", i.cfg.Shards.Number, s.Reason)
			}
		}
	}
	return worst
}

// distance is how far a state is from streaming.
var distance = map[relay.State]int{
	relay.StateActive: 0, relay.StateStandby: 1, relay.StateDraining: 2, relay.StateStopped: 3, relay.StateConnecting: 4,
}
