package outbox

import (
	"cmp"
	"fmt"
)

// OnSent says what happens to the row of a delivered event.
type OnSent string

// What can happen to a delivered row.
const (
	Mark   OnSent = "mark"   // its status becomes SENT
	Delete OnSent = "delete" // it is deleted
	Keep   OnSent = "keep"   // nothing is written; the row stays NEW
)

// Config says which table is the outbox and how its delivered rows are settled.
type Config struct {
	Schema string // default "public"
	Table  string // default "outbox"

	Columns  Columns
	Statuses Statuses
	OnSent   OnSent // default Mark

	// Rows is the condition that a row o belongs to this shard of the table, on its columns as o."column": all that looks through the table sees
	// no other rows. Empty where the table is not split.
	Rows string

	DefaultTenant string // of a row whose tenant is NULL, and of all rows of a table without one; empty: there is none
}

// WithDefaults fills in what is empty.
func (c Config) WithDefaults() Config {
	c.Columns = c.Columns.withDefaults()
	c.Schema = cmp.Or(c.Schema, "public")
	c.Table = cmp.Or(c.Table, "outbox")
	c.OnSent = cmp.Or(c.OnSent, Mark)
	s := &c.Statuses
	s.New = cmp.Or(s.New, "NEW")
	s.Sent = cmp.Or(s.Sent, "SENT")
	s.Failed = cmp.Or(s.Failed, "FAILED")
	s.Dead = cmp.Or(s.Dead, "DEAD")
	s.Publishing = cmp.Or(s.Publishing, "PUBLISHING")
	s.Published = cmp.Or(s.Published, "PUBLISHED")
	return c
}

// Validate checks what needs no database.
func (c Config) Validate() error {
	switch c.OnSent {
	case Mark, Delete, Keep:
	default:
		return fmt.Errorf("on_sent %q: want mark, delete or keep", c.OnSent)
	}
	if c.OnSent == Mark && c.Statuses.New == c.Statuses.Sent {
		return fmt.Errorf("statuses new and sent are both %q: a delivered row would look like a fresh one", c.Statuses.New)
	}
	return c.checkApart()
}

// checkApart makes sure that what a status says of a row is one thing.
func (c Config) checkApart() error {
	if c.OnSent == Keep {
		return nil
	}
	s := &c.Statuses
	named := map[string]string{}
	if c.OnSent == Mark {
		named[s.Sent] = "sent"
	}
	for _, status := range []struct{ name, value string }{
		{"new", s.New}, {"failed", s.Failed}, {"dead", s.Dead}, {"publishing", s.Publishing},
	} {
		if other, taken := named[status.value]; taken {
			return fmt.Errorf("statuses %s and %s are both %q: name them apart", other, status.name, status.value)
		}
		named[status.value] = status.name
	}
	return nil
}
