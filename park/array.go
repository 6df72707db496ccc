package park

import (
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/outboxd/outboxd/event"
)

// array is a one-dimensional array in PostgreSQL's binary format: nothing in an element has to be escaped.
// Source: array_send in PostgreSQL's src/backend/utils/adt/arrayfuncs.c
type array struct {
	buf   []byte
	count int
}

const (
	arrayHeader = 20 // dimensions, whether there are NULLs, the elements' type, the length, the lower bound
	lengthAt    = 12
)

// newArray returns an empty array of the type, with room for n elements of about size bytes.
func newArray(oid uint32, n, size int) *array {
	a := &array{buf: make([]byte, arrayHeader, arrayHeader+n*(4+size))}
	binary.BigEndian.PutUint32(a.buf[0:], 1)
	binary.BigEndian.PutUint32(a.buf[4:], 1)
	binary.BigEndian.PutUint32(a.buf[8:], oid)
	binary.BigEndian.PutUint32(a.buf[16:], 1)
	return a
}

// bytes appends a text; nil is NULL.
func (a *array) bytes(b []byte) {
	a.count++
	if b == nil {
		a.buf = append(a.buf, 0xff, 0xff, 0xff, 0xff)
		return
	}
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(len(b)))
	a.buf = append(a.buf, b...)
}

func (a *array) text(s string) {
	a.count++
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(len(s)))
	a.buf = append(a.buf, s...)
}

func (a *array) int32(n int32) {
	a.count++
	a.buf = binary.BigEndian.AppendUint32(a.buf, 4)
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(n))
}

func (a *array) bool(v bool) {
	a.count++
	b := byte(0)
	if v {
		b = 1
	}
	a.buf = append(a.buf, 0, 0, 0, 1, b)
}

// time appends a timestamptz; the zero time is NULL.
func (a *array) time(t time.Time) {
	if t.IsZero() {
		a.bytes(nil)
		return
	}
	a.count++
	a.buf = binary.BigEndian.AppendUint32(a.buf, 8)
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(microsOf(t)))
}

// microsOf is a time as PostgreSQL sends it. Microseconds since 1970, because a Duration holds 292 years only.
func microsOf(t time.Time) int64 { return t.UnixMicro() - event.PostgresEpochMicros }

// done returns the parameter.
func (a *array) done() []byte {
	binary.BigEndian.PutUint32(a.buf[lengthAt:], uint32(a.count))
	return a.buf
}

// texts, ints and so on are arrays of their types.
func texts(n, size int) *array { return newArray(pgtype.TextOID, n, size) }
func ints(n int) *array        { return newArray(pgtype.Int4OID, n, 4) }
func bools(n int) *array       { return newArray(pgtype.BoolOID, n, 1) }
func times(n int) *array       { return newArray(pgtype.TimestamptzOID, n, 8) }

// refArrays are the ids and the replay numbers of refs.
func refArrays(refs []event.Ref) (ids, replays []byte) {
	id, replay := texts(len(refs), 36), ints(len(refs))
	for _, r := range refs {
		id.text(r.ID)
		replay.int32(int32(r.Replay))
	}
	return id.done(), replay.done()
}
