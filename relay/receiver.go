package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/outboxd/outboxd/decode"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/wal"
)

const (
	lookInterval = 200 * time.Millisecond // the longest wait for the log before a look at the other duties
	budgetWait   = 100 * time.Millisecond // the same for memory

	// What the server sends so long after its commit is a backlog: its events may wait a little for each other, so that batches are large and
	// the log is not looked at for each message.
	backlogAge  = 250 * time.Millisecond
	gatherWait  = 10 * time.Millisecond
	gatherBytes = 64 << 10
)

// receiver reads the stream, decodes it into chunks and hands them to the core. It is the only goroutine that touches the
// replication connection once the session is open, so it also sends the status: each of its waits is bounded by the next status tick.
type receiver struct {
	stream      *wal.Stream
	decoder     *decode.Decoder
	budget      *budget
	out         chan<- *handover
	idle        <-chan *handover // used ones, to be filled again
	chunks      <-chan *chunk    // recycled ones
	facts       *facts
	interval    time.Duration // between two status updates
	freshStatus []byte        // the status that marks a fresh row; nil when the table has none

	until     event.LSN       // nothing is received that was committed here or later; 0: everything is
	confirmed *atomic.Uint64  // what the core allows to be confirmed
	draining  <-chan struct{} // closed: receive no more than the open transaction, keep the status flowing

	message    decode.Message
	current    *chunk
	pending    *handover
	handed     int // entries of current that were handed over
	inTx       bool
	marked     bool // the open transaction's begin is marked, because it holds an event
	commitTime int64
	backlog    bool // the last message was sent long after its commit
	nextStatus time.Time
	sent       event.LSN // last confirmed LSN that was sent
}

// run receives until ctx ends (nil) or the stream fails.
func (r *receiver) run(ctx context.Context) error {
	r.pending = r.freshHandover()
	for ctx.Err() == nil {
		gathering := r.backlog
		until, err := r.duties()
		if err != nil {
			return err
		}
		if r.mayEnd() {
			return r.linger(ctx)
		}
		// What is buffered is taken without a look at the other duties, and so is what comes of a backlog.
		for more := true; more; more = (gathering || r.stream.Buffered() > 0) && time.Now().Before(until) {
			message, err := r.stream.Receive(until)
			if err != nil {
				return err
			}
			err = r.take(ctx, message)
			if errors.Is(err, errEnd) {
				return r.linger(ctx)
			}
			if err != nil {
				return err
			}
		}
		r.flush(ctx)
	}
	return r.lastStatus()
}

// reached tells whether what comes at lsn or behind it is no longer to be received.
func (r *receiver) reached(lsn event.LSN) bool { return r.until > 0 && lsn >= r.until }

// errEnd says that no more is to be received: what is here is handed over, and the connection kept alive.
var errEnd = errors.New("no more is to be received")

// mayEnd tells whether a drain was asked for and no transaction is half received: its events would all come again.
func (r *receiver) mayEnd() bool {
	if r.inTx && r.marked {
		return false
	}
	select {
	case <-r.draining:
		return true
	default:
		return false
	}
}

// duties sends a status update when one is due, and returns when to look again.
func (r *receiver) duties() (time.Time, error) {
	if err := r.status(); err != nil {
		return time.Time{}, err
	}
	wait, gather := lookInterval, 1
	if r.backlog {
		wait, gather = gatherWait, gatherBytes
	}
	if err := r.stream.Gather(gather); err != nil {
		return time.Time{}, err
	}
	look := time.Now().Add(wait)
	if r.nextStatus.Before(look) {
		look = r.nextStatus
	}
	return look, nil
}

// linger hands over the rest, then keeps the connection alive and confirms what the core allows, until ctx ends.
func (r *receiver) linger(ctx context.Context) error {
	r.flush(ctx)
	close(r.out)
	tick := time.NewTicker(lookInterval / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return r.lastStatus()
		case <-tick.C:
		}
		if event.LSN(r.confirmed.Load()) > r.sent {
			r.nextStatus = time.Time{}
		}
		if err := r.status(); err != nil {
			return err
		}
	}
}

// lastStatus confirms what the core allowed last.
func (r *receiver) lastStatus() error {
	r.nextStatus = time.Time{}
	return r.status()
}

// status sends a status update when it is due.
func (r *receiver) status() error {
	now := time.Now()
	if now.Before(r.nextStatus) {
		return nil
	}
	r.nextStatus = now.Add(r.interval)
	r.sent = event.LSN(r.confirmed.Load())
	r.facts.sentLSN.Store(uint64(r.sent))
	return r.stream.Confirm(r.sent)
}

func (r *receiver) take(ctx context.Context, m wal.Message) error {
	switch m.Kind {
	case wal.Tick:
		r.backlog = false // until the next message says otherwise
		return nil
	case wal.Keepalive:
		r.facts.walEnd.Store(uint64(m.WALEnd))
		r.keepalive(m.WALEnd)
		if m.ReplyRequested {
			r.nextStatus = time.Time{}
			r.pending.replyNow = true
		}
		if r.reached(m.WALEnd) && !r.inTx {
			return errEnd
		}
		return nil
	case wal.Data:
		err := r.data(ctx, m.Data)
		r.backlog = m.ServerTime.UnixMicro()-r.commitTime > backlogAge.Microseconds()
		return err
	default:
		return fmt.Errorf("receive: unknown kind of message %v", m.Kind)
	}
}

