package config

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/outboxd/outboxd/shard"
)

// Shard is the part of the table that the configuration is for; of one that is for all shards, the first.
func (c *Config) Shard() shard.Shard {
	return shard.Shard{Count: c.Shards.Count, Number: max(0, c.Shards.Number), By: shard.By(c.Shards.By)}
}

// Split returns a configuration for each shard that this one is for: with the shard's own names of slot, publication and schema. A table that is
// not split has one, this one itself, and so has a configuration that Split has returned.
func (c *Config) Split() []*Config {
	if c.whole != nil || !c.Shard().Split() {
		return []*Config{c}
	}
	first, last := 0, c.Shards.Count-1
	if c.Shards.Number >= 0 {
		first, last = c.Shards.Number, c.Shards.Number
	}
	var all []*Config
	for number := first; number <= last; number++ {
		one := *c
		one.Shards.Number, one.whole = number, c
		s, d := one.Shard(), &one.Database
		d.Slot, d.Publication, d.Schema = s.Name(d.Slot), s.Name(d.Publication), s.Name(d.Schema)
		all = append(all, &one)
	}
	return all
}

// Unsplit returns the names of slot, publication and schema as they are configured, of a part too.
func (c *Config) Unsplit() (slot, publication, schema string) {
	if c.whole != nil {
		c = c.whole
	}
	return c.Database.Slot, c.Database.Publication, c.Database.Schema
}

// ShardColumns are the columns that can decide to which shard a row belongs.
func (d *Database) ShardColumns() shard.Columns {
	c := &d.Columns
	return shard.Columns{ID: c.ID, TenantID: c.TenantID, AggregateType: c.AggregateType, AggregateID: c.AggregateID, DefaultTenant: d.DefaultTenant}
}

// Resharded returns the configuration that splits the same table into so many shards, 1 to shard.Most, for its names and its shares alone: routes are not
// looked at. An empty by leaves it as it is.
func (c *Config) Resharded(count int, by string) (*Config, error) {
	if c.whole != nil || c.Shards.Number >= 0 && c.Shard().Split() {
		return nil, errors.New("shards.number is for one shard, and all of them are resharded together: leave it out")
	}
	next := *c
	next.Shards = Shards{Count: count, By: cmp.Or(by, c.Shards.By), Number: -1}
	s, now := next.Shard(), c.Shard()
	if s.Layout() == now.Layout() {
		return nil, fmt.Errorf("the configuration says %s already: reshard goes by the layout until now, so leave the settings as they were, and change them behind it", s.Layout())
	}
	var faults []error
	next.eachShardFault(func(path, problem string) { faults = append(faults, fmt.Errorf("%s: %s", path, problem)) })
	return &next, errors.Join(faults...)
}

func (l *loader) checkShards(cfg *Config) {
	if n := cfg.Shards.Number; n >= cfg.Shard().Count {
		l.wrong("shards.number", "there is no shard %d with shards.count: %d: they are counted from 0", n, cfg.Shard().Count)
	}
	cfg.eachShardFault(func(path, problem string) { l.wrong(path, "%s", problem) })
}

// eachShardFault tells why the table cannot be split so, by the setting that says it.
func (c *Config) eachShardFault(tell func(path, problem string)) {
	s := c.Shard()
	if !s.Split() {
		return
	}
	for _, name := range []struct{ path, base string }{
		{"database.slot", c.Database.Slot},
		{"database.publication", c.Database.Publication},
		{"database.schema", c.Database.Schema},
	} {
		if longest := s.LongestName(name.base); len(longest) > 63 {
			tell(name.path, fmt.Sprintf("%q becomes %q with shards.count: %d, which is longer than PostgreSQL's 63 bytes: choose a shorter one", name.base, longest, s.Count))
		}
	}
	if s.By == shard.Tenant && c.Database.Columns.TenantID == "" {
		tell("shards.by", "the table has no column of the tenant (database.columns.tenant_id), so all rows are of one: set it to key")
	}
}
