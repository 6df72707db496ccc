package decode

import (
	"errors"
	"fmt"
	"slices"

	"github.com/outboxd/outboxd/event"
)

// Decoder reads the messages of one stream, in order. It is not safe for concurrent use.
type Decoder struct {
	schema, table string
	fields        []field

	relations map[uint32]*relation
	lastID    uint32 // of last: inserts come in runs of one relation
	last      *relation
	tx        transaction
}

// transaction is the one that is open.
type transaction struct {
	open    bool
	xid     uint32
	commit  event.LSN
	ordinal uint32
}

// relation is what a Relation message said of a table.
type relation struct {
	name    string
	outbox  bool
	columns []column
}

// column is one column of the outbox table and the fields of an event that it fills.
type column struct {
	name   string
	fields []field
}

// New returns a decoder for the given outbox table. Column names are those of the table.
func New(schema, table string, columns Columns) *Decoder {
	d := &Decoder{schema: schema, table: table}
	for _, f := range columns.fields() {
		if f.column != "" {
			d.fields = append(d.fields, f)
		}
	}
	d.Reset()
	return d
}

// Reset forgets everything, for a new stream.
func (d *Decoder) Reset() {
	d.relations = make(map[uint32]*relation)
	d.last, d.tx = nil, transaction{}
}

// Decode reads one message into m. m is overwritten, whatever it held.
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
		return logicalMessage(r)
	default:
		return errors.New("no such message in protocol version 1")
	}
}

// microseconds between PostgreSQL's epoch, 2000, and 1970
const epoch2000 = 946_684_800_000_000

func (d *Decoder) begin(r *reader, m *Message) error {
	m.CommitLSN = event.LSN(r.uint64())
	m.CommitTime = int64(r.uint64()) + epoch2000
	m.Xid = r.uint32()
	if d.tx.open {
		return fmt.Errorf("transaction %d is still open", d.tx.xid)
	}
	d.tx = transaction{open: true, xid: m.Xid, commit: m.CommitLSN}
	return nil
}

