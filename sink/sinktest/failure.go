package sinktest

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outboxd/outboxd/sink"
)

// prompt is how soon a call must return after its context ended.
const prompt = 5 * time.Second

func (s *suite) missingDestinationIsUnavailable(t *testing.T) {
	c := s.h.open(t)
	destination := s.h.Missing(t)
	unavailable(t, "probe", c.probe(t, destination), false)
	if _, err := c.tail(t, destination, 1); err != nil {
		unavailable(t, "tail", err, false)
		return
	}
	unavailable(t, "publish", first(c.publish(t, numbered(destination, 1, 2))), false)
}

func (s *suite) wrongCredentialsAreUnavailableAndSecret(t *testing.T) {
	intruder := s.h.WrongCredentials(t)
	c := &client{h: s.h, sink: intruder.Sink}
	t.Cleanup(func() { c.close(t) })
	_, tailErr := c.tail(t, intruder.Destination, 1)
	for name, err := range map[string]error{"probe": c.probe(t, intruder.Destination), "tail": tailErr} {
		unavailable(t, name, err, !s.h.Clustered)
		for _, secret := range intruder.Secrets {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error shows a secret", name)
			}
		}
	}
}

func (s *suite) unreachableServerIsUnavailable(t *testing.T) {
	c := &client{h: s.h, sink: s.h.Unreachable(t)}
	t.Cleanup(func() { c.close(t) })
	destination := s.h.Destination(t)
	unavailable(t, "probe", c.probe(t, destination), true)
	_, err := c.tail(t, destination, 1)
	unavailable(t, "tail", err, true)
}

// killedServerIsDownUntilItIsBack has every call say that it is the whole broker, and nothing else is to be done when it is back.
func (s *suite) killedServerIsDownUntilItIsBack(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 2))
	s.h.Kill(t)
	if results := c.publish(t, numbered(destination, 3, 4)); first(results) == nil {
		t.Fatal("a killed server accepted a batch")
	}
	_, err := c.tail(t, destination, 1)
	unavailable(t, "tail", err, true)
	unavailable(t, "probe", c.probe(t, destination), true)

	s.h.Start(t)
	l := lane{c: c, destination: destination}
	l.until(t, "probe", func() error { return c.probe(t, destination) })
	l.read(t)
	l.publish(t, 3, 4)
	s.h.holds(t, destination, 1, 4)
}

func (s *suite) probeOfAGoodDestinationSendsNothing(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 2))
	for range 2 {
		if err := c.probe(t, destination); err != nil {
			t.Fatalf("probe: %v", err)
		}
	}
	c.mustPublish(t, numbered(destination, 3, 4)) // a probe does not fence
	s.h.holds(t, destination, 1, 4)
	if err := c.probe(t, s.h.Destination(t)); err != nil {
		t.Fatalf("probe of a destination that nobody has used: %v", err)
	}
}

func (s *suite) lateBatchOfAnOlderSinkIsFenced(t *testing.T) {
	older, destination := s.start(t)
	older.mustPublish(t, numbered(destination, 1, 5))

	newer := s.h.open(t)
	s.h.landed(t, newer, destination, 5)
	landed := 5
	if results := older.publish(t, numbered(destination, 6, 8)); results == nil {
		refused(t, newer.publish(t, numbered(destination, 6, 8)))
		landed = 8
	} else if first(results) == nil {
		t.Fatalf("a part of the older sink's batch landed: %v", results)
	}
	s.h.landed(t, newer, destination, landed)
	newer.mustPublish(t, numbered(destination, landed+1, 12))
	refused(t, older.publish(t, numbered(destination, 9, 10)))
	s.h.landed(t, newer, destination, 12)
}

// olderSinkAppendsNothingBehindTheTail has an older sink publish as fast as it can until a newer one has read the tail: what the tail does not
// show has not landed, or the newer one is told so. History 14 of the protocol.
func (s *suite) olderSinkAppendsNothingBehindTheTail(t *testing.T) {
	const batch, rounds, enough = 3, 3, time.Second // each round meets another moment; where they are quick, there are many
	older, destination := s.start(t)
	newer, landed := s.h.open(t), 0
	for round, began := 0, time.Now(); round < rounds || time.Since(began) < enough; round++ {
		older.mustPublish(t, numbered(destination, landed+1, landed+batch))
		var read atomic.Bool
		ended := make(chan struct{})
		go func(publisher *client, next int) {
			defer close(ended)
			for !read.Load() && publisher.publish(t, numbered(destination, next, next+batch-1)) == nil {
				next += batch
			}
		}(older, landed+batch+1)
		l := lane{c: newer, destination: destination}
		l.read(t)
		read.Store(true)
		<-ended
		l.publish(t, l.landed+1, l.landed+2*batch)
		landed = l.landed
		older, newer = newer, older
	}
	s.h.holds(t, destination, 1, landed)
}

func (s *suite) cancelledPublishReturnsAtOnce(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 2))
	thaw := s.h.Freeze(t)
	defer thaw()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	started := time.Now()
	results := c.sink.Publish(ctx, numbered(destination, 3, 4))
	if took := time.Since(started); took > prompt {
		t.Errorf("publish returned %s after it began, though its context ended", took)
	}
	refused(t, results)
}

// frozenServerLeavesNothingDoubled has a batch under way when its caller gives up; it lands whenever the server goes on. History 13
// of the protocol.
func (s *suite) frozenServerLeavesNothingDoubled(t *testing.T) {
	c, destination := s.start(t)
	c.mustPublish(t, numbered(destination, 1, 3))
	thaw := s.h.Freeze(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	results := c.sink.Publish(ctx, numbered(destination, 4, 9))
	refused(t, results)
	if err := first(results); sink.BrokerDown(err) {
		t.Errorf("a server that hangs is said to be down: %v", err)
	}
	thaw()

	refused(t, c.publish(t, numbered(destination, 4, 9))) // no tail was read since
	l := lane{c: c, destination: destination}
	l.read(t)
	l.publish(t, 4, 15)
	s.h.holds(t, destination, 1, 15)

	restarted := lane{c: s.h.open(t), destination: destination}
	restarted.read(t)
	restarted.publish(t, 16, 20)
	s.h.holds(t, destination, 1, 20)
}

func (s *suite) closeReleasesEverything(t *testing.T) {
	before := goleak.IgnoreCurrent()
	c := s.h.open(t)
	destination := s.h.Destination(t)
	c.mustTail(t, destination, 1)
	c.mustPublish(t, numbered(destination, 1, 20))
	c.close(t)
	left := goleak.Find(before)
	for deadline := time.Now().Add(s.h.patience()); left != nil && time.Now().Before(deadline); { // Find itself waits for half a second
		left = goleak.Find(before)
	}
	if left != nil {
		t.Error(left)
	}
}

// unavailable fails the test unless err says that the destination, or the whole broker, refuses everything.
func unavailable(t testing.TB, call string, err error, broker bool) {
	t.Helper()
	if err == nil {
		t.Fatalf("%s succeeded", call)
	}
	if class := sink.ClassOf(err); class != sink.Unavailable {
		t.Errorf("%s: class %s, want unavailable: %v", call, class, err)
	}
	if sink.BrokerDown(err) != broker {
		t.Errorf("%s: the whole broker is down: %v, want %v: %v", call, !broker, broker, err)
	}
}

// first returns the first message's result.
func first(results []error) error {
	if len(results) == 0 {
		return nil
	}
	return results[0]
}
