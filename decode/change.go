package decode

import (
	"fmt"

	"github.com/outboxd/outboxd/event"
)

// insert reads an Insert. It counts every row of the outbox table, so that the ordinal is a function of the log alone.
func (d *Decoder) insert(r *reader, m *Message) error {
	rel, err := d.lookup(r.uint32())
	if r.err != nil || err != nil {
		return err
	}
	if err := d.inTransaction(); err != nil {
		return err
	}
	if tag := r.byte(); r.err == nil && tag != 'N' {
		return fmt.Errorf("unknown tuple %q", tag)
	}
	if rel.alike {
		return d.alikeError(rel)
	}
	if !rel.outbox {
		return skipTuple(r, rel)
	}
	m.Outbox = true
	if d.tx.ordinal++; d.tx.ordinal == 0 {
		return fmt.Errorf("transaction %d has more inserts than can be counted", d.tx.xid)
	}
	m.Event.Xid = d.tx.xid
	m.Event.Position = event.Position{Commit: d.tx.commit, Ordinal: d.tx.ordinal}
	if err := readRow(r, rel, &m.Event); err != nil || r.err != nil {
		return err
	}
	if m.Event.TenantID == nil {
		m.Event.TenantID = d.defaultTenant
	}
	return d.checkRow(rel, &m.Event)
}

// alikeError refuses a row that looks like an event: passing it over could lose one.
func (d *Decoder) alikeError(rel *relation) error {
	return fmt.Errorf("the row is of table %s, which has all columns of the outbox table %s.%s but not its name: "+
		"for a partition set publish_via_partition_root = true on the publication, any other table must leave it; "+
		"the log keeps what it has, so make the slot anew then", rel.name, d.schema, d.table)
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

func (d *Decoder) checkRow(rel *relation, e *event.Event) error {
	for _, f := range d.fields {
		if f.required && *f.of(e) == nil {
			return &RowError{Table: rel.name, Column: f.column, ID: string(e.ID), Position: e.Position}
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
	if flags := r.byte(); flags > 3 { // cascade, restart identity
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
