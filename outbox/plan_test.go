package outbox_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

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
	f.checkPlans("all rows are new", all[named:2*named])
	f.exec(`UPDATE outbox SET status = 'SENT'`)
	f.exec(`ANALYZE outbox`)
	f.checkPlans("no row was new", f.insert(f.conn, named))
}

func (f *fixture) checkPlans(statistics string, rows [][]byte) {
	f.Helper()
	watched := &lane{fixture: &fixture{T: f.T, url: f.url, lease: f.lease}}
	plans := watched.watchPlans()
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Delete} {
		watched.settle(watched.describe(outbox.Config{OnSent: onSent}), rows[:len(rows)/2]...)
		rows = rows[len(rows)/2:]
		all := plans()
		plan := all[len(all)-1]
		if !strings.Contains(plan, "outbox_pkey") || strings.Contains(plan, "Seq Scan on outbox") || strings.Contains(plan, "ix_") {
			f.Errorf("%s, %s:\n%s", statistics, onSent, plan)
		}
	}
}

// noticed keeps the plans that auto_explain tells of. A line that lists all ids is very long.
func noticed(plans *[]string) func(*pgconn.PgConn, *pgconn.Notice) {
	return func(_ *pgconn.PgConn, n *pgconn.Notice) {
		_, plan, found := strings.Cut(n.Message, "plan:\n")
		if !found {
			return
		}
		lines := strings.Split(plan, "\n")
		for i, line := range lines {
			const enough = 200
			lines[i] = line[:min(len(line), enough)]
		}
		*plans = append(*plans, strings.Join(lines, "\n"))
	}
}

// The plan of a settle is kept on its connection. It is made when nothing is parked, and has to fit a backlog that grows within seconds.
func TestPlanOfAnEmptyParkedTableFitsALargeOne(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	l.exec(`ALTER TABLE t SET (autovacuum_enabled = off)`)
	l.exec(`ALTER TABLE outboxd.parked SET (autovacuum_enabled = off)`)
	l.exec(`VACUUM ANALYZE outboxd.parked`)
	plans := l.watchPlans()
	for range 10 { // the server keeps a plan after some
		l.settle(l.table, ids("1", "2", "3")...)
	}
	plans()
	l.backlog(20_000)
	plans()
	l.settle(l.table, ids("1", "2", "20001")...)
	if plan := strings.Join(plans(), "\n"); !strings.Contains(plan, "parked_pkey") || strings.Contains(plan, "Seq Scan on parked") {
		t.Errorf("beside a backlog:\n%s", plan)
	}
	if n := l.count(`SELECT count(*) FROM t WHERE status = 'NEW'`); n != 20_000 {
		t.Errorf("%d rows are NEW, want all 20,000 that are parked", n)
	}
}
