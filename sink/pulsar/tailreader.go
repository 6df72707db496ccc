package pulsar

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/crypto"

	"github.com/outboxd/outboxd/sink"
)

// readTail reads the last n messages. Nobody else writes meanwhile, because the producer is exclusive.
func (s *Sink) readTail(ctx context.Context, topic string, n int) ([]sink.Entry, error) {
	t := &tailReader{sink: s, topic: topic, want: n, queue: minQueue}
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
	if err := t.readByTime(ctx); err != nil {
		return nil, err
	}
	return t.result(), nil
}

// tailReader reads one topic backwards: its end first, then from further back each time up to what it has, until that is enough.
type tailReader struct {
	sink  *Sink
	topic string
	want  int
	last  client.MessageID
	queue int // how many messages a reader may receive ahead

	entries []sink.Entry     // oldest first, without a gap up to the last one that the client gives to a reader
	first   client.MessageID // of the first message that was read; nil before any was
	oldest  time.Time        // when that was published
}

func (t *tailReader) result() []sink.Entry {
	return t.entries[max(0, len(t.entries)-t.want):]
}

// open makes a reader, which takes a subscription of its own that vanishes with it.
func (t *tailReader) open(ctx context.Context, o client.ReaderOptions) (*openReader, error) {
	o.Topic, o.ReceiverQueueSize, o.SubscriptionName = t.topic, t.queue, "outboxd-tail-"+rand.Text()
	o.Decryption = &client.MessageDecryptionInfo{ConsumerCryptoFailureAction: crypto.ConsumerCryptoFailureActionConsume} // else it is never given
	t.sink.heard.reading(o.SubscriptionName)
	r, err := call(ctx, t.sink, t.topic, func(c *pulsarClient) (client.Reader, error) { return c.CreateReader(o) }, client.Reader.Close)
	if err != nil {
		t.sink.heard.notReading(o.SubscriptionName)
		return nil, fmt.Errorf("make a reader: %w", err)
	}
	return &openReader{Reader: r, sink: t.sink, subscription: o.SubscriptionName}, nil
}

// openReader is a reader that is closed in the background, because closing asks the broker, and after the call that was
// begun last: the client leaves a call without an answer when its reader is closed meanwhile.
type openReader struct {
	client.Reader
	sink         *Sink
	subscription string
	byTime       bool       // it begins at a time, behind which there may be nothing
	turn         sync.Mutex // held by each call, which may outlive the context of who made it
}

// readerCall runs f, which takes no context.
func readerCall[T any](ctx context.Context, r *openReader, f func(client.Reader) (T, error)) (T, error) {
	return call(ctx, r.sink, r.Topic(), func(*pulsarClient) (T, error) {
		r.turn.Lock()
		defer r.turn.Unlock()
		return f(r.Reader)
	}, nil)
}

