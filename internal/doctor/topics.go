package doctor

import (
	"context"
	"sync"
)

// topics are the destinations that the database knows: the checks of sinks wait for them. finish may be called more than once.
type topics struct {
	done chan struct{}
	once sync.Once
	of   map[string][]string // by sink; written before done is closed, read after
}

func newTopics() *topics { return &topics{done: make(chan struct{}), of: map[string][]string{}} }

func (t *topics) finish() { t.once.Do(func() { close(t.done) }) }

// wait returns the destinations of the sink, none when ctx ends first.
func (t *topics) wait(ctx context.Context, sink string) []string {
	select {
	case <-t.done:
		return t.of[sink]
	case <-ctx.Done():
		return nil
	}
}
