package sinktest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// lane publishes numbered messages as the log lane does: it reads the tail after every unknown fate and goes on behind what landed.
type lane struct {
	c           *client
	destination string
	landed      int          // the last number that is known to have landed
	published   atomic.Int64 // landed, for other goroutines
}

// read reads the tail until it answers, and takes over what it says.
func (l *lane) read(t testing.TB) {
	t.Helper()
	l.until(t, "tail", func() error {
		entries, err := l.c.tail(t, l.destination, sink.MaxBatch)
		for _, e := range entries {
			l.note(int(e.Position.Commit))
		}
		return err
	})
}

func (l *lane) note(number int) {
	l.landed = max(l.landed, number)
	l.published.Store(int64(l.landed))
}

// publish publishes the messages from..to but for those that have landed, until all have.
func (l *lane) publish(t testing.TB, from, to int) {
	t.Helper()
	l.until(t, "publish", func() error {
		next := max(from, l.landed+1)
		if next > to {
			return nil
		}
		results := l.c.publish(t, numbered(l.destination, next, to))
		if results == nil {
			l.note(to)
			return nil
		}
		for i, err := range results {
			if err == nil {
				l.note(next + i)
				continue
			}
			if !sink.FateKnown(err) {
				l.read(t)
			}
			return err
		}
		return nil
	})
}

// until repeats attempt until it succeeds, and fails the test when the patience is over.
func (l *lane) until(t testing.TB, what string, attempt func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * l.c.h.patience())
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := attempt()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s of %s: still failing: %v", what, l.destination, err)
		}
		if sink.ClassOf(err) == sink.Rejected {
			t.Fatalf("%s of %s: %v", what, l.destination, err)
		}
		<-again.C
	}
}

// killedServerLosesAndDoublesNothing kills the server while batches are under way.
func (s *suite) killedServerLosesAndDoublesNothing(t *testing.T) {
	c := s.h.open(t)
	l := &lane{c: c, destination: s.h.Destination(t)}
	l.read(t)
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
			waitFor(func() bool { return l.published.Load() >= target || t.Context().Err() != nil })
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
			l.publish(t, number+1, number+batch)
			number += batch
		}
	}
	l.publish(t, number+1, number+batch)
	s.h.holds(t, l.destination, 1, number+batch)

	restarted := &lane{c: s.h.open(t), destination: l.destination}
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
