package sinktest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// reader publishes numbered messages as a lane does: it reads the tail after every unknown fate and goes on behind what landed.
type reader struct {
	c           *client
	destination string
	landed      int          // the last number that is known to have landed
	published   atomic.Int64 // landed, for other goroutines
}

// read reads the tail until it answers, and takes over what it says.
func (r *reader) read(t testing.TB) {
	t.Helper()
	r.until(t, "tail", func() error {
		entries, err := r.c.tail(t, r.destination, sink.MaxBatch)
		for _, e := range entries {
			r.note(int(e.Position.Commit))
		}
		return err
	})
}

func (r *reader) note(number int) {
	r.landed = max(r.landed, number)
	r.published.Store(int64(r.landed))
}

// publish publishes the messages from..to but for those that have landed, until all have.
func (r *reader) publish(t testing.TB, from, to int) {
	t.Helper()
	r.until(t, "publish", func() error {
		next := max(from, r.landed+1)
		if next > to {
			return nil
		}
		results := r.c.publish(t, numbered(r.destination, next, to))
		if results == nil {
			r.note(to)
			return nil
		}
		for i, err := range results {
			if err == nil {
				r.note(next + i)
				continue
			}
			if !sink.FateKnown(err) {
				r.read(t)
			}
			return err
		}
		return nil
	})
}

// until repeats attempt until it succeeds, and fails the test when the patience is over.
func (r *reader) until(t testing.TB, what string, attempt func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * r.c.h.patience())
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := attempt()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s of %s: still failing: %v", what, r.destination, err)
		}
		if sink.ClassOf(err) == sink.Rejected {
			t.Fatalf("%s of %s: %v", what, r.destination, err)
		}
		<-again.C
	}
}

// killedServerLosesAndDoublesNothing kills the server while batches are under way.
func (s *suite) killedServerLosesAndDoublesNothing(t *testing.T) {
	c := s.h.open(t)
	r := &reader{c: c, destination: s.h.Destination(t)}
	r.read(t)
	kills := s.h.Kills
	if kills == 0 {
		kills = 3
	}
	const batch = 50
	number := 0
	for range kills {
		killed := make(chan struct{})
		target := int64(number + 10*batch)
		go func() {
			defer close(killed)
			waitFor(func() bool { return r.published.Load() >= target || t.Context().Err() != nil })
			if t.Context().Err() != nil {
				return
			}
			s.h.Kill(t)
			s.h.Start(t)
		}()
		for running := true; running; {
			select {
			case <-killed:
				running = false
			default:
			}
			r.publish(t, number+1, number+batch)
			number += batch
		}
	}
	r.publish(t, number+1, number+batch)
	s.h.holds(t, r.destination, 1, number+batch)

	restarted := &reader{c: s.h.open(t), destination: r.destination}
	restarted.read(t)
	if restarted.landed != number+batch {
		t.Fatalf("after a restart the tail ends at %d, want %d", restarted.landed, number+batch)
	}
}

func waitFor(condition func() bool) {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !condition() {
		<-again.C
	}
}
