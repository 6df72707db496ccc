package pulsar

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/sink"
)

// Tail makes the destination ours, then reads its last n messages. A producer of the same Config.Name that holds the topic is
// cut off. For another one it waits, until ctx or Config.Timeout ends; then the error is Unavailable and names it.
//
// With n below 1 the destination is made ours and nothing is read.
//
// A destination whose last n messages lie in several ledgers is read back by publish time. What Pulsar has
// trimmed is not there: a topic without retention keeps only what some subscription still needs.
func (s *Sink) Tail(ctx context.Context, destination string, n int) ([]sink.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	entries, err := s.tail(ctx, destination, n)
	if err != nil {
		return nil, fmt.Errorf("read the tail of %s: %w", destination, s.asError(err))
	}
	return entries, nil
}

func (s *Sink) tail(ctx context.Context, destination string, n int) ([]sink.Entry, error) {
	t, err := parseTopic(destination)
	if err != nil {
		return nil, known(sink.Unavailable, err)
	}
	p, err := s.fence(ctx, t)
	if err != nil {
		return nil, err
	}
	var entries []sink.Entry
	if n > 0 {
		entries, err = s.readTail(ctx, destination, n)
	}
	if lost := p.lost.Err(); err == nil && lost != nil {
		err = context.Cause(p.lost) // what was read may not be the end any more
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.producers.add(p)
	if err != nil {
		s.retireLocked(p)
		return nil, err
	}
	s.evictLocked()
	return entries, nil
}

// lastID returns the id of the topic's last message, once it has stood still for as long as the topic's last producer demands.
func (s *Sink) lastID(ctx context.Context, topic string, r *openReader) (client.MessageID, error) {
	s.mu.Lock()
	settling, ok := s.producers.settling[topic]
	s.mu.Unlock()
	if !ok {
		settling = settledUnknown
	}
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
	return last, ctx.Err()
}

// readTail reads the last n messages. Nobody else writes meanwhile, because the producer is exclusive.
func (s *Sink) readTail(ctx context.Context, topic string, n int) ([]sink.Entry, error) {
	t := &tailReader{sink: s, topic: topic, want: n, queue: 1}
	end, err := t.open(ctx, client.ReaderOptions{StartMessageID: client.LatestMessageID()})
	if err != nil {
		return nil, err
	}
	defer end.Close()
	if t.last, err = s.lastID(ctx, topic, end); err != nil {
		return nil, err
	}
	if t.last.EntryID() < 0 {
		return nil, nil
	}
	if err := t.readLedger(ctx); err != nil || len(t.entries) >= n {
		return t.result(), err
	}
	if err := t.readByTime(ctx, end); err != nil {
		return nil, err
	}
	return t.result(), nil
}

// tailReader reads from some place to the end of one topic, from further back each time until it has seen enough.
type tailReader struct {
	sink  *Sink
	topic string
	want  int
	last  client.MessageID
	queue int // how many messages a reader may receive ahead

	entries []sink.Entry     // of the last read that came to the end, oldest first
	first   client.MessageID // where that read began
	oldest  time.Time        // when its first message was published
}

func (t *tailReader) result() []sink.Entry {
	return t.entries[max(0, len(t.entries)-t.want):]
}

// open makes a reader, which takes a subscription of its own that vanishes with it.
func (t *tailReader) open(ctx context.Context, o client.ReaderOptions) (*openReader, error) {
	o.Topic, o.ReceiverQueueSize, o.SubscriptionRolePrefix = t.topic, t.queue, "outboxd-tail"
	r, err := call(ctx, t.sink, func(c pulsarClient) (client.Reader, error) { return c.CreateReader(o) }, client.Reader.Close)
	if err != nil {
		return nil, fmt.Errorf("make a reader: %w", err)
	}
	return &openReader{Reader: r, sink: t.sink}, nil
}

// openReader is a reader that is closed in the background, because closing asks the broker, and after the call that was
// begun last: the client leaves a call without an answer when its reader is closed meanwhile.
type openReader struct {
	client.Reader
	sink *Sink
	turn sync.Mutex // held by each call, which may outlive the context of who made it
}

// readerCall runs f, which takes no context.
func readerCall[T any](ctx context.Context, r *openReader, f func(client.Reader) (T, error)) (T, error) {
	return call(ctx, r.sink, func(pulsarClient) (T, error) {
		r.turn.Lock()
		defer r.turn.Unlock()
		return f(r.Reader)
	}, nil)
}

func (r *openReader) Close() {
	r.sink.background.Go(func() {
		r.turn.Lock()
		defer r.turn.Unlock()
		r.Reader.Close()
	})
}

// readLedger reads back inside the last message's ledger: its last entry first, then as many as seem to be needed by what
// the last ones held.
func (t *tailReader) readLedger(ctx context.Context) error {
	for back := int64(0); ; {
		from := max(0, t.last.EntryID()-back)
		r, err := t.open(ctx, client.ReaderOptions{
			StartMessageID:          client.NewMessageID(t.last.LedgerID(), from, -1, t.last.PartitionIdx()),
			StartMessageIDInclusive: true,
		})
		if err != nil {
			return err
		}
		_, err = t.read(ctx, r, 0)
		r.Close()
		if err != nil || len(t.entries) >= t.want || from == 0 {
			return err
		}
		perEntry := max(1, int64(len(t.entries))/(back+1))
		back = max(2*back+1, int64(t.want)/perEntry)
	}
}

// tooMany is how many times the wanted number of messages a step back in time may read before a shorter one is tried.
const tooMany = 20

// readByTime reads back across ledgers, whose numbers a client cannot learn: from ever longer before the oldest message that is known,
// until enough was read or the topic's first message was among it. r is at the topic's end and has read nothing.
func (t *tailReader) readByTime(ctx context.Context, r *openReader) error {
	begin, err := t.firstID(ctx)
	if err != nil {
		return err
	}
	origin := t.oldest
	short, long := time.Duration(0), time.Duration(0) // known to be too short; known to be too long, 0 when none is
	for step := time.Second; !sameEntry(t.first, begin) && len(t.entries) < t.want; {
		limit := tooMany * t.want
		if long > 0 && long-short <= 10*time.Millisecond {
			step, limit = long, 0 // that many messages in one moment: read them
		}
		seek := func(r client.Reader) (struct{}, error) { return struct{}{}, r.SeekByTime(origin.Add(-step)) }
		if _, err := readerCall(ctx, r, seek); err != nil {
			return fmt.Errorf("seek by publish time: %w", err)
		}
		complete, err := t.read(ctx, r, limit)
		switch {
		case err != nil:
			return err
		case complete:
			short = step
		default:
			long = step
		}
		step = 10 * short
		if long > 0 {
			step = short + (long-short)/2
		}
	}
	return nil
}

// firstID returns the id of the oldest message that the topic still has.
func (t *tailReader) firstID(ctx context.Context) (client.MessageID, error) {
	r, err := t.open(ctx, client.ReaderOptions{StartMessageID: client.EarliestMessageID(), StartMessageIDInclusive: true})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	m, err := r.Next(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the first message: %w", err)
	}
	return m.ID(), nil
}

// read reads to the end of the topic and keeps at least the newest wanted entries. It gives up, and keeps what an earlier read
// found, when that takes more than limit messages (0 for any number).
func (t *tailReader) read(ctx context.Context, r client.Reader, limit int) (complete bool, err error) {
	var entries []sink.Entry
	var first client.Message
	for count := 1; ; count++ {
		m, err := r.Next(ctx)
		if err != nil {
			return false, fmt.Errorf("read back from %s: %w", t.last, err)
		}
		if first == nil {
			first = m
			t.queue = max(1, min(100, (1<<20)/max(1, len(m.Payload()))))
		}
		if len(entries) >= 2*t.want {
			entries = append(entries[:0], entries[t.want:]...)
		}
		entries = append(entries, entryOf(m))
		if atOrBehind(m.ID(), t.last) {
			break
		}
		if count == limit {
			return false, nil
		}
	}
	t.entries, t.first, t.oldest = entries, first.ID(), first.PublishTime()
	return true, nil
}

func sameEntry(a, b client.MessageID) bool {
	return a.LedgerID() == b.LedgerID() && a.EntryID() == b.EntryID()
}

func atOrBehind(a, b client.MessageID) bool {
	if a.LedgerID() != b.LedgerID() {
		return a.LedgerID() > b.LedgerID()
	}
	if a.EntryID() != b.EntryID() {
		return a.EntryID() > b.EntryID()
	}
	return a.BatchIdx() >= b.BatchIdx()
}

// entryOf reads what a message says of itself. What somebody else wrote has no position, or none that can be read, and
// says nothing.
func entryOf(m client.Message) sink.Entry {
	properties := m.Properties()
	position, err := event.ParsePosition(properties[sink.HeaderPosition])
	if err != nil {
		return sink.Entry{ID: properties[sink.HeaderID]}
	}
	e := sink.Entry{ID: properties[sink.HeaderID], Position: position}
	frontier, frontierErr := optional(properties, sink.HeaderFrontier, event.ParsePosition)
	replay, replayErr := optional(properties, sink.HeaderReplay, strconv.Atoi)
	if errors.Join(frontierErr, replayErr) != nil {
		return sink.Entry{ID: e.ID}
	}
	e.Frontier, e.Replay = frontier, replay
	return e
}

func optional[T any](properties map[string]string, name string, parse func(string) (T, error)) (T, error) {
	text, ok := properties[name]
	if !ok {
		var none T
		return none, nil
	}
	return parse(text)
}
