package outbox_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
)

// BenchmarkSettle settles rows in batches of 1,000 and reports rows per second. Run it with -benchtime=100000x: an iteration is a row.
func BenchmarkSettle(b *testing.B) {
	for name, c := range map[string]struct {
		indexes migrations.Indexes
		onSent  outbox.OnSent
	}{
		"mark/lean":   {migrations.Lean, outbox.Mark},
		"mark/full":   {migrations.Full, outbox.Mark},
		"delete/lean": {migrations.Lean, outbox.Delete},
		"delete/full": {migrations.Full, outbox.Delete},
	} {
		b.Run(name, func(b *testing.B) { benchmarkSettle(b, c.indexes, c.onSent) })
	}
}

// benchTable makes an outbox with its lease, and a connection to it.
func benchTable(b *testing.B, indexes migrations.Indexes, onSent outbox.OnSent) (*pgx.Conn, lease.Lease, *outbox.Table) {
	b.Helper()
	ctx := b.Context()
	conn, err := pgx.Connect(ctx, testenv.Postgres(b).Database(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(ctx)); err != nil {
			b.Error(err)
		}
	})
	if _, err := migrations.Up(ctx, conn, migrations.Options{Indexes: indexes}); err != nil {
		b.Fatal(err)
	}
	lease, err := park.Raise(ctx, conn, "outboxd", "slot", "benchmark")
	if err != nil {
		b.Fatal(err)
	}
	table, err := outbox.Describe(ctx, conn, outbox.Config{OnSent: onSent})
	if err != nil {
		b.Fatal(err)
	}
	return conn, lease, table
}

func benchmarkSettle(b *testing.B, indexes migrations.Indexes, onSent outbox.OnSent) {
	ctx := b.Context()
	conn, lease, table := benchTable(b, indexes, onSent)
	rows, err := conn.Query(ctx, `INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
		SELECT 'tenant' || i % 50, 'order', (i % 1000)::text, 'order.created', now(), jsonb_build_object('text', repeat('x', 450))
		FROM generate_series(1, $1) AS i RETURNING id::text::bytea`, b.N)
	if err != nil {
		b.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for chunk := range slices.Chunk(ids, 1000) {
		if _, _, err := table.Settle(ctx, conn, lease, chunk); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkDeliver drains a backlog in batches of 500 and reports rows per second. Run it with -benchtime=200000x: an iteration is a row.
func BenchmarkDeliver(b *testing.B) {
	for name, c := range map[string]struct {
		indexes migrations.Indexes
		onSent  outbox.OnSent
		done    bool // the checkpoint has passed the events
	}{
		"mark/lean":    {migrations.Lean, outbox.Mark, true},
		"mark/full":    {migrations.Full, outbox.Mark, true},
		"delete/lean":  {migrations.Lean, outbox.Delete, true},
		"keep":         {migrations.Lean, outbox.Keep, true},
		"not yet lean": {migrations.Lean, outbox.Mark, false},
	} {
		b.Run(name, func(b *testing.B) {
			conn, lease, table := benchTable(b, c.indexes, c.onSent)
			ids := backlog(b, conn)
			at := event.Position{Epoch: 5}
			if c.done {
				at.Epoch = 6
			}
			b.ReportAllocs()
			b.ResetTimer()
			for chunk := range slices.Chunk(ids, 500) {
				refs := make([]event.Ref, len(chunk))
				for i, id := range chunk {
					refs[i] = event.Ref{ID: id}
				}
				if err := table.Deliver(b.Context(), conn, lease, "redis", "outbox:acme:order.created", at, refs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkFinish removes what is done everywhere, 2,000 events at a time.
func BenchmarkFinish(b *testing.B) {
	conn, lease, table := benchTable(b, migrations.Lean, outbox.Mark)
	backlog(b, conn)
	if _, err := conn.Exec(b.Context(), `UPDATE outboxd.parked SET state = 'done'`); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for more := true; more; {
		var err error
		if _, more, _, err = table.Finish(b.Context(), conn, lease, event.Position{Epoch: 6}, 2000); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkAdopt finds rows that are older than the slot, and reads them, 1,000 at a time.
func BenchmarkAdopt(b *testing.B) {
	conn, _, table := benchTable(b, migrations.Lean, outbox.Mark)
	backlog(b, conn)
	b.ReportAllocs()
	b.ResetTimer()
	rows := 0
	for after, end := "", false; !end; {
		ids, last, err := table.Adoptable(b.Context(), conn, 0, after, 100_000)
		if err != nil {
			b.Fatal(err)
		}
		for some := range slices.Chunk(ids, 1000) {
			found, err := table.StillAdoptable(b.Context(), conn, some)
			if err != nil {
				b.Fatal(err)
			}
			rows, after = rows+len(found), some[len(some)-1]
		}
		end = last
	}
	if rows != b.N {
		b.Fatalf("%d rows adopted, want %d", rows, b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// backlog makes rows that are parked for one destination, as after an outage, and returns their ids in position order.
func backlog(b *testing.B, conn *pgx.Conn) []string {
	b.Helper()
	rows, err := conn.Query(b.Context(), `INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
		SELECT 'acme', 'order', (i % 1000)::text, 'order.created', now(), jsonb_build_object('text', repeat('x', 450))
		FROM generate_series(1, $1) AS i RETURNING id::text`, b.N)
	if err != nil {
		b.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	_, err = conn.Exec(b.Context(), `INSERT INTO outboxd.parked (slot, id, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, bytes,
			tenant_id, topic, aggregate_type, aggregate_id, occurred_at, payload)
		SELECT 'slot', id, 'redis', 'outbox:acme:order.created', 'outbox:acme:order.created', 'waiting', 5, '0/10', i, i % 1000, 600,
			'acme', 'order.created', 'order', (i % 1000)::text, now()::text, repeat('x', 470) FROM unnest($1::text[]) WITH ORDINALITY AS u(id, i)`, ids)
	if err != nil {
		b.Fatal(err)
	}
	return ids
}
