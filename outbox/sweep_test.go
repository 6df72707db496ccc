package outbox_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/outboxd/outboxd/outbox"
)

func TestNewRowsAreThoseThatAreNotParked(t *testing.T) {
	for _, kind := range idKinds {
		l := setupLaneOf(t, kind, outbox.Config{})
		for n, status := range []string{"NEW", "NEW", "FAILED", "SENT", "NEW", "NEW"} {
			l.row(n+1, status)
		}
		l.park(1, at{destination: "d", state: "waiting"})
		l.park(6, at{destination: "d", state: "done", replay: 1})
		fresh, err := l.table.New(t.Context(), l.conn, l.lease, 0, 10)
		slices.Sort(fresh)
		if want := []string{l.id(2), l.id(5)}; err != nil || !slices.Equal(fresh, want) {
			t.Errorf("%s: new are %q, %v; want %q", kind, fresh, err, want)
		}
		if fresh, err := l.table.New(t.Context(), l.conn, l.lease, 0, 1); err != nil || len(fresh) != 1 {
			t.Errorf("%s: new are %q, %v; want one", kind, fresh, err)
		}
		l.exec(`UPDATE t SET status = 'SENT' WHERE id = $1::text::`+kind, l.id(2))
		still, err := l.table.StillNew(t.Context(), l.conn, l.lease, append(fresh, l.id(1), l.id(9)))
		if err != nil || !slices.Equal(idsOf(still), []string{l.id(5)}) {
			t.Errorf("%s: still new are %q, %v; want 5", kind, idsOf(still), err)
		}
	}
}

func TestDueFailedRowsAreThoseOfOthers(t *testing.T) {
	for index, want := range map[string]string{
		``: `[]`,
		`CREATE INDEX ON t (retry_after) WHERE retry_after IS NOT NULL`:                                                    `[1]`,
		`CREATE INDEX ON t (retry_after)`:                                                                                  `[1]`,
		`ALTER TABLE t ALTER retry_after SET DEFAULT now(); CREATE INDEX ON t (retry_after)`:                               `[]`,
		`ALTER TABLE t ALTER retry_after SET DEFAULT now(); CREATE INDEX ON t (retry_after) WHERE retry_after IS NOT NULL`: `[]`,
		`ALTER TABLE t ALTER retry_after SET DEFAULT now(); CREATE INDEX ON t (status)`:                                    `[1 3]`,
		`CREATE INDEX ON t (retry_after) WHERE status = 'FAILED'`:                                                          `[]`,
		`CREATE INDEX ON t (status, retry_after)`:                                                                          `[1 3]`,
		`CREATE INDEX ON t (lower(status))`:                                                                                `[]`,
		`CREATE INDEX ON t (status) WHERE status = 'NEW'`:                                                                  `[]`,
	} {
		l := setupLane(t, outbox.Config{})
		l.exec(index)
		l.exec(`INSERT INTO t (id, status, retry_after) VALUES (1, 'FAILED', now() - interval '1 s'), (2, 'FAILED', now() + interval '1 h'), (3, 'FAILED', NULL),
			(4, 'FAILED', now() - interval '1 s'), (5, 'NEW', now() - interval '1 s'), (6, 'DEAD', NULL), (7, 'FAILED', 'infinity')`)
		l.park(4, at{destination: "d", state: "waiting"})
		l.table = l.describe(outbox.Config{Table: "t"})
		rows, err := l.table.DueFailed(t.Context(), l.conn, l.lease, 0, 10)
		found := idsOf(rows)
		slices.Sort(found)
		if got := fmt.Sprint(found); err != nil || got != want {
			t.Errorf("with %q: %s, %v; want %s", index, got, err, want)
		}
		if got := l.table.HasStatusIndex(); got != (want == `[1 3]`) {
			t.Errorf("with %q: an index on the status: %v", index, got)
		}
	}
}

func TestDueFailedOfKeptRowsAreNone(t *testing.T) {
	l := setupLane(t, outbox.Config{OnSent: outbox.Keep})
	l.exec(`CREATE INDEX ON t (status)`)
	l.row(1, "FAILED")
	table := l.describe(outbox.Config{Table: "t", OnSent: outbox.Keep})
	if rows, err := table.DueFailed(t.Context(), l.conn, l.lease, 0, 10); err != nil || len(rows) != 0 {
		t.Errorf("%d rows, %v; want none", len(rows), err)
	}
}
