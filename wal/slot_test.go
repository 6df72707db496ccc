package wal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/wal"
)

func TestSetupMakesWhatIsMissingOnceAndInOrder(t *testing.T) {
	f := setup(t)
	server := f.create()
	if !server.CreatedPublication || !server.CreatedSlot || server.Slot == nil || server.Slot.Active || !server.PublicationExists {
		t.Errorf("first: %+v", server)
	}
	server = f.create()
	if server.CreatedPublication || server.CreatedSlot {
		t.Errorf("second: %+v", server)
	}
	if len(server.Warnings) != 0 {
		t.Errorf("warnings: %v", server.Warnings)
	}
	published := query[string](f, "SELECT format('%s%s%s%s', pubinsert, pubupdate, pubdelete, pubtruncate) FROM pg_publication")
	if published != "tfff" {
		t.Errorf("publishes %s, want inserts only", published)
	}
}

func TestWhatKeepsASlotIsSaidForTheReasonOfItsLoss(t *testing.T) {
	for _, c := range []struct {
		lost wal.Slot
		want string
	}{
		{wal.Slot{WALStatus: "lost"}, "max_slot_wal_keep_size"},
		{wal.Slot{WALStatus: "lost", InvalidationReason: "wal_removed"}, "max_slot_wal_keep_size"},
		{wal.Slot{WALStatus: "lost", InvalidationReason: "idle_timeout"}, "idle_replication_slot_timeout"},
		{wal.Slot{WALStatus: "lost", InvalidationReason: "wal_level_insufficient", Conflicting: true}, "wal_level = logical"},
		{wal.Slot{WALStatus: "lost", InvalidationReason: "rows_removed", Conflicting: true}, "hot_standby_feedback"},
		{wal.Slot{WALStatus: "lost", Conflicting: true}, "hot_standby_feedback"},
	} {
		if got := c.lost.Prevention(); !c.lost.Lost() || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.lost, got, c.want)
		}
	}
}

func TestMoreThanInsertsAndARowFilterAreFacts(t *testing.T) {
	f := setup(t)
	filter := ""
	if f.mustVerify().Major() >= 15 {
		filter = " WHERE (id > 10)"
	}
	f.exec("ALTER TABLE outbox REPLICA IDENTITY FULL")
	f.exec("CREATE PUBLICATION outboxd FOR TABLE outbox" + filter + " WITH (publish = 'insert, delete')")
	server := f.create()
	if filter != "" && server.RowFilter != "(id > 10)" {
		t.Errorf("row filter is %q", server.RowFilter)
	}
	if got := fmt.Sprint(server.Warnings); !strings.Contains(got, "more than inserts") {
		t.Errorf("warnings are %s", got)
	}
}

func TestAllTablesAndTablesInSchemaContainTheTable(t *testing.T) {
	f := setup(t)
	f.exec("CREATE PUBLICATION outboxd FOR ALL TABLES WITH (publish = 'insert')")
	if f.mustVerify().Major() < 15 {
		return
	}
	f.exec("DROP PUBLICATION outboxd")
	f.exec("CREATE PUBLICATION outboxd FOR TABLES IN SCHEMA public WITH (publish = 'insert')")
	f.mustVerify()
}

func TestARoleWithReplicationAloneMayStream(t *testing.T) {
	f := setup(t)
	f.exec("CREATE ROLE " + f.role() + " LOGIN REPLICATION")
	t.Cleanup(func() {
		if _, err := f.Exec(afterTest(t), "DROP ROLE "+f.role()); err != nil {
			t.Error(err)
		}
	})
	f.publish()
	f.cfg.URL = strings.Replace(f.cfg.URL, "postgres@", f.role()+"@", 1)
	plain := f.other()
	plain.create()
	r := f.open(0)
	f.insert(1)
	if got := r.nextIDs(1); got != "[1]" {
		t.Errorf("received %s, want [1]", got)
	}
}

func TestCreatePublicationNamesWhoMay(t *testing.T) {
	f := setup(t)
	f.become("REPLICATION")
	err := wal.CreatePublication(t.Context(), f.Conn, f.cfg)
	checks := wal.CheckErrors(err)
	if len(checks) != 1 || !strings.Contains(checks[0].Problem, `"postgres" owns public.outbox`) ||
		!strings.HasPrefix(checks[0].Mend, `as "postgres" or a superuser: CREATE PUBLICATION "outboxd"`) {
		t.Errorf("got %v", err)
	}
}

