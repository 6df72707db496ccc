package park_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/park"
)

func TestSecondGetsTheLockWhenTheFirstConnectionEnds(t *testing.T) {
	url, first := migrated(t)
	if ok, err := park.TryLock(t.Context(), first, "outboxd", "a"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	second := connect(t, url)
	if ok, err := park.TryLock(t.Context(), second, "outboxd", "a"); ok || err != nil {
		t.Fatalf("the second has it too (%v)", err)
	}
	got := make(chan error, 1)
	go func() { got <- park.Lock(t.Context(), second, "outboxd", "a") }()
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// The limit of a role for its statements is no reason to stop standing by.
func TestLockOutlastsATimeLimit(t *testing.T) {
	url, first := migrated(t)
	if err := park.Lock(t.Context(), first, "outboxd", "a"); err != nil {
		t.Fatal(err)
	}
	second := connect(t, url)
	exec(t, second, `SET statement_timeout = '500ms'`) // what needs no lock has time enough
	got := make(chan error, 1)
	go func() { got <- park.Lock(t.Context(), second, "outboxd", "a") }()
	for seen, began := 0, ""; seen < 3; { // each statement begins at another time
		var at string
		err := first.QueryRow(t.Context(), `SELECT coalesce(max(query_start)::text, '') FROM pg_stat_activity, pg_sleep(0.005)
			WHERE pid = $1 AND query LIKE '%pg_advisory_lock%'`, int32(second.PgConn().PID())).Scan(&at)
		if err != nil {
			t.Fatal(err)
		}
		if at != began {
			seen, began = seen+1, at
		}
		select {
		case err := <-got:
			t.Fatalf("the wait has ended: %v", err)
		default:
		}
	}
	exec(t, first, `SELECT pg_advisory_unlock_all()`)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestLocksOfOtherSlotsAreOthers(t *testing.T) {
	url, first := migrated(t)
	second := connect(t, url)
	for _, of := range []struct {
		conn         *pgx.Conn
		schema, slot string
	}{{first, "outboxd", "a"}, {second, "outboxd", "b"}, {second, "other", "a"}} {
		if ok, err := park.TryLock(t.Context(), of.conn, of.schema, of.slot); !ok || err != nil {
			t.Errorf("slot %s of schema %s: %v, %v", of.slot, of.schema, ok, err)
		}
	}
}

// A channel's name has 63 bytes at most, and a slot's may have as many.
func TestChannelsOfLongSlotsAreDifferentAndFit(t *testing.T) {
	long := strings.Repeat("s", 62)
	one, other := park.Channel(long+"1"), park.Channel(long+"2")
	if len(one) > 63 || one == other || park.Channel("orders") != "outboxd_orders" {
		t.Errorf("channels %q, %q, %q", one, other, park.Channel("orders"))
	}
}
