package relay

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/sink"
)

// simBroker is a model of the brokers: what each destination holds, and who may append to it.
type simBroker struct {
	w      *world
	topics map[string]*simTopic
	down   map[string]bool // sinks of which nothing answers
	late   []simBatch      // what was sent, and may still be appended as long as nobody has fenced it off
}

// simTopic is one destination.
type simTopic struct {
	entries []sink.Entry
	terms   []int64        // of the sessions that have published them
	fence   int            // raised by each reading of the tail
	poison  map[string]int // ids, with how often they are still refused
	refuses bool           // it is unavailable by itself
}

type simBatch struct {
	topic   string
	fence   int
	term    int64
	entries []sink.Entry
}

func newSimBroker(w *world) *simBroker {
	return &simBroker{w: w, topics: map[string]*simTopic{}, down: map[string]bool{}}
}

func (b *simBroker) topic(name string) *simTopic {
	t := b.topics[name]
	if t == nil {
		t = &simTopic{poison: map[string]int{}}
		b.topics[name] = t
	}
	return t
}

// land appends one of the late batches, unless it was fenced off.
func (b *simBroker) land(i int) {
	l := b.late[i]
	b.late = append(b.late[:i:i], b.late[i+1:]...)
	if t := b.topic(l.topic); t.fence == l.fence {
		b.w.note("late batch lands at %s: %v", l.topic, l.entries)
		t.append(l.term, l.entries)
		t.fence++ // whoever goes on from the old end is refused
	}
}

func (t *simTopic) append(term int64, entries []sink.Entry) {
	t.entries = append(t.entries, entries...)
	for range entries {
		t.terms = append(t.terms, term)
	}
}

// publishFate is what becomes of a batch.
type publishFate int

const (
	fateLands   publishFate = iota
	fateNoReply             // it lands, and the answer is lost
	fateLate                // it may land later
	fatePart                // its first half lands, and the answer is lost
	fateUnmet               // it does not land, which is known
	fateLetGo               // the sink has let go of the destination's end before
	fates
)

// simSink is a process's connection to one sink of the broker. It keeps the contract of package sink.
type simSink struct {
	broker *simBroker
	name   string
	fences map[string]int // of the destinations whose tail was read since the last unknown fate
}

func (s *simSink) fail(class sink.Class, known bool, text string) error {
	return &sink.Error{Class: class, FateKnown: known, Broker: s.broker.down[s.name], Err: errors.New(text)}
}

// unreachable is why nothing is to be had of the destination; nil when it is to be had.
func (s *simSink) unreachable(destination string) error {
	if s.broker.down[s.name] {
		return s.fail(sink.Unavailable, true, "the broker is down")
	}
	if s.broker.topic(destination).refuses {
		return s.fail(sink.Unavailable, true, "the destination refuses everything")
	}
	return nil
}

func (s *simSink) Publish(_ context.Context, batch []sink.Message) []error {
	results := make([]error, len(batch))
	for from := 0; from < len(batch); {
		to := from
		for to < len(batch) && batch[to].Destination == batch[from].Destination {
			to++
		}
		s.publish(batch[from:to], results[from:to])
		from = to
	}
	return results
}

func (s *simSink) publish(batch []sink.Message, results []error) {
	name := batch[0].Destination
	t := s.broker.topic(name)
	all := func(err error) {
		for i := range results {
			results[i] = err
		}
	}
	if err := s.unreachable(name); err != nil {
		all(err)
		return
	}
	fence, read := s.fences[name]
	if !read {
		all(s.fail(sink.Retry, true, "the tail was not read since the last unknown fate"))
		return
	}
	entries := s.accepted(t, batch, results)
	if fence != t.fence { // somebody else has the destination
		delete(s.fences, name)
		all(s.fail(sink.Retry, false, "fenced off"))
		return
	}
	fate := s.broker.w.fate
	s.broker.w.note("publish at %s: %v, fate %d", name, entries, fate)
	switch fate {
	case fateLetGo:
		delete(s.fences, name)
		all(&sink.Error{Class: sink.Retry, Err: sink.ErrTailUnread})
		return
	case fateUnmet:
		all(s.fail(sink.Retry, true, "try again"))
		return
	case fateLate:
		s.broker.late = append(s.broker.late, simBatch{name, fence, s.broker.w.acting, entries})
	case fatePart:
		t.append(s.broker.w.acting, entries[:len(entries)/2])
	case fateLands, fateNoReply:
		t.append(s.broker.w.acting, entries)
	}
	if fate != fateLands && len(entries) > 0 {
		delete(s.fences, name)
		class := sink.Retry
		if len(batch) == 1 && entries[0].Position.Commit%4 == 0 { // as where Pulsar's broker has refused a size
			class = sink.Rejected
		}
		all(s.fail(class, false, "no answer"))
	}
}

// accepted are the entries of the messages before the first that is refused, and writes the results of that one and those behind it.
func (s *simSink) accepted(t *simTopic, batch []sink.Message, results []error) []sink.Entry {
	var entries []sink.Entry
	for i := range batch {
		e := simEntry(&batch[i])
		if t.poison[e.ID] > 0 {
			t.poison[e.ID]--
			results[i] = s.fail(sink.Rejected, true, "refused")
			for i++; i < len(batch); i++ {
				results[i] = sink.ErrNotAttempted
			}
			break
		}
		entries = append(entries, e)
	}
	return entries
}

// simEntry is what the broker stores of a message, as far as Tail returns it.
func simEntry(m *sink.Message) (e sink.Entry) {
	var err error
	for _, h := range m.Headers {
		switch h.Name {
		case sink.HeaderID:
			e.ID = string(h.Value)
		case sink.HeaderPosition:
			e.Position, err = event.ParsePosition(string(h.Value))
		case sink.HeaderFrontier:
			e.Frontier, err = event.ParsePosition(string(h.Value))
		case sink.HeaderReplay:
			e.Replay, err = strconv.Atoi(string(h.Value))
		}
		if err != nil {
			panic(fmt.Sprintf("header %s: %v", h.Name, err))
		}
	}
	return e
}

func (s *simSink) Tail(_ context.Context, destination string, n int) ([]sink.Entry, error) {
	if err := s.unreachable(destination); err != nil {
		return nil, err
	}
	t := s.broker.topic(destination)
	if s.broker.w.off != "fence" {
		t.fence++
	}
	s.fences[destination] = t.fence
	if s.broker.w.off == "deep tail" {
		n = min(n, 1)
	}
	if s.broker.w.off == "tail back to what is known" {
		n = min(n, s.broker.w.publisher.largestBatch)
	}
	if s.broker.w.off == "tail" {
		n = 0
	}
	return append([]sink.Entry(nil), t.entries[max(0, len(t.entries)-n):]...), nil
}

func (s *simSink) Probe(_ context.Context, destination string) error {
	return s.unreachable(destination)
}

func (s *simSink) Close(context.Context) error { return nil }
