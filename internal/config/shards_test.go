package config

import (
	"strings"
	"testing"

	"github.com/outboxd/outboxd/shard"
)

const shardedHead = `database: {url: "postgres://localhost/shop"}
sinks: {redis: {url: "redis://localhost:6379/0"}}
`

func TestShardsHaveNamesOfTheirOwn(t *testing.T) {
	cfg, _, err := load(t, shardedHead+`shards: {count: 3}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	parts := cfg.Split()
	if len(parts) != 3 {
		t.Fatalf("got %d parts, want 3", len(parts))
	}
	for number, part := range parts {
		want := "outboxd_3t_" + string(rune('0'+number))
		d := part.Database
		if d.Slot != want || d.Publication != want || d.Schema != want || part.Shard() != (shard.Shard{Count: 3, Number: number, By: shard.Tenant}) {
			t.Errorf("shard %d: slot %s, publication %s, schema %s, %+v", number, d.Slot, d.Publication, d.Schema, part.Shard())
		}
		if again := part.Split(); len(again) != 1 || again[0] != part {
			t.Errorf("the part of a shard is split again")
		}
	}
	if cfg.Database.Slot != "outboxd" {
		t.Errorf("the whole has the slot %s", cfg.Database.Slot)
	}
}

func TestOneShardIsTheTableItself(t *testing.T) {
	for _, text := range []string{"", "shards: {count: 1, number: 0}"} {
		cfg, _, err := load(t, shardedHead+text, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if parts := cfg.Split(); len(parts) != 1 || parts[0] != cfg || cfg.Database.Slot != "outboxd" {
			t.Errorf("%q: %d parts, slot %s", text, len(parts), cfg.Database.Slot)
		}
	}
}

func TestProcessForOneShardHasItAlone(t *testing.T) {
	cfg, _, err := load(t, shardedHead+`shards: {count: 3, number: 2}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if parts := cfg.Split(); len(parts) != 1 || parts[0].Database.Slot != "outboxd_3t_2" {
		t.Errorf("got %d parts, slot %s", len(parts), parts[0].Database.Slot)
	}
}

func TestShardsThatCannotBeAreRefused(t *testing.T) {
	long := strings.Repeat("x", 60)
	for text, want := range map[string]string{
		`shards: {count: 3, number: 3}`:                                                                   `shards.number: there is no shard 3 with shards.count: 3`,
		`shards: {number: 1}`:                                                                             `shards.number: there is no shard 1 with shards.count: 1`,
		`shards: {count: 17}`:                                                                             `shards.count: 17 is too large`,
		`shards: {count: 2, by: topic}`:                                                                   `shards.by: "topic" is not known`,
		`shards: {count: 2, by: key}`:                                                                     `routes: are missing: with shards.by: key each destination has to hold {shard}`,
		`{shards: {count: 10}, database: {slot: ` + long + `}}`:                                           `database.slot: "` + long + `" becomes "` + long + `_10t_9"`,
		`{shards: {count: 2}, database: {publication: ` + long + `}}`:                                     `database.publication: "` + long + `" becomes`,
		`{shards: {count: 2}, database: {schema: ` + long + `}}`:                                          `database.schema: "` + long + `" becomes`,
		`{shards: {count: 2}, database: {default_tenant: a, columns: {tenant_id: ""}}}`:                   `shards.by: the table has no column of the tenant`,
		`{shards: {count: 2}, routes: [{to: [{sink: redis, destination: "x:{topic}"}]}]}`:                 `routes[0].to[0].destination: "x:{topic}": two shards of the table would write there: with shards.by: tenant it has to hold {tenant}`,
		`{shards: {count: 2, by: key}, routes: [{to: [{sink: redis, destination: "{tenant}:{topic}"}]}]}`: `routes[0].to[0].destination: "{tenant}:{topic}": two shards of the table would write there: with shards.by: key it has to hold {shard}`,
	} {
		_, _, err := load(t, text, Options{Flags: []Flag{
			{"--set", "database.url", "postgres://localhost/shop"}, {"--set", "sinks.redis.url", "redis://localhost:6379/0"},
		}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}