func (r *openReader) Close() {
	r.sink.heard.notReading(r.subscription)
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

// A step back in time that brings more than the missing messages and so many times them besides, but at most tooManyMost, is tried shorter.
const (
	tooMany     = 20
	tooManyMost = 20_000
)

// wholeTime is a step back in time beyond which there is no message.
const wholeTime = 50 * 365 * 24 * time.Hour

// readByTime reads back across ledgers, whose numbers a client cannot learn: from ever longer before the oldest message that is known,
// until enough was read, the topic's first message was among it, or that one was trimmed meanwhile and all time was read.
func (t *tailReader) readByTime(ctx context.Context) error {
	begin, err := t.firstID(ctx)
	if err != nil || begin == nil {
		return err
	}
	origin := t.oldest
	if t.first == nil {
		origin = time.Now()
	}
	short, long := time.Duration(0), time.Duration(0) // known to be too short; known to be too long, 0 when none is
	for step := time.Second; (t.first == nil || !sameEntry(t.first, begin)) && len(t.entries) < t.want; {
		missing := t.want - len(t.entries)
		limit := missing + min(tooMany*missing, tooManyMost)
		if long > 0 && long-short <= 10*time.Millisecond {
			step, limit = long, 0 // that many messages in one moment: read them
		}
		complete, err := t.readSince(ctx, origin.Add(-step), limit)
		switch {
		case err != nil:
			return err
		case complete && step == wholeTime:
			return nil
		case complete && step == long: // fewer than before are there
			short, long = step, 0
		case complete:
			short = step
		default:
			long = step
		}
		step = 10 * min(short, wholeTime/10)
		if long > 0 {
			step = short + (long-short)/2
		}
	}
	return nil
}

// readSince reads what was published since then. Each time has a reader of its own, which has received nothing yet.
func (t *tailReader) readSince(ctx context.Context, since time.Time, limit int) (complete bool, err error) {
	r, err := t.open(ctx, client.ReaderOptions{StartMessageID: client.LatestMessageID()})
	if err != nil {
		return false, err
	}
	defer r.Close()
	r.byTime = true
	seek := func(r client.Reader) (struct{}, error) { return struct{}{}, r.SeekByTime(since) }
	if _, err := readerCall(ctx, r, seek); err != nil {
		return false, fmt.Errorf("seek by publish time: %w", err)
	}
	return t.read(ctx, r, limit)
}

// firstID returns the id of the oldest message that the topic still has, nil where the client gives none of it to a reader.
func (t *tailReader) firstID(ctx context.Context) (client.MessageID, error) {
	r, err := t.open(ctx, client.ReaderOptions{StartMessageID: client.EarliestMessageID(), StartMessageIDInclusive: true})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	next, done := t.inTime(ctx, r)
	defer done()
	switch m, err := next(); {
	case errors.Is(err, errNothingLeft):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the first message: %w", err)
	default:
		return m.ID(), nil
	}
}

// read reads up to what was read before, or to the end of the topic, and keeps at least the newest wanted entries of it. It gives up, and
// keeps nothing of it, when that is more than limit messages (0 for any number).
func (t *tailReader) read(ctx context.Context, r *openReader, limit int) (complete bool, err error) {
	var entries []sink.Entry
	var first client.Message
	next, done := t.inTime(ctx, r)
	defer done()
	for count := 1; ; count++ {
		m, err := next()
		if errors.Is(err, errNothingLeft) {
			break
		}
		if err != nil {
			return false, fmt.Errorf("read back from %s: %w", t.last, err)
		}
		if t.first != nil && reaches(m, t.first) {
			break
		}
		if first == nil {
			first = m
			t.queue = max(minQueue, min(maxQueue, (1<<20)/max(1, len(m.Payload()))))
		}
		if len(entries) >= 2*t.want {
			entries = append(entries[:0], entries[t.want:]...)
		}
		entries = append(entries, entryOf(m))
		if t.first == nil && reaches(m, t.last) {
			break
		}
		if count == limit {
			return false, nil
		}
	}
	if first != nil {
		t.entries, t.first, t.oldest = append(entries, t.entries...), first.ID(), first.PublishTime()
	}
	return true, nil
}

// reaches tells whether a message stands at the end or behind it. One that is encrypted or was sent in chunks is given without its place in the entry, and is
// all of it.
func reaches(m client.Message, end client.MessageID) bool {
	return atOrBehind(m.ID(), end) || m.ID().BatchIdx() < 0 && sameEntry(m.ID(), end)
}

const (
	minQueue  = 2    // messages that a reader receives ahead: with one, it gets nothing more behind the last chunk of a message that began before it
	maxQueue  = 1000 // ... at most
	stepCount = 1000 // messages of a step that has Config.Timeout

	quietLook  = 250 * time.Millisecond // how long a message is waited for before it is asked whether one is left
	quietLooks = 4                      // how often none is: what was received before may be on its way to us, and a process that stood still takes one wait for over
)

// errNothingLeft says that a reader has come to the end, or to what was read before, though the client does not give it what lies there.
var errNothingLeft = errors.New("nothing is left to read")

// inTime returns a function that returns the reader's next message, and one that ends it. The first fails when stepCount messages take longer
// than Config.Timeout.
//
// There are entries that the client gives to no reader: messages without a payload that were sent without batching, and the chunks of a message whose first
// one was not read. Where the last entry is one of these, it would be waited for in vain, each time anew. The client says in its log that it drops them, which is
// as sure as their delivery: entries come in their order. They are somebody else's, as all of ours are batches in one piece, so they are passed over. One that is
// damaged, by its checksum, may be ours, and is waited for.
func (t *tailReader) inTime(ctx context.Context, r *openReader) (next func() (client.Message, error), done func()) {
	var step context.Context
	cancel := context.CancelFunc(func() {})
	count := 0
	next = func() (client.Message, error) {
		if count%stepCount == 0 {
			cancel()
			step, cancel = context.WithTimeout(ctx, t.sink.cfg.Timeout) //nolint:fatcontext // each is made of ctx and ends the one before
		}
		count++
		for dropped := 0; ; {
			look, end := context.WithTimeout(step, quietLook)
			m, err := r.Next(look)
			end()
			if err == nil || look.Err() == nil || step.Err() != nil {
				return m, err
			}
			if t.droppedAll(r) || r.byTime && count == 1 && t.first == nil && t.sink.heard.droppedNone(r.subscription) {
				dropped++ // or, where nothing was read yet, nothing was published since that time: an earlier one finds out
			}
			if dropped == quietLooks {
				return nil, errNothingLeft
			}
		}
	}
	return next, func() { cancel() }
}

// droppedAll tells whether the client has dropped the last of what the reader is to bring.
func (t *tailReader) droppedAll(r *openReader) bool {
	end := t.last
	if t.first != nil {
		end = t.first
	}
	return t.sink.heard.droppedUpTo(r.subscription, placeOf(end))
}
