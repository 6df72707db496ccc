package main

import (
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/wal"
)

// walConfig says what the replication connection reads. create lets it make a missing publication and slot.
func walConfig(cfg *config.Config, create bool) wal.Config {
	schema, table := tableName(cfg)
	return wal.Config{
		URL:    cfg.Database.URL.Reveal(),
		Schema: schema, Table: table,
		Columns: columnNames(cfg.Database.Columns),
		Slot:    cfg.Database.Slot, Publication: cfg.Database.Publication,
		Create: create, Failover: cfg.Database.Failover,
		StatusInterval: cfg.StatusInterval.Std(),
	}
}

// columnNames returns the columns that the table must have, each once.
func columnNames(c config.Columns) []string {
	var names []string
	seen := map[string]bool{"": true}
	for _, name := range []string{
		c.ID, c.TenantID, c.Topic, c.AggregateType, c.AggregateID, c.OccurredAt,
		c.SchemaID, c.SchemaVersion, c.Payload, c.Metadata, c.Status,
	} {
		if !seen[name] {
			names = append(names, name)
			seen[name] = true
		}
	}
	return names
}