func (d *Decoder) commit(r *reader, m *Message) error {
	flags := r.byte()
	m.CommitLSN = event.LSN(r.uint64())
	m.EndLSN = event.LSN(r.uint64())
	m.CommitTime = int64(r.uint64()) + epoch2000
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

func (d *Decoder) relation(r *reader, m *Message) error {
	id := r.uint32()
	schema, name := string(r.text()), string(r.text())
	if schema == "" {
		schema = "pg_catalog" // the protocol's short form
	}
	r.byte() // replica identity
	rel := &relation{name: schema + "." + name, outbox: schema == d.schema && name == d.table}
	for range int(r.uint16()) {
		r.byte() // flags: part of the key
		c := column{name: string(r.text())}
		r.uint32() // type
		r.uint32() // type modifier
		if r.err != nil {
			return nil
		}
		if rel.outbox {
			c.fields = d.fieldsOf(c.name)
		}
		rel.columns = append(rel.columns, c)
	}
	m.Outbox = rel.outbox
	d.relations[id] = rel
	d.last = nil
	return d.complete(rel)
}

func (d *Decoder) fieldsOf(column string) []field {
	var fields []field
	for _, f := range d.fields {
		if f.column == column {
			fields = append(fields, f)
		}
	}
	return fields
}

// complete makes sure that the outbox table has every column that it should have.
func (d *Decoder) complete(rel *relation) error {
	if !rel.outbox {
		return nil
	}
	for _, f := range d.fields {
		if !slices.ContainsFunc(rel.columns, func(c column) bool { return c.name == f.column }) {
			return fmt.Errorf("table %s has no column %q any more, or the publication leaves it out: "+
				"restore it, or correct database.columns", rel.name, f.column)
		}
	}
	return nil
}

func (d *Decoder) lookup(id uint32) (*relation, error) {
	if d.last != nil && d.lastID == id {
		return d.last, nil
	}
	rel, ok := d.relations[id]
	if !ok {
		return nil, fmt.Errorf("no Relation came for table %d", id)
	}
	d.last, d.lastID = rel, id
	return rel, nil
}

func (d *Decoder) insert(r *reader, m *Message) error {
	rel, err := d.lookup(r.uint32())
	if r.err != nil || err != nil {
		return err
	}
	if err := d.inTransaction(); err != nil {
		return err
	}
	if tag := r.byte(); tag != 'N' {
		return fmt.Errorf("unknown tuple %q", tag)
	}
	if !rel.outbox {
		return skipTuple(r, rel)
	}
	m.Outbox = true
	d.tx.ordinal++
	m.Event.Xid = d.tx.xid
	m.Event.Position = event.Position{Commit: d.tx.commit, Ordinal: d.tx.ordinal}
	if err := readRow(r, rel, &m.Event); err != nil || r.err != nil {
		return err
	}
	return d.checkRow(&m.Event)
}

// readRow reads a tuple into the event's fields.
func readRow(r *reader, rel *relation, e *event.Event) error {
	if n := int(r.uint16()); n != len(rel.columns) && r.err == nil {
		return fmt.Errorf("%d columns in a row of %s, which has %d", n, rel.name, len(rel.columns))
	}
	for i := range rel.columns {
		c := &rel.columns[i]
		var value []byte
		switch format := r.byte(); format {
		case 't':
			value = r.take(int(int32(r.uint32())))
		case 'n':
		default:
			if r.err != nil {
				return nil
			}
			return fmt.Errorf("column %q of an insert into %s is in format %q, want text", c.name, rel.name, format)
		}
		for _, f := range c.fields {
			*f.of(e) = value
		}
	}
	return nil
}

func (d *Decoder) checkRow(e *event.Event) error {
	for _, f := range d.fields {
		if f.required && *f.of(e) == nil {
			return &RowError{Column: f.column, ID: string(e.ID), Position: e.Position}
		}
	}
	return nil
}

// skipTuple reads a tuple of a table that is none of our business.
func skipTuple(r *reader, rel *relation) error {
	n := int(r.uint16())
	if r.err == nil && n != len(rel.columns) {
		return fmt.Errorf("%d columns in a row of %s, which has %d", n, rel.name, len(rel.columns))
	}
	for range n {
		switch format := r.byte(); format {
		case 'n', 'u':
		case 't', 'b':
			r.take(int(int32(r.uint32())))
		default:
			r.fail(fmt.Errorf("unknown column format %q", format))
		}
		if r.err != nil {
			return nil
		}
	}
	return nil
}

func (d *Decoder) update(r *reader, m *Message) error {
	rel, err := d.changed(r, m)
	if err != nil {
		return err
	}
	tag := r.byte()
	if tag == 'K' || tag == 'O' {
		if err := skipTuple(r, rel); err != nil {
			return err
		}
		tag = r.byte()
	}
	if r.err == nil && tag != 'N' {
		return fmt.Errorf("unknown tuple %q", tag)
	}
	return skipTuple(r, rel)
}

func (d *Decoder) delete(r *reader, m *Message) error {
	rel, err := d.changed(r, m)
	if err != nil {
		return err
	}
	if tag := r.byte(); r.err == nil && tag != 'K' && tag != 'O' {
		return fmt.Errorf("unknown tuple %q", tag)
	}
	return skipTuple(r, rel)
}

// changed reads the relation of an update or a delete.
func (d *Decoder) changed(r *reader, m *Message) (*relation, error) {
	rel, err := d.lookup(r.uint32())
	if r.err != nil {
		return nil, r.err
	}
	if err != nil {
		return nil, err
	}
	m.Outbox = rel.outbox
	return rel, d.inTransaction()
}

func (d *Decoder) truncate(r *reader, m *Message) error {
	n := r.uint32()
	if flags := r.byte(); flags > 3 {
		return fmt.Errorf("unknown flags %d", flags)
	}
	for range n {
		rel, err := d.lookup(r.uint32())
		if r.err != nil || err != nil {
			return err
		}
		m.Outbox = m.Outbox || rel.outbox
	}
	return d.inTransaction()
}

// logicalMessage reads what pg_logical_emit_message wrote, inside a transaction or outside.
func logicalMessage(r *reader) error {
	if flags := r.byte(); flags > 1 {
		return fmt.Errorf("unknown flags %d", flags)
	}
	r.uint64()
	r.text()
	r.take(int(int32(r.uint32())))
	return nil
}
