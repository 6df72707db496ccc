package decode

import (
	"slices"

	"github.com/outboxd/outboxd/event"
)

// Columns names the columns of the outbox table. An empty name says that the table has no such column. ID, Topic and Payload are required, and
// TenantID is without a DefaultTenant.
type Columns struct {
	ID            string
	TenantID      string
	Topic         string
	AggregateType string
	AggregateID   string
	OccurredAt    string
	SchemaID      string
	SchemaVersion string
	Payload       string
	Metadata      string
	Status        string

	DefaultTenant string // of a row whose tenant is NULL, and of all rows of a table without one; empty: there is none
}

// DefaultColumns are the columns of the outbox table that outboxd itself makes.
func DefaultColumns() Columns {
	return Columns{
		ID: "id", TenantID: "tenant_id", Topic: "topic", AggregateType: "aggregate_type", AggregateID: "aggregate_id",
		OccurredAt: "occurred_at", SchemaID: "schema_id", SchemaVersion: "schema_version", Payload: "payload",
		Metadata: "event_metadata", Status: "status",
	}
}

// Names returns the columns that the table must have, each once.
func (c Columns) Names() []string {
	var names []string
	for _, f := range c.fields() {
		if f.column != "" && !slices.Contains(names, f.column) {
			names = append(names, f.column)
		}
	}
	return names
}

// field is one field of an event and the column that fills it.
type field struct {
	column   string
	of       func(*event.Event) *[]byte
	required bool // NULL is no event
}

func (c Columns) fields() []field {
	return []field{
		{c.ID, func(e *event.Event) *[]byte { return &e.ID }, true},
		{c.TenantID, func(e *event.Event) *[]byte { return &e.TenantID }, c.DefaultTenant == ""},
		{c.Topic, func(e *event.Event) *[]byte { return &e.Topic }, true},
		{c.AggregateType, func(e *event.Event) *[]byte { return &e.AggregateType }, false},
		{c.AggregateID, func(e *event.Event) *[]byte { return &e.AggregateID }, false},
		{c.OccurredAt, func(e *event.Event) *[]byte { return &e.OccurredAt }, false},
		{c.SchemaID, func(e *event.Event) *[]byte { return &e.SchemaID }, false},
		{c.SchemaVersion, func(e *event.Event) *[]byte { return &e.SchemaVersion }, false},
		{c.Payload, func(e *event.Event) *[]byte { return &e.Payload }, true},
		{c.Metadata, func(e *event.Event) *[]byte { return &e.Metadata }, false},
		{c.Status, func(e *event.Event) *[]byte { return &e.Status }, false},
	}
}
