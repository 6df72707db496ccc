package decode

import (
	"errors"
	"fmt"

	"github.com/outboxd/outboxd/event"
)

// Decoder reads the messages of one stream, in order. It is not safe for concurrent use.
type Decoder struct {
	schema, table string
	fields        []field
	defaultTenant []byte // nil: none

	relations map[uint32]*relation
	lastID    uint32 // of last: inserts come in runs of one relation
	last      *relation
	tx        transaction
}

// transaction is the one that is open, or was last.
type transaction struct {
	open    bool
	xid     uint32
	commit  event.LSN
	ordinal uint32
}

// New returns a decoder for the outbox table of that schema and name. The names are as the catalog has them: unquoted, in their
// own case.
func New(schema, table string, columns Columns) *Decoder {
	d := &Decoder{schema: schema, table: table, relations: map[uint32]*relation{}}
	for _, f := range columns.fields() {
		if f.column != "" || f.required {
			d.fields = append(d.fields, f)
		}
	}
	if columns.DefaultTenant != "" {
		d.defaultTenant = []byte(columns.DefaultTenant)
	}
	return d
}

// Decode reads one message of the stream, as XLogData carries it, into m, and overwrites whatever m held. It keeps nothing of data, but the
// fields of m.Event are slices of it. After an error the decoder must not be used any more, but for a [RowError]: then
// m is filled as far as the row has values, and the stream can go on.
func (d *Decoder) Decode(data []byte, m *Message) error {
	if len(data) == 0 {
		return errors.New("decode an empty message")
	}
	*m = Message{Kind: Kind(data[0])}
	r := reader{data: data[1:]}
	err := d.decode(&r, m)
	switch {
	case r.err != nil:
		err = r.err
	case err == nil && len(r.data) > 0:
		err = fmt.Errorf("%d bytes too many", len(r.data))
	}
	if err != nil {
		return fmt.Errorf("decode %s: %w", m.Kind, err)
	}
	return nil
}

func (d *Decoder) decode(r *reader, m *Message) error {
	switch m.Kind {
	case Begin:
		return d.begin(r, m)
	case Commit:
		return d.commit(r, m)
	case Origin:
		r.uint64()
		r.text()
		return d.inTransaction()
	case Relation:
		return d.relation(r, m)
	case Type:
		r.uint32()
		r.text()
		r.text()
		return nil
	case Insert:
		return d.insert(r, m)
	case Update:
		return d.update(r, m)
	case Delete:
		return d.delete(r, m)
	case Truncate:
		return d.truncate(r, m)
	case LogicalMessage:
		return d.logicalMessage(r)
	default:
		return errors.New("no such message in protocol version 1")
	}
}

func (d *Decoder) begin(r *reader, m *Message) error {
	m.CommitLSN = event.LSN(r.uint64())
	m.CommitTime = int64(r.uint64()) + event.PostgresEpochMicros
	m.Xid = r.uint32()
	switch {
	case r.err != nil:
		return nil
	case d.tx.open:
		return fmt.Errorf("transaction %d is still open", d.tx.xid)
	case m.CommitLSN <= d.tx.commit:
		return fmt.Errorf("it commits at %s, not behind the one before, which committed at %s: "+
			"positions would go back", m.CommitLSN, d.tx.commit)
	}
	d.tx = transaction{open: true, xid: m.Xid, commit: m.CommitLSN}
	return nil
}

func (d *Decoder) commit(r *reader, m *Message) error {
	flags := r.byte()
	m.CommitLSN = event.LSN(r.uint64())
	m.EndLSN = event.LSN(r.uint64())
	m.CommitTime = int64(r.uint64()) + event.PostgresEpochMicros
	switch {
	case r.err != nil:
		return nil
	case flags != 0:
		return fmt.Errorf("unknown flags %d", flags)
	case !d.tx.open:
		return errors.New("no transaction is open")
	case m.CommitLSN != d.tx.commit:
		return fmt.Errorf("it is at %s, the transaction began for %s", m.CommitLSN, d.tx.commit)
	case m.EndLSN < m.CommitLSN:
		return fmt.Errorf("it ends at %s, before it begins at %s", m.EndLSN, m.CommitLSN)
	}
	d.tx.open = false
	return nil
}

func (d *Decoder) inTransaction() error {
	if !d.tx.open {
		return errors.New("no transaction is open")
	}
	return nil
}

// logicalMessage reads what pg_logical_emit_message wrote: inside a transaction, or alone.
func (d *Decoder) logicalMessage(r *reader) error {
	flags := r.byte()
	r.uint64()
	r.text()
	r.take(int(int32(r.uint32())))
	switch {
	case r.err != nil:
		return nil
	case flags > 1:
		return fmt.Errorf("unknown flags %d", flags)
	case flags == 1:
		return d.inTransaction()
	}
	return nil
}
