package park_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
)

// benchRows are rows with payloads of 500 bytes and ids as random as a UUID.
func benchRows(n, keys int) []park.Row {
	all := rows(n, keys)
	for i := range all {
		all[i].Event.Payload = []byte(`{"x": "` + strings.Repeat("y", 491) + `"}`)
		all[i].Event.ID = fmt.Appendf(nil, "%08x-1234-4321-9876-%012x", uint32(i)*2654435761, i)
	}
	return all
}

// BenchmarkInsert parks 40,000 rows.
func BenchmarkInsert(b *testing.B) {
	const total = 40_000
	all := benchRows(total, 1000)
	for _, chunk := range []int{1000, 2000, 5000} {
		b.Run(fmt.Sprint(chunk), func(b *testing.B) {
			_, conn := migrated(b)
			lease := raise(b, conn, "a")
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				exec(b, conn, `TRUNCATE outboxd.parked`)
				b.StartTimer()
				insertIn(b, conn, lease, all, chunk)
			}
			b.ReportMetric(float64(total*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func insertIn(b *testing.B, conn *pgx.Conn, held lease.Lease, all []park.Row, chunk int) {
	b.Helper()
	for i := 0; i < len(all); i += chunk {
		if n, err := park.Insert(b.Context(), conn, held, all[i:min(i+chunk, len(all))]); n == 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkLoad reads 100,000 waiting rows, 500 at a time: in position order, and by 50 of 1,000 keys.
func BenchmarkLoad(b *testing.B) {
	const total, keys, chunk, bytes = 100_000, 1000, 500, 1 << 20
	_, conn := migrated(b)
	insertIn(b, conn, raise(b, conn, "a"), benchRows(total, keys), 5000)
	exec(b, conn, `VACUUM ANALYZE outboxd.parked`)
	b.Run("after", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var cursor park.Cursor
			for end := false; !end; {
				got, ended, err := park.LoadAfter(b.Context(), conn, "outboxd", "a", here, cursor, chunk, bytes)
				if err != nil {
					b.Fatal(err)
				}
				if end = ended; len(got) > 0 {
					cursor = got[len(got)-1].Cursor()
				}
				end = end || len(got) == 0
			}
		}
		b.ReportMetric(float64(total*b.N)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("keys", func(b *testing.B) {
		all := keysOf(keys)
		b.ReportAllocs()
		loaded := 0
		for b.Loop() {
			for i := 0; i < keys; i += 50 {
				got, _, err := park.LoadKeys(b.Context(), conn, "outboxd", "a", here, all[i:i+50], chunk/50, bytes)
				if err != nil {
					b.Fatal(err)
				}
				loaded += len(got)
			}
		}
		b.ReportMetric(float64(loaded)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			if _, err := park.Summaries(b.Context(), conn, "outboxd", "a"); err != nil {
				b.Fatal(err)
			}
			if err := park.Keys(b.Context(), conn, "outboxd", "a", 1<<20, func(park.WaitingKey) {}); err != nil {
				b.Fatal(err)
			}
			if _, err := park.Count(b.Context(), conn, "outboxd", "a"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
