package park_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/park"
)

func TestDeadRowThatBlocksHoldsItsKeyBack(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	insert(t, conn, lease, rows(6, 3))
	err := park.Fail(t.Context(), conn, lease, here, []park.Failure{{Ref: event.Ref{ID: "id-0001"}, Attempts: 1, State: park.Dead, Blocks: true, Reason: "no"}})
	if err != nil {
		t.Fatal(err)
	}
	keys := keysOf(3)
	got, exhausted, err := park.LoadKeys(t.Context(), conn, "outboxd", "a", here, keys, 9, 1<<20)
	if err != nil || ids(got) != " 3 2 5" || len(exhausted) != 2 {
		t.Errorf("loaded %q, exhausted %v, %v", ids(got), exhausted, err)
	}
	blocked := 0
	err = park.Keys(t.Context(), conn, "outboxd", "a", 10, func(k park.WaitingKey) {
		if k.Blocked && k.Key == keys[1] {
			blocked++
		}
	})
	if err != nil || blocked != 1 {
		t.Errorf("%d keys are blocked, want the second one (%v)", blocked, err)
	}
	if err := park.Keys(t.Context(), conn, "outboxd", "a", 2, func(park.WaitingKey) {}); !errors.Is(err, park.ErrTooMany) {
		t.Errorf("three keys with a limit of two: %v", err)
	}
}

func keysOf(n int) []uint64 {
	all := make([]uint64, n)
	for i := range all {
		all[i] = rowAt(i, n).Key
	}
	return all
}

func TestKeysLoadTheirFirstRows(t *testing.T) {
	_, conn := migrated(t)
	insert(t, conn, raise(t, conn, "a"), rows(7, 3)) // keys 0: 0 3 6, 1: 1 4, 2: 2 5
	key := keysOf(3)
	const none = 42
	size := int64(len(`id-0000acmeordersorder02026-11-24 09:30:00+00{"text": "a \"quoted\" one, {with} braces"}{}`))
	for _, c := range []struct {
		what      string
		keys      []uint64
		perKey    int
		bytes     int64
		want      string
		exhausted []uint64
	}{
		{"in the order of the keys", []uint64{key[1], key[0]}, 3, 1 << 20, "1 4  3 6", []uint64{key[1], key[0]}},
		{"one has more", []uint64{key[1], key[0]}, 2, 1 << 20, "1 4  3", []uint64{key[1]}},
		{"one has nothing", []uint64{none, key[2]}, 2, 1 << 20, "2 5", []uint64{none, key[2]}},
		{"none has anything", []uint64{none}, 2, 1 << 20, "", []uint64{none}},
		{"bytes for three", []uint64{key[1], none, key[0], key[2]}, 9, 3*size + 1, "1 4 ", []uint64{key[1], none}},
		{"bytes for none", []uint64{key[1], key[0], none}, 9, 1, "1", []uint64{none}},
		{"no keys", nil, 9, 1 << 20, "", nil},
	} {
		got, exhausted, err := park.LoadKeys(t.Context(), conn, "outboxd", "a", here, c.keys, c.perKey, c.bytes)
		if err != nil {
			t.Fatal(err)
		}
		if ids(got) != c.want || !slices.Equal(exhausted, c.exhausted) {
			t.Errorf("%s: %q, exhausted %v; want %q, %v", c.what, ids(got), exhausted, c.want, c.exhausted)
		}
	}
}

// A dead row in the way of a key's first rows stands in nobody's bytes.
func TestBlockedKeyLeavesTheBytesToOthers(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	insert(t, conn, lease, rows(4, 2))
	if err := park.Fail(t.Context(), conn, lease, here, []park.Failure{{Ref: refs(0)[0], Attempts: 1, State: park.Dead, Blocks: true}}); err != nil {
		t.Fatal(err)
	}
	got, exhausted, err := park.LoadKeys(t.Context(), conn, "outboxd", "a", here, keysOf(2), 9, 1)
	if err != nil || ids(got) != "1" || len(exhausted) != 0 {
		t.Errorf("loaded %q, exhausted %v, %v; want the other key's first", ids(got), exhausted, err)
	}
}

// Keys reads some rows and jumps: wherever a step ends, each key is told once, and by its first row.
func TestKeysAreToldOnceHoweverManyRowsTheyHave(t *testing.T) {
	_, conn := migrated(t)
	exec(t, conn, `INSERT INTO outboxd.parked (slot, id, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, bytes, due_at)
		SELECT 'a', k || '-' || i, d, d, d, 'waiting', 1, '0/1', i, k * k - 50, 1, timestamptz '2030-01-01 UTC' + i * interval '1 hour'
		FROM unnest('{x,y}'::text[]) d, generate_series(1, 40) k, LATERAL generate_series(k, k + (k * 7) % 19) i`)
	told := map[string]int{}
	err := park.Keys(t.Context(), conn, "outboxd", "a", 100, func(k park.WaitingKey) {
		hours := k.Due.Sub(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)) / time.Hour
		told[fmt.Sprint(k.Destination.Name, int64(k.Key), int(hours))]++
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"x", "y"} {
		for k := 1; k <= 40; k++ {
			if n := told[fmt.Sprint(d, k*k-50, k)]; n != 1 {
				t.Errorf("key %d at %s is told %d times by its first row", k*k-50, d, n)
			}
		}
	}
	if len(told) != 80 {
		t.Errorf("%d keys are told: %v", len(told), told)
	}
}

func TestKeysAreThoseOfTheFirstRows(t *testing.T) {
	_, conn := migrated(t)
	lease := raise(t, conn, "a")
	due := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	all := rows(6, 3)
	all[0].Due, all[3].Due = due, due.Add(time.Hour)
	all[4].State, all[4].Blocks = park.Dead, true // behind 1, which waits
	all[2].State = park.Dead                      // before 5, and does not block
	elsewhere := rowAt(9, 3)
	elsewhere.Destination.Name, elsewhere.State, elsewhere.Blocks, elsewhere.Due = "there", park.Dead, true, due
	skipped := rowAt(8, 30)
	skipped.State = park.Skipped
	insert(t, conn, lease, append(all, elsewhere, skipped))
	got := map[string]park.WaitingKey{}
	err := park.Keys(t.Context(), conn, "outboxd", "a", 4, func(k park.WaitingKey) { got[fmt.Sprint(k.Destination.Name, slices.Index(keysOf(3), k.Key))] = k })
	if err != nil {
		t.Fatal(err)
	}
	if first := got["here0"]; !first.Due.Equal(due) || first.Blocked {
		t.Errorf("key 0 is %+v, want due at %s", first, due)
	}
	if now := got["here1"]; now.Due.IsZero() || now.Due.After(due) || now.Blocked {
		t.Errorf("key 1 is %+v, want due", now)
	}
	if blocked := got["there0"]; !blocked.Blocked || !blocked.Due.IsZero() {
		t.Errorf("key 0 there is %+v, want blocked", blocked)
	}
	if _, ok := got["here2"]; !ok || len(got) != 4 {
		t.Errorf("%d keys: %+v", len(got), got)
	}
}