// insertTag is the first byte of pgoutput's Insert message, the only one whose bytes outlive the call.
const insertTag = 'I'

func (r *receiver) data(ctx context.Context, data []byte) error {
	if len(data) > 0 && data[0] == insertTag {
		return r.insert(ctx, data)
	}
	if err := r.decoder.Decode(data, &r.message); err != nil {
		return r.halt(err)
	}
	switch r.message.Kind {
	case decode.Begin:
		if r.reached(r.message.CommitLSN) {
			r.keepalive(r.message.CommitLSN) // confirming this leaves the transaction to whoever comes next
			return errEnd
		}
		r.inTx, r.marked = true, false
		r.commitTime = r.message.CommitTime
	case decode.Commit:
		r.inTx = false
		if r.marked {
			r.mark(markCommit, r.message.EndLSN)
		} else {
			r.keepalive(r.message.EndLSN)
		}
		r.facts.walEnd.Store(max(r.facts.walEnd.Load(), uint64(r.message.EndLSN)))
		if r.mayEnd() {
			return errEnd
		}
	case decode.Update, decode.Delete, decode.Truncate:
		if r.message.Outbox {
			r.facts.ignoredChanges.Add(1)
		}
	}
	return nil
}

// keepalive marks that everything up to lsn is received. Inside a transaction there is nothing to mark: its end
// will say more. Consecutive ones become one.
func (r *receiver) keepalive(lsn event.LSN) {
	if r.inTx {
		return
	}
	if n := len(r.pending.marks); n > 0 {
		last := &r.pending.marks[n-1]
		if last.kind == markKeepalive && last.at == r.pendingEntries() {
			last.lsn = max(last.lsn, lsn)
			return
		}
	}
	r.mark(markKeepalive, lsn)
}

func (r *receiver) mark(kind markKind, lsn event.LSN) {
	r.pending.marks = append(r.pending.marks, mark{kind: kind, at: r.pendingEntries(), lsn: lsn})
}

func (r *receiver) insert(ctx context.Context, data []byte) error {
	if err := r.reserve(ctx, len(data)); err != nil {
		return err
	}
	kept, e := r.current.add(data)
	err := r.decoder.Decode(kept, &r.message)
	fault, isRow := errors.AsType[*decode.RowError](err)
	if err != nil && (!isRow || fault.ID == "") {
		r.current.dropLast(kept)
		return r.halt(err)
	}
	r.facts.receivedEvents.Add(1)
	if !r.message.Outbox || (r.freshStatus != nil && string(r.message.Event.Status) != string(r.freshStatus)) {
		r.facts.ignoredChanges.Add(1)
		r.current.dropLast(kept)
		return nil
	}
	e.event = r.message.Event
	if isRow {
		e.fault = fault // parked, for a person to decide
	}
	e.commitTime = r.commitTime
	if !r.marked {
		r.marked = true
		r.pending.marks = append(r.pending.marks, mark{kind: markBegin, at: r.pendingEntries() - 1, time: r.commitTime})
	}
	return nil
}

// halt ends the stream before what could not be decoded: what was received until there is handed over first, because the next session
// comes no further, and it would never be delivered.
func (r *receiver) halt(cause error) error {
	cause = fmt.Errorf("decode the log: %w", cause)
	if row, ok := errors.AsType[*decode.RowError](cause); ok {
		e := &r.message.Event
		cause = &StoppedError{
			ID: row.ID, Position: row.Position, Tenant: string(e.TenantID), Topic: string(e.Topic), Cause: cause,
		}
	}
	r.pending.halt = cause
	return errEnd
}

// reserve makes room for an event of n bytes in the current chunk. While the budget is used up it waits, and keeps
// the status flowing.
func (r *receiver) reserve(ctx context.Context, n int) error {
	if r.current != nil && r.current.fits(n) {
		return nil
	}
	if r.current != nil {
		r.mark(markChunkFull, 0)
		r.flush(ctx)
		r.current, r.handed = nil, 0
	}
	fresh := r.emptyChunk(n)
	for !r.budget.take(fresh.cost(), budgetWait) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.status(); err != nil {
			return err
		}
	}
	r.current = fresh
	r.pending.chunk = fresh
	return nil
}

func (r *receiver) emptyChunk(n int) *chunk {
	if n <= chunkBytes {
		select {
		case c := <-r.chunks:
			return c
		default:
		}
	}
	return newChunk(n)
}

func (r *receiver) pendingEntries() int {
	if r.current == nil {
		return 0
	}
	return len(r.current.entries) - r.handed
}

// flush hands over what is pending, if anything is.
func (r *receiver) flush(ctx context.Context) {
	p := r.pending
	n := r.pendingEntries()
	if n == 0 && len(p.marks) == 0 && !p.replyNow && p.halt == nil {
		return
	}
	if r.current != nil {
		p.chunk = r.current
		p.entries = r.current.entries[r.handed : r.handed+n : r.handed+n]
		r.handed += n
	}
	select {
	case r.out <- p:
		r.pending = r.freshHandover()
	case <-ctx.Done():
	}
}

func (r *receiver) freshHandover() *handover {
	select {
	case h := <-r.idle:
		return h
	default:
		return &handover{}
	}
}
