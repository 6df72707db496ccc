package pulsar

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/outboxd/outboxd/sink"
)

// topic is a persistent topic's full name in its parts.
type topic struct {
	tenant, namespace, local string
}

const persistentScheme = "persistent://"

// parseTopic reads persistent://tenant/namespace/topic. Short names and topics that are not persistent (which
// keep nothing, so have no tail) are errors.
func parseTopic(name string) (topic, error) {
	rest, ok := strings.CutPrefix(name, persistentScheme)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return topic{}, fmt.Errorf("topic %q: want persistent://tenant/namespace/topic", name)
	}
	return topic{parts[0], parts[1], parts[2]}, nil
}

func (t topic) String() string {
	return persistentScheme + t.tenant + "/" + t.namespace + "/" + t.local
}

var _ sink.Partitioner = (*Sink)(nil)

// Partitions returns the full names of the destination's partitions, or the destination alone when it is not partitioned
// or does not exist.
func (s *Sink) Partitions(ctx context.Context, destination string) ([]string, error) {
	names, err := s.partitions(ctx, destination)
	if err != nil {
		return nil, fmt.Errorf("look up the partitions of %s: %w", destination, err)
	}
	return names, nil
}

// partitions asks the broker and, where it may, makes a missing namespace first.
func (s *Sink) partitions(ctx context.Context, destination string) ([]string, error) {
	t, err := parseTopic(destination)
	if err != nil {
		return nil, known(sink.Unavailable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.reach(ctx); err != nil {
		return nil, s.classified(err)
	}
	var names []string
	err = s.withNamespace(ctx, t, func() error {
		names, err = call(ctx, s, t.String(), func(c *pulsarClient) ([]string, error) { return c.TopicPartitions(t.String()) }, nil)
		return err
	})
	if err == nil {
		return names, nil
	}
	if down := s.reach(ctx); sink.BrokerDown(down) {
		return nil, down
	}
	return nil, s.classified(err)
}

// Partition returns the index of the key's partition among n as Pulsar's Java client chooses it by default (JavaStringHash):
// Java's String.hashCode without its sign, modulo n. Pulsar's Go client keeps the sign bit and hashes bytes instead
// of UTF-16, so it agrees for a part of the keys only; what it writes with a key may lie in another partition.
func (s *Sink) Partition(key []byte, n int) int {
	return int(javaStringHash(key) % uint32(n)) //nolint:gosec // n is a number of partitions
}

// javaStringHash is String.hashCode() & Integer.MAX_VALUE of the text.
// Source: https://github.com/apache/pulsar/blob/master/pulsar-client/src/main/java/org/apache/pulsar/client/impl/JavaStringHash.java
func javaStringHash(text []byte) uint32 {
	var h uint32
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		if r >= 0x10000 {
			high, low := utf16.EncodeRune(r)
			h = 31*(31*h+uint32(high)) + uint32(low)
			continue
		}
		h = 31*h + uint32(r)
	}
	return h &^ (1 << 31)
}