func TestACancelledCreateLeavesNoSlot(t *testing.T) {
	f := setup(t)
	f.publish()
	open := f.other()
	open.exec("BEGIN")
	open.insert(1)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := wal.CreateSlot(ctx, f.cfg); err == nil {
		t.Fatal("created beside an open transaction")
	}
	f.waitFor("the attempt's slot is gone", "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)", f.cfg.Slot)
	open.exec("COMMIT")
	point, err := wal.CreateSlot(t.Context(), f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.status().ConfirmedFlush; got != point {
		t.Errorf("consistent point is %s, the slot begins at %s", point, got)
	}
	if _, err := wal.CreateSlot(t.Context(), f.cfg); err == nil {
		t.Error("created twice")
	}
}

func TestSlotOfAnotherDatabaseIsNotDropped(t *testing.T) {
	f, elsewhere := setup(t), setup(t)
	f.create()
	err := wal.DropSlot(t.Context(), elsewhere.Conn, f.cfg.Slot)
	if err == nil || !strings.Contains(err.Error(), "belongs to database") {
		t.Errorf("dropping it from another database says %v", err)
	}
	f.status() // it is there
}

func TestDropSlotNamesTheRightThatTheRoleLacks(t *testing.T) {
	f := setup(t)
	f.create()
	if _, err := f.Exec(t.Context(), `SET ROLE pg_monitor`); err != nil {
		t.Fatal(err)
	}
	err := wal.DropSlot(t.Context(), f.Conn, f.cfg.Slot)
	if err == nil || !strings.Contains(err.Error(), "the role may not replicate: ALTER ROLE") {
		t.Errorf("want the right that is missing, got %v", err)
	}
	if _, err := f.Exec(t.Context(), `RESET ROLE`); err != nil {
		t.Fatal(err)
	}
}

func TestDropSlotNamesTheProcessThatHoldsIt(t *testing.T) {
	f := setup(t)
	f.create()
	r := f.open(0)
	err := wal.DropSlot(t.Context(), f.Conn, f.cfg.Slot)
	if want := fmt.Sprintf("process %d", f.status().ActivePID); !errors.Is(err, wal.ErrSlotActive) || !strings.Contains(err.Error(), want) {
		t.Errorf("want ErrSlotActive with %q, got %v", want, err)
	}
	r.close()
	if err := wal.DropSlot(t.Context(), f.Conn, f.cfg.Slot); err != nil {
		t.Error(err)
	}
	if err := wal.DropSlot(t.Context(), f.Conn, f.cfg.Slot); !errors.Is(err, wal.ErrSlotMissing) {
		t.Errorf("want ErrSlotMissing, got %v", err)
	}
	if _, err := wal.SlotStatus(t.Context(), f.Conn, f.cfg.Slot); !errors.Is(err, wal.ErrSlotMissing) {
		t.Errorf("want ErrSlotMissing, got %v", err)
	}
}

func TestSlotStatusTellsWhatTheServerHas(t *testing.T) {
	f := setup(t)
	major := f.create().Major()
	f.insert(1, 2, 3)
	slot := f.status()
	if slot.Plugin != "pgoutput" || slot.Database != f.Config().Database || slot.Active || slot.Lost() || slot.RestartLSN == 0 ||
		slot.ConfirmedFlush < slot.RestartLSN || slot.RetainedBytes <= 0 {
		t.Errorf("slot is %+v", slot)
	}
	if major >= 13 && slot.WALStatus != "reserved" {
		t.Errorf("wal_status is %q", slot.WALStatus)
	}
	if (major >= 17) != (slot.InactiveSince != nil) {
		t.Errorf("inactive since %v on PostgreSQL %d", slot.InactiveSince, major)
	}
	f.open(0)
	if slot := f.status(); !slot.Active || slot.ActivePID == 0 {
		t.Errorf("slot is %+v", slot)
	}
}

func TestAFailoverSlotIsMadeWhereTheServerHasThem(t *testing.T) {
	f := setup(t)
	f.cfg.Failover = true
	server := f.create()
	if got := f.status().Failover; got != (server.Major() >= 17) {
		t.Errorf("failover is %v on PostgreSQL %d", got, server.Major())
	}
	if warned := strings.Contains(fmt.Sprint(server.Warnings), "database.failover has no effect"); warned == (server.Major() >= 17) {
		t.Errorf("on PostgreSQL %d the warnings are %v", server.Major(), server.Warnings)
	}
}
