package outbox_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/shard"
)

// setupSplit has rows of every status, of several tenants and keys, one tenant and some aggregate ids NULL, all of them old.
func setupSplit(t *testing.T) *fixture {
	t.Helper()
	server := testenv.Postgres(t)
	if server.Major < 15 { // the first with row filters, and 14 the first with the function
		server = testenv.NewPostgres(t, testenv.PostgresOptions{Version: 15})
	}
	f := setupOn(t, server, migrations.Options{Indexes: migrations.Full})
	f.exec(`ALTER TABLE outbox ALTER tenant_id DROP NOT NULL`)
	f.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload, status, created_at)
		SELECT CASE WHEN i % 12 > 0 THEN 'tenant' || i % 12 END, 'order', CASE WHEN i % 7 > 0 THEN (i % 20)::text END, 'order.created', now(), '{}',
			(ARRAY['NEW', 'SENT', 'FAILED', 'DEAD', 'PUBLISHING'])[1 + i / 5 % 5], now() - interval '30 days'
		FROM generate_series(1, 500) AS i`)
	return f
}

// ours returns a table as the shard sees it, and the ids that are its own, by a filter on the whole table.
func (f *fixture) ours(s shard.Shard) (*outbox.Table, []string) {
	f.Helper()
	columns := shard.Columns{ID: "id", TenantID: "tenant_id", AggregateType: "aggregate_type", AggregateID: "aggregate_id", DefaultTenant: "tenant1"}
	rows, err := s.Rows(columns, "o.")
	if err != nil {
		f.Fatal(err)
	}
	return f.describe(outbox.Config{Rows: rows, DefaultTenant: "tenant1"}), f.texts(`SELECT id::text FROM outbox o WHERE ` + rows + ` ORDER BY id`)
}

// look returns what each way of looking through the table finds.
func (f *fixture) look(t *outbox.Table, all []string) map[string][]string {
	f.Helper()
	found := map[string][]string{}
	add := func(way string, ids []string, err error) {
		if err != nil {
			f.Fatalf("%s: %v", way, err)
		}
		found[way] = append(found[way], ids...)
	}
	for after, end := "", false; !end; {
		var rows []outbox.Row
		var err error
		rows, after, end, err = adopt(f.Context(), t, f.conn, after, 90)
		add("adopt", idsOf(rows), err)
	}
	for after, end := "", false; !end; {
		var rows []outbox.Row
		var err error
		rows, after, end, err = t.Select(f.Context(), f.conn, outbox.Filter{Statuses: []string{"SENT"}}, after, 90)
		add("select", idsOf(rows), err)
	}
	rows, _, _, err := t.Select(f.Context(), f.conn, outbox.Filter{IDs: all}, "", len(all))
	add("select by id", idsOf(rows), err)
	fresh, err := t.New(f.Context(), f.conn, f.lease, 0, len(all))
	add("new", fresh, err)
	rows, err = t.StillNew(f.Context(), f.conn, f.lease, all)
	add("still new", idsOf(rows), err)
	rows, err = t.DueFailed(f.Context(), f.conn, f.lease, 0, len(all))
	add("failed", idsOf(rows), err)
	return found
}

func TestNothingThatLooksThroughTheTableSeesRowsOfAnotherShard(t *testing.T) {
	f := setupSplit(t)
	f.checkKeys()
	all := f.texts(`SELECT id::text FROM outbox ORDER BY id`)
	whole := f.look(f.describe(outbox.Config{DefaultTenant: "tenant1"}), all)
	for _, by := range []shard.By{shard.Tenant, shard.Key} {
		together := map[string]int{}
		for number := range 3 {
			table, own := f.ours(shard.Shard{Count: 3, Number: number, By: by})
			if len(own) == 0 || len(own) == len(all) {
				t.Fatalf("%s: shard %d has %d of %d rows", by, number, len(own), len(all))
			}
			for way, ids := range f.look(table, all) {
				together[way] += len(ids)
				for _, id := range ids {
					if !slices.Contains(own, id) {
						t.Errorf("%s: %s of shard %d finds %s, a row of another", by, way, number, id)
					}
				}
			}
		}
		for way, ids := range whole {
			if len(ids) == 0 || together[way] != len(ids) {
				t.Errorf("%s: %s of all shards finds %d rows, that of the whole %d", by, way, together[way], len(ids))
			}
		}
	}
}

// checkKeys makes sure that every row is in one shard, and all rows of a key in the same.
func (f *fixture) checkKeys() {
	f.Helper()
	for _, by := range []shard.By{shard.Tenant, shard.Key} {
		shardOf := map[string]int{}
		for number := range 3 {
			_, own := f.ours(shard.Shard{Count: 3, Number: number, By: by})
			for _, id := range own {
				if other, twice := shardOf[id]; twice {
					f.Errorf("%s: row %s is in shards %d and %d", by, id, other, number)
				}
				shardOf[id] = number
			}
		}
		if len(shardOf) != 500 {
			f.Errorf("%s: %d of 500 rows are in a shard", by, len(shardOf))
		}
		key := `coalesce(tenant_id, 'tenant1')`
		if by == shard.Key {
			key += ` || '/' || coalesce(aggregate_id, '#' || id)`
		}
		last := map[string]int{}
		for _, line := range f.texts(`SELECT id || ' ' || ` + key + ` FROM outbox`) {
			var id, key string
			if _, err := fmt.Sscan(line, &id, &key); err != nil {
				f.Fatal(err)
			}
			if other, seen := last[key]; seen && other != shardOf[id] {
				f.Errorf("%s: key %s is in shards %d and %d", by, key, other, shardOf[id])
			}
			last[key] = shardOf[id]
		}
	}
}

func TestCleanupOfAShardLeavesRowsOfOthers(t *testing.T) {
	f := setupSplit(t)
	for _, by := range []shard.By{shard.Tenant, shard.Key} {
		table, _ := f.ours(shard.Shard{Count: 2, By: by})
		_, others := f.ours(shard.Shard{Count: 2, Number: 1, By: by})
		deleted := 0
		for after, end := "", false; !end; {
			var n int
			var err error
			if n, after, end, err = table.Cleanup(t.Context(), f.conn, outbox.Retention{Sent: day, Dead: day, Schema: "outboxd"}, after, 90); err != nil {
				t.Fatal(err)
			}
			deleted += n
		}
		if _, left := f.ours(shard.Shard{Count: 2, Number: 1, By: by}); deleted == 0 || !slices.Equal(left, others) {
			t.Errorf("%s: %d rows were deleted, and the other shard has %d of %d", by, deleted, len(left), len(others))
		}
		if _, own := f.ours(shard.Shard{Count: 2, By: by}); f.countOld(own) != 0 {
			t.Errorf("%s: %d rows of its own are left", by, f.countOld(own))
		}
	}
}

func (f *fixture) countOld(ids []string) int {
	f.Helper()
	return f.count(`SELECT count(*) FROM outbox WHERE id::text = ANY($1) AND status IN ('SENT', 'DEAD')`, ids)
}
