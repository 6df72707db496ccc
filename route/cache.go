package route

import (
	"encoding/binary"

	"github.com/outboxd/outboxd/event"
)

const (
	cacheEntries  = 8192 // of each of the two generations
	cacheKeyBytes = 1024 // a longer key is not remembered
)

// cache remembers what was looked up lately, in bounded memory. When the young generation is full it becomes the old one; what is
// found in the old one moves to the young.
type cache struct {
	young, old map[string][]Destination
}

func (c *cache) get(key []byte) ([]Destination, bool) {
	if found, ok := c.young[string(key)]; ok {
		return found, true
	}
	found, ok := c.old[string(key)]
	if ok {
		c.put(key, found)
	}
	return found, ok
}

func (c *cache) put(key []byte, found []Destination) {
	if len(key) > cacheKeyBytes {
		return
	}
	if c.young == nil || len(c.young) >= cacheEntries {
		c.young, c.old = make(map[string][]Destination), c.young
	}
	c.young[string(key)] = found
}

// appendCacheKey appends what decides about an event's destinations. Lengths keep the parts apart; NULL has a length of its own.
func appendCacheKey(b []byte, ev *event.Event, withType bool) []byte {
	b = appendCachePart(b, ev.TenantID)
	b = appendCachePart(b, ev.Topic)
	if withType {
		b = appendCachePart(b, ev.AggregateType)
	}
	return b
}

func appendCachePart(b, part []byte) []byte {
	if part == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(part))+1)
	return append(b, part...)
}
