package outbox

import (
	"errors"
	"fmt"
	"slices"
)

// Columns names the columns of the table. The zero value stands for those of the table that outboxd itself makes; an empty name says
// that the table has no such column, with one exception: where no column of an event is named but the id and the status, the others have their usual
// names, the last four too.
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
	Status        string // Delete and Keep do without one
	RetryCount    string
	RetryAfter    string
	ErrorMessage  string
	CreatedAt     string
}

// Statuses are the values of the status column.
type Statuses struct {
	New        string // default "NEW"
	Sent       string // default "SENT"
	Failed     string // default "FAILED": it was refused and is tried again
	Dead       string // default "DEAD": a person has to decide
	Publishing string // default "PUBLISHING": a polling projector has taken it; adopted like a new one
	Published  string // default "PUBLISHED": delivered by a polling projector; cleaned up like a sent one
}

// DefaultColumns are the columns of the table that outboxd itself makes.
func DefaultColumns() Columns {
	return Columns{
		ID: "id", TenantID: "tenant_id", Topic: "topic", AggregateType: "aggregate_type", AggregateID: "aggregate_id",
		OccurredAt: "occurred_at", SchemaID: "schema_id", SchemaVersion: "schema_version", Payload: "payload",
		Metadata: "event_metadata", Status: "status", RetryCount: "retry_count", RetryAfter: "retry_after",
		ErrorMessage: "error_message", CreatedAt: "created_at",
	}
}

func (c Columns) withDefaults() Columns {
	if c == (Columns{}) {
		return DefaultColumns()
	}
	usual := DefaultColumns()
	for _, f := range c.eventFields() {
		if *f.column != "" {
			return c
		}
	}
	for i, f := range c.eventFields() {
		*f.column = *usual.eventFields()[i].column
	}
	for i, f := range c.extraFields() {
		if *f == "" {
			*f = *usual.extraFields()[i]
		}
	}
	return c
}

// eventField is a column that fills one field of an event.
type eventField struct {
	column   *string
	setting  string
	required bool
}

// eventFields are the columns of an event beside id and status, in the order in which they are read.
func (c *Columns) eventFields() []eventField {
	return []eventField{
		{&c.TenantID, "columns.tenant_id", true},
		{&c.Topic, "columns.topic", true},
		{&c.AggregateType, "columns.aggregate_type", false},
		{&c.AggregateID, "columns.aggregate_id", false},
		{&c.OccurredAt, "columns.occurred_at", false},
		{&c.SchemaID, "columns.schema_id", false},
		{&c.SchemaVersion, "columns.schema_version", false},
		{&c.Payload, "columns.payload", true},
		{&c.Metadata, "columns.event_metadata", false},
	}
}

// extraFields are the columns that the table need not have.
func (c *Columns) extraFields() []*string {
	return []*string{&c.RetryCount, &c.RetryAfter, &c.ErrorMessage, &c.CreatedAt}
}

// all are the columns that are read, each once.
func (c *Columns) all() []string {
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	add(c.ID)
	add(c.Status)
	for _, f := range c.eventFields() {
		add(*f.column)
	}
	for _, f := range c.extraFields() {
		add(*f)
	}
	return names
}

// typesOfExtras are the types with which an extra column is of use, in the order of extraFields.
var typesOfExtras = [][]string{
	{"pg_catalog.int2", "pg_catalog.int4", "pg_catalog.int8", "pg_catalog.numeric"},
	timeTypes,
	{"pg_catalog.text", "pg_catalog.varchar"},
	timeTypes,
}

var timeTypes = []string{"pg_catalog.timestamptz", "pg_catalog.timestamp"}

// dropAbsent leaves out the columns that the table lacks, or that are of no use. It returns why events cannot be read from the table, if so: a column
// under another name than the usual one is there or a mistake.
func (t *Table) dropAbsent() error {
	usual := DefaultColumns()
	var problems []error
	for i, f := range t.config.Columns.eventFields() {
		c, there := t.has[*f.column]
		switch {
		case there && !c.mayRead:
			problems = append(problems, fmt.Errorf("the role may not read column %q: GRANT SELECT on it", c.name))
		case there:
		case *f.column == "" && f.column == &t.config.Columns.TenantID && t.config.DefaultTenant != "":
		case f.required, *f.column != "" && *f.column != *usual.eventFields()[i].column:
			problems = append(problems, fmt.Errorf("it has no column %q: set %s", *f.column, f.setting))
		default:
			*f.column = ""
		}
	}
	for i, f := range t.config.Columns.extraFields() {
		if c, there := t.has[*f]; !there || !c.mayRead || !c.isOf(typesOfExtras[i]) {
			*f = ""
		}
	}
	if _, there := t.has[t.config.Columns.Status]; !there {
		t.config.Columns.Status = ""
	}
	return errors.Join(problems...)
}
