package pulsar

import (
	"context"
	"fmt"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/sink"
)

// Tail makes the destination ours, then reads its last n messages. A producer of the same Config.Name that holds the topic is
// cut off. For another one it waits, until ctx or Config.Timeout ends; then the error is Unavailable and names it.
//
// With n below 1 the destination is made ours and nothing is read.
//
// A destination whose last n messages lie in several ledgers is read back by publish time. What Pulsar has
// trimmed is not there: a topic without retention keeps only what some subscription still needs. A large n takes as long as it takes: Config.Timeout
// bounds each step, not the whole.
func (s *Sink) Tail(ctx context.Context, destination string, n int) ([]sink.Entry, error) {
	entries, err := s.tail(ctx, destination, n)
	if err != nil {
		return nil, fmt.Errorf("read the tail of %s: %w", destination, s.failed(ctx, err))
	}
	return entries, nil
}

func (s *Sink) tail(ctx context.Context, destination string, n int) ([]sink.Entry, error) {
	t, err := parseTopic(destination)
	if err != nil {
		return nil, known(sink.Unavailable, err)
	}
	p, err := s.fenceInTime(ctx, t)
	if err != nil {
		return nil, err
	}
	var entries []sink.Entry
	if n > 0 {
		reading, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(p.lost, cancel)() // the client's readers go on without an answer
		entries, err = s.readTail(reading, destination, n)
	}
	if p.lost.Err() != nil {
		err = context.Cause(p.lost) // what was read may not be the end any more
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.producers.add(p)
	if err == nil && p.client != s.clients[p.client.slot] {
		err = errReplaced
	}
	if err != nil {
		s.retireLocked(p, false)
		return nil, err
	}
	s.evictLocked()
	return entries, nil
}

func (s *Sink) fenceInTime(ctx context.Context, t topic) (*producer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return s.fence(ctx, t)
}

// lastID returns the id of the topic's last message, once it has stood still for as long as the producers before ours demand.
func (s *Sink) lastID(ctx context.Context, topic string, r *openReader) (client.MessageID, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	s.mu.Lock()
	settling := s.producers.demanded(topic)
	s.mu.Unlock()
	last, err := readerCall(ctx, r, client.Reader.GetLastMessageID)
	for still := settling == 0; err == nil && !still && sleep(ctx, settling); {
		before := last
		last, err = readerCall(ctx, r, client.Reader.GetLastMessageID)
		still = err == nil && sameEntry(before, last)
		if err == nil && !still {
			s.log.Info().Str("topic", topic).Stringer("before", before).Stringer("now", last).
				Msg("a late batch of an older producer landed; waiting until the topic's end stands still")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("get the last message id: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.producers.settled(topic)
	return last, nil
}

func sameEntry(a, b client.MessageID) bool { return placeOf(a) == placeOf(b) }

func atOrBehind(a, b client.MessageID) bool {
	if sameEntry(a, b) {
		return a.BatchIdx() >= b.BatchIdx()
	}
	return placeOf(a).atOrBehind(placeOf(b))
}

// entryOf reads what a message says of itself.
func entryOf(m client.Message) sink.Entry {
	p := m.Properties()
	return sink.ReadEntry(p[sink.HeaderID], p[sink.HeaderPosition], p[sink.HeaderFrontier], p[sink.HeaderReplay])
}
