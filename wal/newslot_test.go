package wal_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/wal"
)

// newSlot creates the slot with its snapshot.
func (f *fixture) newSlot() *wal.NewSlot {
	f.t.Helper()
	n, err := wal.CreateSlotSnapshot(f.t.Context(), f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// seen returns the rows that the snapshot sees.
func (f *fixture) seen(snapshot string) []string {
	f.t.Helper()
	reader := f.other()
	reader.exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	reader.exec("SET TRANSACTION SNAPSHOT '" + snapshot + "'")
	rows, err := reader.Query(f.t.Context(), "SELECT id::text FROM outbox ORDER BY id")
	if err != nil {
		f.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		f.t.Fatal(err)
	}
	return ids
}

func TestSnapshotOfANewSlotSeesWhatItsLogDoesNotCarry(t *testing.T) {
	f := setup(t)
	f.publish()
	f.insert(1, 2)
	slot := f.newSlot()
	f.insert(3)
	if got := fmt.Sprint(f.seen(slot.Snapshot)); got != "[1 2]" {
		t.Errorf("the snapshot sees %s, want [1 2]", got)
	}
	if got := f.status(); got.ConfirmedFlush != slot.ConsistentPoint || got.Active {
		t.Errorf("consistent point is %s, the slot is %+v", slot.ConsistentPoint, got)
	}
	if err := slot.Close(); err != nil {
		t.Error(err)
	}
	late := f.other()
	late.exec("BEGIN ISOLATION LEVEL REPEATABLE READ")
	if _, err := late.Exec(t.Context(), "SET TRANSACTION SNAPSHOT '"+slot.Snapshot+"'"); err == nil {
		t.Error("the snapshot outlived Close")
	}
	if got := f.open(0).nextIDs(1); got != "[3]" {
		t.Errorf("the log carries %s, want [3]", got)
	}
}

// Each row of transactions that commit while the slot is made is on exactly one of the two sides.
func TestNoRowIsOnBothSidesOfASnapshotOrOnNone(t *testing.T) {
	f := setup(t)
	f.publish()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var last atomic.Int64
	var writers sync.WaitGroup
	for range 4 {
		writer := f.other()
		writers.Go(func() {
			for ctx.Err() == nil {
				if _, err := writer.Exec(t.Context(), "INSERT INTO outbox VALUES ($1, 'p')", last.Add(1)); err != nil {
					t.Errorf("insert: %v", err)
					return
				}
			}
		})
	}
	rows := func() int64 { return last.Load() }
	eventually(t, "rows are written", func() bool { return rows() > 100 })
	slot := f.newSlot()
	made := rows()
	eventually(t, "rows are written behind it", func() bool { return rows() > made+100 })
	stop()
	writers.Wait()

	seen := f.seen(slot.Snapshot)
	if err := slot.Close(); err != nil {
		t.Error(err)
	}
	all, stream := slices.Clone(seen), f.open(0)
	for len(all) < int(rows()) {
		all = append(all, stream.next().ids...)
	}
	slices.Sort(all)
	if both := len(all) - len(slices.Compact(all)); both > 0 || len(seen) < 100 || len(seen) == int(rows()) {
		t.Errorf("of %d rows the snapshot sees %d, and %d are in the log too", rows(), len(seen), both)
	}
}

func TestNewSlotIsSynchronizedWhereTheServerCan(t *testing.T) {
	f := setup(t)
	f.publish()
	f.cfg.Failover = true
	if err := f.newSlot().Close(); err != nil {
		t.Error(err)
	}
	if major := f.mustVerify().Major(); f.status().Failover != (major >= 17) {
		t.Errorf("failover is %v on PostgreSQL %d", f.status().Failover, major)
	}
	if n, err := wal.CreateSlotSnapshot(t.Context(), f.cfg); err == nil {
		t.Error("created twice", n.Close())
	}
}

func TestKeepLimitIsInBytes(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	f := setupOn(t, server.Database(t))
	limits := map[string]int64{"-1": 0, "3MB": 3 << 20, "2GB": 2 << 30, "0": 1}
	if f.mustVerify().Major() < 13 { // has no such setting
		limits = map[string]int64{"": 0}
	}
	for setting, want := range limits {
		if setting != "" {
			f.exec("ALTER SYSTEM SET max_slot_wal_keep_size = '" + setting + "'")
			f.exec("SELECT pg_reload_conf()")
		}
		eventually(t, fmt.Sprintf("the limit of %s is %d", setting, want), func() bool {
			got, err := wal.KeepLimit(t.Context(), f.Conn)
			if err != nil {
				t.Fatal(err)
			}
			return got == want
		})
	}
}
