package park

import (
	"encoding/binary"
	"time"

	"github.com/outboxd/outboxd/event"
)

// rowColumns are what row reads, from p.
const rowColumns = `p.id, p.replay, p.sink, p.destination, p.target, p.state, p.epoch, p.commit_lsn, p.ordinal, p.key_hash, p.attempts, p.due_at,
	p.reason, p.blocks, p.landed_epoch, p.landed_lsn, p.landed_ordinal, p.committed_at, p.parked_at, p.tenant_id, p.topic,
	p.aggregate_type, p.aggregate_id, p.occurred_at, p.schema_id, p.schema_version, p.payload, p.metadata`

// inOrder is the order of rows: their position, which is that of their index.
const inOrder = `p.epoch, p.commit_lsn, p.ordinal, p.id, p.replay`

// cells are the values of one result row in binary format, read from left to right. They are valid until the next row is read.
// The program asks for the types, so a value of another length is a broken invariant and panics.
type cells struct {
	values [][]byte
	at     int
}

// bytes returns a text as it lies in the connection's memory; NULL is nil.
func (c *cells) bytes() []byte {
	c.at++
	return c.values[c.at-1]
}

// text returns a copy of a text; NULL is empty. Most texts repeat those of the row before, whose copy is then used again.
func (c *cells) text(before string) string {
	b := c.bytes()
	if string(b) == before {
		return before
	}
	return string(b)
}

func (c *cells) int32() int { return int(int32(binary.BigEndian.Uint32(c.bytes()))) }

// int64 returns a bigint, or what a pg_lsn holds; NULL is 0.
func (c *cells) int64() int64 {
	b := c.bytes()
	if b == nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

func (c *cells) bool() bool {
	b := c.bytes()
	return b != nil && b[0] != 0
}

// time returns a timestamptz; NULL is the zero time.
func (c *cells) time() time.Time {
	b := c.bytes()
	if b == nil {
		return time.Time{}
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + event.PostgresEpochMicros)
}

// position reads an epoch, an LSN and an ordinal.
func (c *cells) position() event.Position {
	epoch, commit, ordinal := c.int64(), c.int64(), c.int64()
	return event.Position{Epoch: uint32(epoch), Commit: event.LSN(commit), Ordinal: uint32(ordinal)}
}

// row reads rowColumns. The row owns its bytes, which lie in one piece of memory.
func (c *cells) row(before *Row) (r Row) {
	e := &r.Event
	texts := fields(e)
	e.ID = c.bytes()
	r.Replay = c.int32()
	r.Destination.Sink = c.text(before.Destination.Sink)
	r.Destination.Name = c.text(before.Destination.Name)
	r.Target = c.text(before.Target)
	r.State = State(c.text(string(before.State)))
	e.Position = c.position()
	r.Key = uint64(c.int64())
	r.Attempts = c.int32()
	r.Due = c.time()
	r.Reason = c.text(before.Reason)
	r.Blocks = c.bool()
	r.LandedAfter = c.position()
	r.Committed = c.time()
	r.ParkedAt = c.time()
	for _, field := range texts[1:] {
		*field = c.bytes()
	}
	own(e)
	return r
}

// fields are the texts of an event that are kept.
func fields(e *event.Event) [10]*[]byte {
	return [10]*[]byte{
		&e.ID, &e.TenantID, &e.Topic, &e.AggregateType, &e.AggregateID, &e.OccurredAt, &e.SchemaID, &e.SchemaVersion, &e.Payload, &e.Metadata,
	}
}

// own copies the event's texts from the connection's memory.
func own(e *event.Event) {
	memory := make([]byte, 0, e.Size())
	for _, field := range fields(e) {
		if *field == nil {
			continue
		}
		start := len(memory)
		memory = append(memory, *field...)
		*field = memory[start:len(memory):len(memory)]
	}
}

// rowReader collects rows.
type rowReader struct{ rows []Row }

func (r *rowReader) read(c *cells) {
	var before Row
	if len(r.rows) > 0 {
		before = r.rows[len(r.rows)-1]
	}
	r.rows = append(r.rows, c.row(&before))
}
