package workload

import (
	"context"
	"time"
)

// Reader reads what arrived at a broker. The functions that it is given are called one at a time, with the events of a destination
// in their order there. Its methods are not for concurrent use.
type Reader interface {
	// Follow reads everything from the beginning and then what comes, until ctx ends. What fails is tried again; trouble is told.
	Follow(ctx context.Context, handle func(Received), trouble func(error))
	// ReadAll reads what there is now.
	ReadAll(ctx context.Context, handle func(Received)) error
	// Close ends the connections.
	Close() error
}

// Pauses of Follow: between looks for new destinations, and after a failure.
const (
	lookInterval  = 200 * time.Millisecond
	retryInterval = 500 * time.Millisecond
)
