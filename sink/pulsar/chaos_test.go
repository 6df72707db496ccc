package pulsar_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
)

// lane publishes numbered messages to one topic as a lane does: after an unknown fate it reads the tail and goes on behind it.
type lane struct {
	sink  *pulsar.Sink
	topic string
	next  int
	tails int
	err   error // of the last tail
}

// readTail reads the tail until it answers, and takes over what it says.
func (l *lane) readTail(ctx context.Context) bool {
	damagedSince := time.Now()
	for ctx.Err() == nil {
		var entries []sink.Entry
		entries, l.err = l.sink.Tail(ctx, l.topic, sink.MaxBatch)
		if l.err == nil {
			l.tails++
			for _, e := range entries {
				l.next = max(l.next, int(e.Position.Commit)+1)
			}
			return true
		}
		if !l.damaged() {
			damagedSince = time.Now()
		} else if time.Since(damagedSince) > 10*time.Second {
			return false
		}
		select {
		case <-time.After(50 * time.Millisecond): // a lane pauses too
		case <-ctx.Done():
		}
	}
	return false
}

// damaged says that the broker cannot open the topic any more. The only bookie of a standalone broker, killed while it wrote a record of
// its journal, may keep half of it, and says of its ledger for ever: "Digest mismatch". No message can be counted then.
func (l *lane) damaged() bool {
	return l.err != nil && strings.Contains(l.err.Error(), "Error while recovering ledger")
}

// run publishes until ctx ends; patient bounds each call.
func (l *lane) run(ctx, patient context.Context, under *load) {
	if !l.readTail(patient) {
		return
	}
	for size := 1; ctx.Err() == nil; size = size%90 + 17 {
		results := l.sink.Publish(patient, messages(l.topic, l.next, l.next+size-1, 100))
		if results == nil {
			l.next += size
			under.batches.Add(1)
			continue
		}
		known := true
		for _, err := range results {
			if err == nil {
				l.next++
				continue
			}
			known = sink.FateKnown(err)
			break
		}
		if !known && !l.readTail(patient) {
			return
		}
	}
	l.readTail(patient) // the last batch may be in doubt
}

// load counts the batches that landed.
type load struct {
	lanes   int
	batches atomic.Int64
}

// wait waits until the lanes have published for a while.
func (l *load) wait(t testing.TB) {
	t.Helper()
	began, enough := time.Now(), l.batches.Load()+int64(30*l.lanes)
	waitUntil(t, "the lanes publish", func() bool { return l.batches.Load() >= enough })
	t.Logf("load after %s", time.Since(began).Round(time.Millisecond))
}

// testKilledUnderLoad kills the server with SIGKILL while many topics are published to, and counts what they hold.
func testKilledUnderLoad(t *testing.T, s server, own *testenv.PulsarServer, kills int) {
	const topics = 12
	p := s.open(t)
	patient, cancel := context.WithCancel(t.Context())
	defer cancel()
	ctx, stop := context.WithCancel(patient)
	defer stop()
	var lanes []*lane
	var running sync.WaitGroup
	under := &load{lanes: topics}
	for range topics {
		l := &lane{sink: p, topic: s.topic(t), next: 1}
		lanes = append(lanes, l)
		running.Go(func() { l.run(ctx, patient, under) })
	}
	for range kills {
		under.wait(t)
		own.Kill()
		own.Start()
	}
	under.wait(t)
	stop()
	giveUp := time.AfterFunc(2*time.Minute, cancel) // however long the broker took to start
	running.Wait()
	giveUp.Stop()
	tails, landed, damaged := 0, 0, 0
	for _, l := range lanes {
		if l.damaged() {
			t.Logf("%s: %v", l.topic, l.err)
			damaged++
			continue
		}
		if l.err != nil {
			t.Errorf("%s: %v", l.topic, l.err)
		}
		s.wantIDs(t, l.topic, l.next-1)
		landed += l.next - 1
		tails += l.tails
	}
	t.Logf("%d messages in %d topics, %d tails read, %d kills", landed, topics-damaged, tails, kills)
	if damaged > topics/2 {
		t.Errorf("the broker damaged %d topics", damaged)
	}
	if tails < (topics-damaged)*(kills+1) {
		t.Errorf("%d tails read: the kills were not noticed", tails)
	}
}
