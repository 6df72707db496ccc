package pulsar

import (
	"context"
	"fmt"
	"strings"
)

// A broker that is asked for a topic which no broker serves, because the namespace's isolation policy names none that lives, say, answers
// ServiceNotReady. The client then closes the connection that brought the answer, on which are all producers of an eighth of the namespaces: each look at such
// a topic would stop them all. So from the first such answer on, topics of that namespace are looked up over a connection of their own before the client is let do it.

// unservedMost bounds Sink.unserved. That it is forgotten costs its namespaces' neighbours one more lost connection each.
const unservedMost = 10_000

// noteUnserved notes the answer of a call into the client.
func (s *Sink) noteUnserved(topic string, err error) {
	if err == nil || !strings.Contains(err.Error(), "ServiceNotReady") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unserved) >= unservedMost {
		clear(s.unserved)
	}
	s.unserved[namespaceOf(topic)] = topic
}

// isServed fails where the topic's namespace had no broker and this topic still has none. A namespace is served in parts, so that it
// has one again when the topic has that had none.
func (s *Sink) isServed(ctx context.Context, topic string) error {
	namespace := namespaceOf(topic)
	s.mu.Lock()
	_, noted := s.unserved[namespace]
	s.mu.Unlock()
	if !noted {
		return nil
	}
	_, err := s.lookup(ctx, topic)
	s.noteUnserved(topic, err)
	if err != nil {
		return fmt.Errorf("the namespace had no broker: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unserved[namespace] == topic {
		delete(s.unserved, namespace)
	}
	return nil
}
