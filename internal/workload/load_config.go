package workload

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// LoadConfig says what a Load writes. The zero value of a field means its default, where there is one.
type LoadConfig struct {
	Connect func(context.Context) (*pgx.Conn, error) // opens a connection of a role that may insert; required
	Outbox  LoadTable
	Run     uint64   // in the ids of the events, 48 bits; no two loads of one table may have the same; required
	Seed    uint64   // of everything that is random
	Tenants []string // required
	Topics  []string // required; 64 at most

	Writers int     // connections that write at once; default 4
	Keys    int     // aggregates of each writer; default 50
	Events  int     // written in all, those that are rolled back included; default until Run's context ends
	Rate    float64 // events written a second; default as fast as possible

	Keyless  bool        // write events without an aggregate id too
	Prepared bool        // run some transactions in two phases
	Trouble  func(error) // told of an interruption; may be nil; called by several goroutines
}

// LoadTable is the outbox table of a Load. An empty name of a column says that the table has none.
type LoadTable struct {
	Name pgx.Identifier

	ID, TenantID, Topic, AggregateType, AggregateID, OccurredAt, SchemaID, Payload, Metadata, Status string

	StatusNew string // status of a row that waits for delivery
	Deletes   bool   // whether delivered rows are deleted
}

func (c LoadConfig) withDefaults() LoadConfig {
	if c.Writers == 0 {
		c.Writers = 4
	}
	if c.Keys == 0 {
		c.Keys = 50
	}
	return c
}

func (c *LoadConfig) validate() error {
	switch {
	case c.Connect == nil || c.Run == 0 || c.Run > maxRun || len(c.Tenants) == 0 || len(c.Topics) == 0:
		return errors.New("connection, run, tenants or topics are missing")
	case len(c.Topics) > maxTopics:
		return fmt.Errorf("%d topics: %d at most", len(c.Topics), maxTopics)
	}
	return nil
}

// columns are the table's columns that a Load fills, in the order of loadWriter.values.
func (t *LoadTable) columns() []string {
	return []string{t.ID, t.TenantID, t.Topic, t.AggregateType, t.AggregateID, t.OccurredAt, t.SchemaID, t.Payload, t.Metadata, t.Status}
}
