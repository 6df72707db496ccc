package redis

import (
	"container/list"
	"strconv"
	"strings"
	"sync"
	"time"
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
	end    end // its id is "" while a publish is under way or its fate is unknown
}

// end is a stream's last-generated-id.
type end struct {
	id   string
	made time.Time // when the server took the time for it, or earlier; zero: not known
}

// fresh is how long the next id may have the milliseconds of the last.
const fresh = time.Second

// next is the id that an entry behind the end can be given so that the server refuses it if anything was ever appended there. It has the end's
// milliseconds, so it is "" where those are too old.
func (e end) next(now time.Time) string {
	if now.Sub(e.made) > fresh {
		return ""
	}
	milliseconds, sequence, _ := strings.Cut(e.id, "-")
	n, err := strconv.ParseUint(sequence, 10, 63)
	if err != nil {
		return ""
	}
	return milliseconds + "-" + strconv.FormatUint(n+1, 10)
}

// moved is the end that the server gave with an answer, to a call that was made at the given time.
func (e end) moved(id string, asked time.Time) end {
	before, _, _ := strings.Cut(e.id, "-")
	if after, _, _ := strings.Cut(id, "-"); after == before {
		return end{id, e.made}
	}
	return end{id, asked}
}

func newEnds(limit int) *ends {
	return &ends{max: limit, streams: make(map[string]*list.Element)}
}

// take returns the end, and forgets it until put: a publish that never says what came of it leaves it unknown.
func (e *ends) take(stream string) (last end, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	element := e.streams[stream]
	if element == nil {
		return end{}, false
	}
	e.order.MoveToFront(element)
	known := element.Value.(*streamEnd)
	last, known.end = known.end, end{}
	return last, last.id != ""
}

// put remembers the end.
func (e *ends) put(stream string, last end) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if element := e.streams[stream]; element != nil {
		element.Value.(*streamEnd).end = last
		e.order.MoveToFront(element)
		return
	}
	for len(e.streams) >= e.max {
		oldest := e.order.Back()
		delete(e.streams, e.order.Remove(oldest).(*streamEnd).stream)
	}
	stream = strings.Clone(stream) // it may be a part of something large
	e.streams[stream] = e.order.PushFront(&streamEnd{stream: stream, end: last})
}
