package outbox_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
)

// The planner has all eight indexes to choose from, and statistics that are absent, right, or from before a burst, when no row was
// NEW: those of the status would then look best, and would read the whole burst for each settle.
func TestSettleFindsRowsByTheirId(t *testing.T) {
	const rows, named = 100_000, 1000
	f := setup(t, migrations.Options{Indexes: migrations.Full})
	f.exec(`ALTER TABLE outbox SET (autovacuum_enabled = off)`)
	all := f.insert(f.conn, rows)
	f.checkPlans("no statistics", all[:named])
	f.exec(`ANALYZE outbox`)
	f.checkPlans("all rows are new", all[:named])
	f.exec(`UPDATE outbox SET status = 'SENT'`)
	f.exec(`ANALYZE outbox`)
	f.checkPlans("no row was new", f.insert(f.conn, named))
}

func (f *fixture) checkPlans(statistics string, rows [][]byte) {
	f.Helper()
	for onSent, verb := range map[outbox.OnSent]string{outbox.Mark: "UPDATE", outbox.Delete: "DELETE"} {
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			f.exec(`SET plan_cache_mode = ` + mode)
			plan := f.explain(f.describe(outbox.Config{OnSent: onSent}), verb, rows)
			if !strings.Contains(plan, "outbox_pkey") || strings.Contains(plan, "Seq Scan on outbox") || strings.Contains(plan, "ix_") {
				f.Errorf("%s, %s, %s:\n%s", statistics, onSent, mode, plan)
			}
		}
	}
}

// explain returns the plan that the table's prepared statement gets for the rows.
func (f *fixture) explain(table *outbox.Table, verb string, rows [][]byte) string {
	f.Helper()
	f.settle(table, rows[:1]...) // prepares it
	var name string
	err := f.conn.QueryRow(f.Context(), `SELECT name FROM pg_prepared_statements
		WHERE statement LIKE 'WITH lease%' AND statement LIKE '%' || $1 || '%'`, verb).Scan(&name)
	if err != nil {
		f.Fatal(err)
	}
	statuses := map[string]string{"UPDATE": `'NEW', 'SENT'`, "DELETE": `'NEW'`}[verb]
	explain := `EXPLAIN (COSTS OFF) EXECUTE ` + pgx.Identifier{name}.Sanitize() + ` ('slot', 1, '{` + string(bytes.Join(rows, []byte(","))) + `}', ` + statuses + `)`
	results, err := f.conn.PgConn().Exec(f.Context(), explain).ReadAll()
	if err != nil {
		f.Fatal(err)
	}
	var plan []byte
	for _, row := range results[0].Rows {
		const enough = 100 // a line that lists all ids is very long
		plan = append(append(plan, row[0][:min(len(row[0]), enough)]...), '\n')
	}
	return string(plan)
}
