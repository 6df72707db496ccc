package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// cleanups take away what was made, in the order in which it was made.
type cleanups []cleanup

type cleanup struct {
	what string
	do   func(ctx context.Context) error
}

// add registers what takes away something that was made.
func (c *cleanups) add(what string, do func(ctx context.Context) error) {
	*c = append(*c, cleanup{what, do})
}

// run takes away everything, the latest first, whatever fails.
func (c *cleanups) run(ctx context.Context) error {
	var failed []error
	for _, one := range slices.Backward(*c) {
		if err := one.do(ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", one.what, err))
		}
	}
	return errors.Join(failed...)
}
