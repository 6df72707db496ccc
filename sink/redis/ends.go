package redis

import (
	"container/list"
	"strings"
	"sync"
)

// ends remembers where each stream ends, as far as this process knows: the last-generated-id that Tail saw, moved by every publish.
// It holds a bounded number of streams and forgets the one that was used least lately. What is not remembered is not
// published to.
type ends struct {
	max int

	mu      sync.Mutex
	streams map[string]*list.Element // of *streamEnd
	order   list.List                // used most lately first
}

type streamEnd struct {
	stream string
	id     string // "" while a publish is under way or its fate is unknown
}

func newEnds(limit int) *ends {
	return &ends{max: limit, streams: make(map[string]*list.Element)}
}

// take returns the end, and forgets it until put: a publish that never says what came of it leaves it unknown.
func (e *ends) take(stream string) (id string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	element := e.streams[stream]
	if element == nil {
		return "", false
	}
	e.order.MoveToFront(element)
	end := element.Value.(*streamEnd)
	id, end.id = end.id, ""
	return id, id != ""
}

// put remembers the end.
func (e *ends) put(stream, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if element := e.streams[stream]; element != nil {
		element.Value.(*streamEnd).id = id
		e.order.MoveToFront(element)
		return
	}
	for len(e.streams) >= e.max {
		oldest := e.order.Back()
		delete(e.streams, e.order.Remove(oldest).(*streamEnd).stream)
	}
	stream = strings.Clone(stream) // it may be a part of something large
	e.streams[stream] = e.order.PushFront(&streamEnd{stream: stream, id: id})
}
