package pulsar_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/sink/pulsar"
)

// sharesOfKeys returns which of two consumers of a Key_Shared subscription have received each key, in the order of its messages.
func (s server) sharesOfKeys(t *testing.T, topic string, total int, publish func()) map[string][]string {
	t.Helper()
	c := s.plain(t)
	received := make(chan client.ConsumerMessage, total)
	for i := range 2 {
		consumer, err := c.Subscribe(client.ConsumerOptions{
			Topic: topic, SubscriptionName: "shared", Name: fmt.Sprint(i), Type: client.KeyShared, MessageChannel: received,
			SubscriptionInitialPosition: client.SubscriptionPositionEarliest,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer consumer.Close()
	}
	publish()
	shares := map[string][]string{}
	late := time.After(patience)
	for range total {
		select {
		case m := <-received:
			shares[m.Key()] = append(shares[m.Key()], m.Name())
		case <-late:
			t.Fatalf("not all of %d messages have come: %v", total, shares)
		}
	}
	return shares
}

func TestEntryPerKeyGivesEachKeyToOneKeySharedConsumer(t *testing.T) {
	s := sharedServer(t)
	const batches, size, keys = 10, 21, 10 // each batch begins with another key
	for _, perKey := range []bool{false, true} {
		topic := s.topic(t)
		p := s.open(t, func(c *pulsar.Config) { c.EntryPerKey = perKey })
		mustTail(t, p, topic, 1)
		shares := s.sharesOfKeys(t, topic, batches*size, func() {
			all := messages(topic, 1, batches*size, 10)
			for i := range all {
				all[i].Key = fmt.Appendf(nil, "key-%d", i%keys)
			}
			began := time.Now()
			for batch := range slices.Chunk(all, size) {
				mustPublish(t, p, batch)
			}
			t.Logf("an entry per key: %v, %d messages took %s", perKey, len(all), time.Since(began).Round(time.Millisecond))
		})
		split := 0
		for key, consumers := range shares {
			if len(slices.Compact(slices.Clone(consumers))) > 1 {
				split++
				t.Logf("%s: %v", key, consumers)
			}
		}
		if perKey != (split == 0) || len(shares) != keys {
			t.Errorf("an entry per key: %v, and %d of %d keys went to two consumers", perKey, split, len(shares))
		}
	}
}
