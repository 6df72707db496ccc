package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/park"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const slot = "orders"

func TestNewEpochRecordsWhereTheSlotBegins(t *testing.T) {
	conn, lease := session(t)
	if _, found, err := checkpoint.Load(t.Context(), conn, "outboxd", slot); found || err != nil {
		t.Fatalf("before the first epoch: found %v, %v", found, err)
	}
	now := time.Now()
	made := newEpoch(t, conn, lease, 0x16_B374_8000, now)
	got := load(t, conn)
	if !got.At.Equal(made.At) {
		t.Errorf("loaded time %v, made %v", got.At, made.At)
	}
	got.At, made.At = time.Time{}, time.Time{}
	want := checkpoint.Record{Slot: slot, SystemID: "7000", Timeline: 3, Epoch: uint32(now.Unix()), Confirmed: 0x16_B374_8000}
	if got != want || made != want {
		t.Errorf("made %+v\nloaded %+v\nwant %+v", made, got, want)
	}
}

func TestEpochNeverComesBack(t *testing.T) {
	conn, lease := session(t)
	now := time.Now()
	first := newEpoch(t, conn, lease, 100, now)
	if r := newEpoch(t, conn, lease, 50, now); r.Epoch != first.Epoch+2 || r.Confirmed != 50 {
		t.Errorf("the next epoch in the same second is %d at %s, want %d at 0/32", r.Epoch, r.Confirmed, first.Epoch+2)
	}
	if r := newEpoch(t, conn, lease, 50, now.Add(-time.Hour)); r.Epoch != first.Epoch+4 {
		t.Errorf("the epoch of a clock that went back is %d, want %d", r.Epoch, first.Epoch+4)
	}
	if r := newEpoch(t, conn, lease, 50, now.Add(time.Hour)); r.Epoch != uint32(now.Add(time.Hour).Unix()) {
		t.Errorf("the epoch an hour later is %d, want the time", r.Epoch)
	}
	exec(t, conn, `UPDATE outboxd.checkpoint SET timeline = timeline - 3`)
	if r := newEpoch(t, conn, lease, 50, now); r.Epoch != uint32(now.Add(time.Hour).Unix())+5 {
		t.Errorf("the epoch behind three promotions, of which each used one, is %d, want %d", r.Epoch, uint32(now.Add(time.Hour).Unix())+5)
	}
	exec(t, conn, `DELETE FROM outboxd.checkpoint`)
	if r := newEpoch(t, conn, lease, 50, now.Add(2*time.Hour)); r.Epoch != uint32(now.Add(2*time.Hour).Unix()) {
		t.Errorf("the epoch after the row was removed is %d, want the time", r.Epoch)
	}
}

func TestSaveMovesForwardOnly(t *testing.T) {
	conn, lease := session(t)
	newEpoch(t, conn, lease, 100, time.Now())
	for _, step := range []struct{ save, want event.LSN }{{200, 200}, {150, 200}, {1 << 40, 1 << 40}, {0, 1 << 40}} {
		if err := checkpoint.Save(t.Context(), conn, lease, step.save); err != nil {
			t.Fatal(err)
		}
		if got := load(t, conn).Confirmed; got != step.want {
			t.Errorf("after a save of %s the checkpoint is %s, want %s", step.save, got, step.want)
		}
	}
}

func TestSessionWithoutTheTermWritesNothing(t *testing.T) {
	conn, old := session(t)
	newEpoch(t, conn, old, 100, time.Now())
	if _, err := park.Raise(t.Context(), conn, "outboxd", slot, "successor"); err != nil {
		t.Fatal(err)
	}
	before := load(t, conn)
	if err := checkpoint.Save(t.Context(), conn, old, 200); !errors.Is(err, lease.ErrTermLost) {
		t.Errorf("save: %v, want ErrTermLost", err)
	}
	if _, err := checkpoint.NewEpoch(t.Context(), conn, old, checkpoint.Record{}, time.Now()); !errors.Is(err, lease.ErrTermLost) {
		t.Errorf("new epoch: %v, want ErrTermLost", err)
	}
	if after := load(t, conn); after != before {
		t.Errorf("the checkpoint was %+v and is %+v", before, after)
	}
}

func TestSaveThatWaitedForARaiseWritesNothing(t *testing.T) {
	conn, old := session(t)
	newEpoch(t, conn, old, 100, time.Now())
	raiser := connect(t, conn.Config().ConnString())
	tx, err := raiser.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := park.Raise(t.Context(), tx, "outboxd", slot, "successor"); err != nil {
		t.Fatal(err)
	}
	saved := make(chan error, 1)
	go func() { saved <- checkpoint.Save(t.Context(), conn, old, 200) }()
	waitUntilBlocked(t, tx, conn.PgConn().PID())
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-saved; !errors.Is(err, lease.ErrTermLost) {
		t.Errorf("save: %v, want ErrTermLost", err)
	}
	if got := load(t, conn).Confirmed; got != 100 {
		t.Errorf("the checkpoint is %s, want 0/64", got)
	}
}

