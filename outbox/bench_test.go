package outbox_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
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

func benchmarkSettle(b *testing.B, indexes migrations.Indexes, onSent outbox.OnSent) {
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
		if _, err := table.Settle(ctx, conn, lease, chunk); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
