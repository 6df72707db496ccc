package decode

import (
	"fmt"
	"slices"
)

// relation is what a Relation message said of a table.
type relation struct {
	name    string
	outbox  bool
	alike   bool // it is not the outbox table but has all its columns: a partition under its own name, or the table renamed
	columns []column
}

// column is one column of the outbox table and the fields of an event that it fills.
type column struct {
	name   string
	fields []field
}

// relation reads a Relation. The server sends one before the first change of a table, and again when the table has changed.
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
	d.relations[id] = rel
	d.last = nil
	missing, complete := d.missing(rel)
	if rel.outbox && !complete {
		return fmt.Errorf("table %s has no column %q any more, or the publication leaves it out: "+
			"restore it, or correct database.columns", rel.name, missing)
	}
	m.Outbox = rel.outbox
	rel.alike = !rel.outbox && complete
	return nil
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

// missing returns the first column of the outbox table that the relation does not have; complete when it has all.
func (d *Decoder) missing(rel *relation) (name string, complete bool) {
	for _, f := range d.fields {
		if !slices.ContainsFunc(rel.columns, func(c column) bool { return c.name == f.column }) {
			return f.column, false
		}
	}
	return "", true
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
