package park_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
)

const (
	manyRows = 50_000
	manyKeys = 1000
)

// backlog parks many rows at the destination, and as many elsewhere.
func backlog(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, `INSERT INTO outboxd.parked (slot, id, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, bytes, tenant_id, topic, payload)
		SELECT 'a', 'id-' || lpad(i::text, 6, '0'), 'redis', d, d, 'waiting', 7, ('0/' || to_hex(i))::pg_lsn, i, i % $2::int, 100, 'acme', 'orders', repeat('x', 50)
		FROM generate_series(1, $1::int) i, unnest('{here,there}'::text[]) d`, manyRows, manyKeys)
}

// No step of a statement's plan touches more than a few times the rows that are asked for, whatever the server knows of a large backlog:
// no statistics, those of the empty table, or right ones.
func TestStatementsReadNoMoreThanTheyNeed(t *testing.T) {
	for _, statistics := range []string{"none", "of an empty table", "right"} {
		url, conn := migrated(t)
		lease := raise(t, conn, "a")
		exec(t, conn, `ALTER TABLE outboxd.parked SET (autovacuum_enabled = off)`)
		if statistics == "of an empty table" {
			exec(t, conn, `VACUUM ANALYZE outboxd.parked`)
		}
		conn, plans := watchPlans(t, url)
		for range 10 { // a plan that is kept was made for the empty table
			insert(t, conn, lease, rows(1, 1))
			exec(t, conn, `DELETE FROM outboxd.parked`)
		}
		backlog(t, conn)
		if statistics == "right" {
			exec(t, conn, `VACUUM ANALYZE outboxd.parked`)
		}
		plans()
		for _, s := range statements(t, conn) {
			if err := s.run(lease); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			most := 6000
			if s.name == "Keys" {
				most = 2 * manyKeys * 8 // the rows of a step, for each of as many keys, which have 50 rows each
			}
			plan := plans()
			if rows, line := widest(plan); rows > most || strings.Contains(plan, "Seq Scan on parked") {
				t.Errorf("%s with statistics: %s touches %d rows in %q of\n%s", s.name, statistics, rows, line, plan)
			}
			if s.name == "LoadAfter" && !strings.Contains(plan, "parked_order") {
				t.Errorf("%s with statistics: %s does not take the rows in order from the index:\n%s", s.name, statistics, plan)
			}
		}
	}
}

type statement struct {
	name string
	run  func(lease.Lease) error
}

func statements(t *testing.T, conn *pgx.Conn) []statement {
	t.Helper()
	ctx := t.Context()
	numbered := func(from, n int) (list []event.Ref) {
		for i := range n {
			list = append(list, event.Ref{ID: fmt.Sprintf("id-%06d", from+i)})
		}
		return list
	}
	return []statement{
		{"LoadAfter", func(lease.Lease) error {
			middle := park.Cursor{Position: event.Position{Epoch: 7, Commit: manyRows / 2, Ordinal: manyRows / 2}}
			rows, _, err := park.LoadAfter(ctx, conn, "outboxd", "a", here, middle, 500, 1<<20)
			return want(500, len(rows), err)
		}},
		{"LoadKeys", func(lease.Lease) error {
			keys := make([]uint64, 50)
			for i := range keys {
				keys[i] = uint64(7 * i)
			}
			rows, _, err := park.LoadKeys(ctx, conn, "outboxd", "a", here, keys, 10, 1<<20)
			return want(500, len(rows), err)
		}},
		{"Keys", func(lease.Lease) error {
			n := 0
			err := park.Keys(ctx, conn, "outboxd", "a", 3*manyKeys, func(park.WaitingKey) { n++ })
			return want(2*manyKeys, n, err)
		}},
		{"Settle", func(held lease.Lease) error { return park.Settle(ctx, conn, held, here, numbered(1000, 500)) }},
		{"Found", func(held lease.Lease) error {
			n, err := park.Found(ctx, conn, held, here, numbered(2000, 100), true)
			return want(100, n, err)
		}},
		{"Fail", func(held lease.Lease) error {
			var failures []park.Failure
			for _, r := range numbered(3000, 500) {
				failures = append(failures, park.Failure{Ref: r, Attempts: 1})
			}
			return park.Fail(ctx, conn, held, here, failures)
		}},
		{"Insert", func(held lease.Lease) error {
			n, err := park.Insert(ctx, conn, held, rows(500, 10))
			return want(500, n, err)
		}},
		{"InsertMissing", func(held lease.Lease) error {
			_, err := park.InsertMissing(ctx, conn, held, rows(1000, 10))
			return err
		}},
	}
}

func want(n, got int, err error) error {
	if err == nil && got != n {
		return fmt.Errorf("%d rows, want %d", got, n)
	}
	return err
}

// watchPlans returns a connection and what tells the plans, with the rows that they met, of its statements since the last call.
func watchPlans(t *testing.T, url string) (*pgx.Conn, func() string) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	var plans []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		_, plan, _ := strings.Cut(n.Message, "plan:\n")
		for line := range strings.SplitSeq(plan, "\n") {
			const enough = 200 // one that lists all ids is very long
			plans = append(plans, line[:min(len(line), enough)])
		}
	}
	conn := connectWith(t, config)
	exec(t, conn, `LOAD 'auto_explain'; SET auto_explain.log_level = notice; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on;
		SET auto_explain.log_timing = off`)
	return conn, func() string {
		all := strings.Join(plans, "\n")
		plans = nil
		return all
	}
}

var (
	metRows     = regexp.MustCompile(`\(actual rows=([0-9.]+) loops=(\d+)\)`)
	droppedRows = regexp.MustCompile(`Rows Removed by .*: (\d+)`)
)

// widest returns the line of a plan that tells of most rows, and how many these are.
func widest(plan string) (most int, at string) {
	loops := 1
	for line := range strings.SplitSeq(plan, "\n") {
		rows := 0
		if m := metRows.FindStringSubmatch(line); m != nil {
			met, _ := strconv.ParseFloat(m[1], 64) // with decimals since PostgreSQL 18
			loops, _ = strconv.Atoi(m[2])
			rows = int(met * float64(loops))
		} else if m := droppedRows.FindStringSubmatch(line); m != nil {
			dropped, _ := strconv.Atoi(m[1])
			rows = dropped * loops
		}
		if rows > most {
			most, at = rows, line
		}
	}
	return most, at
}
