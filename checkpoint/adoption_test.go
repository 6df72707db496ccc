package checkpoint_test

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
)

// landed is where the slot before stood: an epoch that a promotion has raised beyond the recorded one.
var landed = event.Position{Epoch: 1_700_000_123, Commit: 0xF_0000_0001}

// beginWith begins an epoch with rows to adopt.
func beginWith(t *testing.T, conn *pgx.Conn, held lease.Lease, a *checkpoint.Adoption) checkpoint.Record {
	t.Helper()
	r := checkpoint.Record{SystemID: "7000", Timeline: 3, Confirmed: 100, Adopt: a, SkippedSnapshot: "5:9:6"}
	made, err := checkpoint.NewEpoch(t.Context(), conn, held, r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestNewEpochRecordsWhatIsToBeAdoptedBelowIt(t *testing.T) {
	conn, lease := session(t)
	for _, step := range []struct {
		name string
		a    *checkpoint.Adoption
	}{
		{"the first slot", &checkpoint.Adoption{Snapshot: "10:20:12,15"}},
		{"one that goes on with an adoption", &checkpoint.Adoption{Snapshot: "20:21:", Epoch: 7}},
		{"the slot after it", &checkpoint.Adoption{Snapshot: "30:31:", After: "is not taken over", Landed: landed}},
		{"nothing to adopt", nil},
	} {
		made := beginWith(t, conn, lease, step.a)
		want := step.a
		if want != nil {
			want = &checkpoint.Adoption{Snapshot: want.Snapshot, Epoch: cmp.Or(want.Epoch, made.Epoch-1), Landed: want.Landed}
		}
		if got := load(t, conn); !reflect.DeepEqual(got.Adopt, want) || !reflect.DeepEqual(made.Adopt, want) || got.SkippedSnapshot != "5:9:6" {
			t.Errorf("%s: made %+v, loaded %+v (skipped %q), want %+v", step.name, made.Adopt, got.Adopt, got.SkippedSnapshot, want)
		}
	}
}

// The epoch of adopted rows must not be that of an older slot, whose events it would stand among.
func TestEpochOfAdoptedRowsIsAboveTheSlotBefore(t *testing.T) {
	conn, lease := session(t)
	first := newEpoch(t, conn, lease, 100, time.Now())
	for range 3 {
		next := beginWith(t, conn, lease, &checkpoint.Adoption{Snapshot: "1:1:"})
		if a := next.Adopt.Epoch; a <= first.Epoch || a >= next.Epoch {
			t.Fatalf("adopted rows have epoch %d, want it between %d and %d", a, first.Epoch, next.Epoch)
		}
		first = next
	}
}

func TestAdoptionGoesOnWhereItWasAndEnds(t *testing.T) {
	conn, lease := session(t)
	made := beginWith(t, conn, lease, &checkpoint.Adoption{Snapshot: "10:20:12", Landed: landed})
	for _, after := range []string{"0b5e", "7f00"} {
		if err := checkpoint.SaveAdoption(t.Context(), conn, lease, after); err != nil {
			t.Fatal(err)
		}
		want := checkpoint.Adoption{Snapshot: "10:20:12", After: after, Epoch: made.Epoch - 1, Landed: landed}
		if got := load(t, conn).Adopt; got == nil || *got != want {
			t.Errorf("adoption is %+v, want %+v", got, want)
		}
	}
	if err := checkpoint.Save(t.Context(), conn, lease, 200); err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.EndAdoption(t.Context(), conn, lease); err != nil {
		t.Fatal(err)
	}
	got := load(t, conn)
	if got.Adopt != nil || got.Confirmed != 200 || got.Epoch != made.Epoch || got.SkippedSnapshot != "5:9:6" {
		t.Errorf("after the adoption the record is %+v", got)
	}
	left := ""
	err := conn.QueryRow(t.Context(), `SELECT concat(adopt_snapshot, adopt_after, adopt_epoch, landed_epoch, landed_lsn) FROM outboxd.checkpoint`).Scan(&left)
	if err != nil || left != "" {
		t.Errorf("it leaves %q, %v", left, err)
	}
}

func TestSettledSnapshotIsKeptUntilTheNextSlot(t *testing.T) {
	conn, lease := session(t)
	newEpoch(t, conn, lease, 100, time.Now())
	for _, snapshot := range []string{"10:20:12", "30:31:"} {
		if err := checkpoint.SaveSettled(t.Context(), conn, lease, snapshot); err != nil {
			t.Fatal(err)
		}
		if got := load(t, conn).SettledSnapshot; got != snapshot {
			t.Errorf("settled is %q, want %q", got, snapshot)
		}
	}
	if r := newEpoch(t, conn, lease, 100, time.Now()); r.SettledSnapshot != "" {
		t.Errorf("the next slot begins with the settled snapshot %q, want none", r.SettledSnapshot)
	}
	with := checkpoint.Record{SystemID: "7000", Timeline: 3, Confirmed: 1, SettledSnapshot: "40:41:"}
	if r, err := checkpoint.NewEpoch(t.Context(), conn, lease, with, time.Now()); err != nil || r.SettledSnapshot != "40:41:" {
		t.Errorf("a slot that was given one begins with %q, %v", r.SettledSnapshot, err)
	}
}

func TestRoutingIsKeptUntilItIsClearedOrTheNextSlot(t *testing.T) {
	conn, lease := session(t)
	newEpoch(t, conn, lease, 100, time.Now())
	for _, want := range []*checkpoint.Routing{
		{Routes: "a"}, {Routes: "b", Mixed: true}, {Routes: "b", Partitions: map[string]int{"pulsar t": 3, "pulsar u": 0}}, nil, {Routes: "c"},
	} {
		if err := checkpoint.SaveRouting(t.Context(), conn, lease, want); err != nil {
			t.Fatal(err)
		}
		if got := load(t, conn).Routing; !reflect.DeepEqual(got, want) {
			t.Errorf("the routing is %+v, want %+v", got, want)
		}
	}
	if err := checkpoint.SaveLost(t.Context(), conn, lease, "set back"); err != nil {
		t.Fatal(err)
	}
	if got := load(t, conn).Lost; got != "set back" {
		t.Errorf("the log is lost because of %q, want what was saved", got)
	}
	if r := newEpoch(t, conn, lease, 100, time.Now()); r.Routing != nil || r.Lost != "" {
		t.Errorf("the next slot begins with the routing %+v and lost %q, want neither", r.Routing, r.Lost)
	}
}

func TestPublishedIsKeptUntilTheNextSlotBringsItsOwn(t *testing.T) {
	conn, lease := session(t)
	newEpoch(t, conn, lease, 100, time.Now())
	for _, want := range []string{"16384 p 16390", "16500 p 16390"} {
		if err := checkpoint.SavePublished(t.Context(), conn, lease, want); err != nil {
			t.Fatal(err)
		}
		if got := load(t, conn).Published; got != want {
			t.Errorf("%q is published, want %q", got, want)
		}
	}
	next := checkpoint.Record{SystemID: "7000", Timeline: 3, Confirmed: 1, Published: "16600 p 16390"}
	if r, err := checkpoint.NewEpoch(t.Context(), conn, lease, next, time.Now()); err != nil || r.Published != next.Published {
		t.Errorf("the next slot begins with %q, %v", r.Published, err)
	}
	if r := newEpoch(t, conn, lease, 100, time.Now()); r.Published != "" {
		t.Errorf("a slot of which it is not known begins with %q", r.Published)
	}
}

// calls are those that change a part of the record.
var calls = map[string]func(context.Context, lease.Querier, lease.Lease) error{
	"save adoption": func(ctx context.Context, db lease.Querier, held lease.Lease) error {
		return checkpoint.SaveAdoption(ctx, db, held, "later")
	},
	"end adoption": checkpoint.EndAdoption,
	"save lost": func(ctx context.Context, db lease.Querier, held lease.Lease) error {
		return checkpoint.SaveLost(ctx, db, held, "x")
	},
	"save published": func(ctx context.Context, db lease.Querier, held lease.Lease) error {
		return checkpoint.SavePublished(ctx, db, held, "another")
	},
	"save routing": func(ctx context.Context, db lease.Querier, held lease.Lease) error {
		return checkpoint.SaveRouting(ctx, db, held, nil)
	},
	"save settled": func(ctx context.Context, db lease.Querier, held lease.Lease) error {
		return checkpoint.SaveSettled(ctx, db, held, "90:91:")
	},
}

func TestAdoptionOfASessionWithoutTheTermChangesNothing(t *testing.T) {
	conn, old := session(t)
	for name, call := range calls {
		if err := call(t.Context(), conn, old); !errors.Is(err, checkpoint.ErrNoRecord) {
			t.Errorf("%s without a record: %v, want ErrNoRecord", name, err)
		}
	}
	beginWith(t, conn, old, &checkpoint.Adoption{Snapshot: "10:20:12"})
	if _, err := park.Raise(t.Context(), conn, "outboxd", slot, "successor"); err != nil {
		t.Fatal(err)
	}
	before := load(t, conn)
	for name, call := range calls {
		if err := call(t.Context(), conn, old); !errors.Is(err, lease.ErrTermLost) {
			t.Errorf("%s: %v, want ErrTermLost", name, err)
		}
	}
	if after := load(t, conn); !reflect.DeepEqual(after, before) {
		t.Errorf("the record was %+v and is %+v", before, after)
	}
}