func TestSaveIsDurableWhereCommitsAreNot(t *testing.T) {
	conn, lease := session(t)
	newEpoch(t, conn, lease, 100, time.Now())
	exec(t, conn, `SET synchronous_commit = off`)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.Save(t.Context(), tx, lease, 200); err != nil {
		t.Fatal(err)
	}
	if got := setting(t, tx); got != "on" {
		t.Errorf("the transaction of the save has synchronous_commit %s, want on", got)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := setting(t, conn); got != "off" {
		t.Errorf("after the save the connection has synchronous_commit %s, want off as before", got)
	}
}

func TestSaveWithoutARecordSaysSo(t *testing.T) {
	conn, lease := session(t)
	if err := checkpoint.Save(t.Context(), conn, lease, 200); !errors.Is(err, checkpoint.ErrNoRecord) {
		t.Errorf("save: %v, want ErrNoRecord", err)
	}
}

// A dump writes the record by a transaction of the cluster that it is restored into.
func TestSnapshotsOfAnotherClusterAreLeftOut(t *testing.T) {
	conn, lease := session(t)
	var now uint64
	if err := conn.QueryRow(t.Context(), `SELECT txid_snapshot_xmax(txid_current_snapshot())`).Scan(&now); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		skipped, settled uint64
		restored         bool
	}{{now, 0, false}, {0, now, false}, {now, now, false}, {now + 1000, 0, true}, {now, now + 1000, true}, {3 << 32, 3 << 32, true}} {
		text := func(end uint64) string {
			if end == 0 {
				return ""
			}
			return fmt.Sprintf("%d:%d:", end-1, end)
		}
		want := checkpoint.Record{SystemID: "7000", Timeline: 3, Confirmed: 1, SkippedSnapshot: text(c.skipped), SettledSnapshot: text(c.settled)}
		if _, err := checkpoint.NewEpoch(t.Context(), conn, lease, want, time.Now()); err != nil {
			t.Fatal(err)
		}
		if c.restored {
			want.SkippedSnapshot, want.SettledSnapshot = "", ""
		}
		got := load(t, conn)
		if got.SkippedSnapshot != want.SkippedSnapshot || got.SettledSnapshot != want.SettledSnapshot || got.Restored != c.restored {
			t.Errorf("%+v at %d: loaded %+v", c, now, got)
		}
	}
}

func TestMissingTablesNameTheMend(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	held := lease.Lease{Schema: "outboxd", Slot: slot, Term: 1}
	_, _, loadErr := checkpoint.Load(t.Context(), conn, "outboxd", slot)
	_, epochErr := checkpoint.NewEpoch(t.Context(), conn, held, checkpoint.Record{}, time.Now())
	saveErr := checkpoint.Save(t.Context(), conn, held, 1)
	for name, err := range map[string]error{"load": loadErr, "new epoch": epochErr, "save": saveErr} {
		if !errors.Is(err, lease.ErrNotMigrated) {
			t.Errorf("%s: %v, want ErrNotMigrated", name, err)
		}
	}
}

func TestMissingRightsNameTheMend(t *testing.T) {
	conn, held := session(t)
	for _, statement := range []string{`CREATE ROLE checkpoint_stranger`, `SET ROLE checkpoint_stranger`} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := conn.Exec(context.Background(), `RESET ROLE; DROP ROLE checkpoint_stranger`); err != nil {
			t.Error(err)
		}
	})
	_, _, loadErr := checkpoint.Load(t.Context(), conn, "outboxd", slot)
	_, epochErr := checkpoint.NewEpoch(t.Context(), conn, held, checkpoint.Record{}, time.Now())
	saveErr := checkpoint.Save(t.Context(), conn, held, 1)
	for name, err := range map[string]error{"load": loadErr, "new epoch": epochErr, "save": saveErr} {
		if !errors.Is(err, lease.ErrNoRights) {
			t.Errorf("%s: %v, want ErrNoRights", name, err)
		}
	}
}

// session returns a connection to a fresh, migrated database, and a lease of the slot.
func session(t *testing.T) (*pgx.Conn, lease.Lease) {
	t.Helper()
	conn := connect(t, testenv.Postgres(t).Database(t))
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	lease, err := park.Raise(t.Context(), conn, "outboxd", slot, "test")
	if err != nil {
		t.Fatal(err)
	}
	return conn, lease
}

func newEpoch(t *testing.T, conn *pgx.Conn, held lease.Lease, at event.LSN, now time.Time) checkpoint.Record {
	t.Helper()
	r, err := checkpoint.NewEpoch(t.Context(), conn, held, checkpoint.Record{SystemID: "7000", Timeline: 3, Confirmed: at}, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func load(t *testing.T, conn *pgx.Conn) checkpoint.Record {
	t.Helper()
	r, found, err := checkpoint.Load(t.Context(), conn, "outboxd", slot)
	if err != nil || !found {
		t.Fatalf("load: found %v, %v", found, err)
	}
	return r
}

func setting(t *testing.T, db lease.Querier) (value string) {
	t.Helper()
	if err := db.QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// waitUntilBlocked returns when the backend waits for a lock.
func waitUntilBlocked(t *testing.T, db lease.Querier, pid uint32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for blocked := false; !blocked; {
		err := db.QueryRow(ctx, `SELECT cardinality(pg_blocking_pids($1::int)) > 0 FROM pg_sleep(0.005)`, int32(pid)).Scan(&blocked)
		if err != nil {
			t.Fatalf("wait until backend %d waits for a lock: %v", pid, err)
		}
	}
}
