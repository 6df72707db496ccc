package pulsar

import (
	"context"
	"fmt"
	"strings"

	client "github.com/apache/pulsar-client-go/pulsar"
)

// Probe asks for the destination's partitions, which fails where its namespace is missing, access is denied or nothing answers, and then
// whether it takes an exclusive producer, which fails where the topic is terminated, its quota is exceeded or somebody else writes to it, and a reader of its end,
// which policies of subscriptions can refuse. Where the
// producer is made it is closed at once; where an outboxd of our name has one, that one goes on, and its next Publish tells
// the rest. A topic that does not exist is created by it,
// as by Tail, where the broker does that. Of a partitioned topic only the partitions are asked for.
func (s *Sink) Probe(ctx context.Context, destination string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.probe(ctx, destination); err != nil {
		failed := s.failed(ctx, err)
		return fmt.Errorf("probe %s: %w", destination, failed)
	}
	return nil
}

func (s *Sink) probe(ctx context.Context, destination string) error {
	names, err := s.partitions(ctx, destination)
	if err != nil || len(names) != 1 || names[0] != destination {
		return err
	}
	if err := s.awaitClosing(ctx, destination); err != nil {
		return err
	}
	p, err := s.create(ctx, destination)
	if err != nil && isHeld(err) && s.isLeft(destination, holder(err)) {
		if err := s.cutOff(ctx, destination); err != nil {
			return err
		}
		p, err = s.create(ctx, destination)
	}
	switch {
	case err == nil:
		s.giveBack(p)
	case isHeld(err) && strings.HasPrefix(holder(err), s.cfg.Name()+nameEnd):
	case isHeld(err):
		return heldBy(err)
	default:
		return fmt.Errorf("make a producer: %w", err)
	}
	end := &tailReader{sink: s, topic: destination, queue: minQueue}
	r, err := end.open(ctx, client.ReaderOptions{StartMessageID: client.LatestMessageID()})
	if err != nil {
		return err
	}
	r.Close()
	return nil
}

// isLeft tells whether the producer that has the topic is one that we have given up or never had: the client does not tell the broker of every end of
// one, and a terminated topic is held by the producer that it has refused (Pulsar 4.0.8).
func (s *Sink) isLeft(topic, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return name != "" && s.producers.open[topic] == nil && s.producers.retired[topic] == name
}

// giveBack closes a producer that sent nothing, in the background. The next Tail waits for that.
func (s *Sink) giveBack(p *producer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	closed := make(chan struct{})
	s.producers.closing[p.topic] = closed
	s.background.Go(func() {
		s.closeProducer(p)
		p.markLost(errClosed)
		s.doneClosing(p.topic, closed)
	})
}
