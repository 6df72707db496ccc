package wal_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/wal"
)

func TestConfirmedTransactionsAreNotSentAgainAndOthersAre(t *testing.T) {
	f := setup(t)
	f.create()
	first, second := f.adjacentCommits()
	r := f.open(0)
	if got := r.nextIDs(2); got != "["+first+" "+second+"]" {
		t.Fatalf("received %s", got)
	}
	r.close()

	r = f.open(0)
	again := r.next()
	if next := r.next(); next.commit != again.end {
		t.Fatalf("the commits are not adjacent: %s ends, %s begins", again.end, next.commit)
	}
	if err := r.Confirm(again.end); err != nil {
		t.Fatal(err)
	}
	r.close()
	if got := query[string](f, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", f.cfg.Slot); got != again.end.String() {
		t.Fatalf("confirmed %s, the slot says %s", again.end, got)
	}

	r = f.open(0)
	if got := r.nextIDs(1); got != "["+second+"]" {
		t.Errorf("after confirming the first of two adjacent commits received %s, want [%s]", got, second)
	}
}

// adjacentCommits makes two transactions whose commit records follow each other, and returns their ids. Background
// processes write to the log too, so it may take several attempts, of which only the last two are in the slot's future.
func (f *fixture) adjacentCommits() (first, second string) {
	f.t.Helper()
	a, b := f.other(), f.other()
	for i := 0; i < 100; i += 2 {
		for j, session := range []*fixture{a, b} {
			session.exec("BEGIN")
			session.exec("INSERT INTO outbox VALUES ($1)", i+j)
		}
		before := query[string](f, "SELECT pg_current_wal_insert_lsn()::text")
		a.exec("COMMIT")
		between := query[string](f, "SELECT pg_current_wal_insert_lsn()::text")
		b.exec("COMMIT")
		after := query[string](f, "SELECT pg_current_wal_insert_lsn()::text")
		// Both commit records have the same length, and nothing else was written.
		if query[bool](f, "SELECT $1::pg_lsn - $2::pg_lsn = $2::pg_lsn - $3::pg_lsn", after, between, before) {
			return fmt.Sprint(i), fmt.Sprint(i + 1)
		}
		f.exec("SELECT pg_replication_slot_advance($1, $2::pg_lsn)", f.cfg.Slot, after)
	}
	f.t.Fatal("no adjacent commits in 50 attempts")
	return "", ""
}

func TestConfirmingAKeepaliveKeepsTheOpenTransaction(t *testing.T) {
	f := setup(t)
	f.create()
	f.exec("CREATE TABLE busy (n int)")
	open := f.other()
	open.exec("BEGIN")
	open.insert(1)
	behind := parseLSN(t, query[string](f, "SELECT pg_current_wal_insert_lsn()::text"))

	r := f.open(0)
	m := r.until("a keepalive behind the open transaction's insert", func(m wal.Message) bool {
		if m.Kind == wal.Keepalive && m.WALEnd < behind {
			// The server's first word may be of the slot's own position. PostgreSQL 12 says no more until that is
			// answered and the log has grown.
			if err := r.Confirm(r.Start); err != nil {
				t.Fatal(err)
			}
			f.exec("CHECKPOINT")
		}
		return m.Kind == wal.Keepalive && m.WALEnd >= behind
	})
	if m.ServerTime.Location() != time.UTC || time.Since(m.ServerTime).Abs() > time.Minute {
		t.Errorf("server time is %v", m.ServerTime)
	}
	if err := r.Confirm(m.WALEnd); err != nil {
		t.Fatal(err)
	}
	r.close()
	f.waitFor("the slot is confirmed there", "SELECT confirmed_flush_lsn >= $2::pg_lsn FROM pg_replication_slots WHERE slot_name = $1",
		f.cfg.Slot, behind.String())

	open.exec("COMMIT")
	if got := f.open(0).nextIDs(1); got != "[1]" {
		t.Errorf("received %s, want [1]", got)
	}
}

func parseLSN(t *testing.T, text string) event.LSN {
	t.Helper()
	lsn, err := event.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

func TestAConfirmedPositionNeverGoesBack(t *testing.T) {
	f := setup(t)
	f.create()
	r := f.open(0)
	f.insert(1)
	end := r.next().end
	for _, lsn := range []event.LSN{end, 1, 0} {
		if err := r.Confirm(lsn); err != nil {
			t.Fatal(err)
		}
	}
	if r.Confirmed() != end {
		t.Errorf("confirmed is %s, want %s", r.Confirmed(), end)
	}
	r.close()
	if got := f.status().ConfirmedFlush; got != end {
		t.Errorf("the slot has confirmed %s, want %s", got, end)
	}
	// Nor does a session that begins below it take it back.
	r = f.open(1)
	if err := r.Confirm(1); err != nil {
		t.Fatal(err)
	}
	if r.Start != end || r.SlotConfirmed != end {
		t.Errorf("start is %s and the slot's position %s, want %s", r.Start, r.SlotConfirmed, end)
	}
	r.close()
	if got := f.status().ConfirmedFlush; got != end {
		t.Errorf("the slot has confirmed %s, want %s", got, end)
	}
}

func (f *fixture) status() *wal.Slot {
	f.t.Helper()
	slot, err := wal.SlotStatus(f.t.Context(), f.Conn, f.cfg.Slot)
	if err != nil {
		f.t.Fatal(err)
	}
	return slot
}

func TestTheStreamBeginsAtTheStartBehindTheSlot(t *testing.T) {
	f := setup(t)
	f.create()
	f.insert(1, 2)
	r := f.open(0)
	first := r.next()
	r.close()
	if got := f.open(first.end).nextIDs(1); got != "[2]" {
		t.Errorf("received %s, want [2]", got)
	}
}

func TestRowsArriveInFixedTextWhateverTheDatabaseSays(t *testing.T) {
	f := setup(t)
	database := pgx.Identifier{f.Config().Database}.Sanitize()
	f.exec("ALTER DATABASE " + database + " SET DateStyle = 'German'")
	f.exec("ALTER DATABASE " + database + " SET TimeZone = 'Asia/Tokyo'")
	f.exec("ALTER DATABASE " + database + " SET extra_float_digits = -5")
	f.exec("ALTER DATABASE " + database + " SET bytea_output = 'escape'")
	f.exec("ALTER DATABASE " + database + " SET client_encoding = 'LATIN1'")
	f.exec("CREATE TABLE texts (a text, b timestamptz, c float8, d bytea)")
	f.cfg.Table, f.cfg.Columns = "texts", []string{"a", "b", "c", "d"}
	f.create()
	r := f.open(0)
	f.exec(`INSERT INTO texts VALUES ('ü€', '2026-11-24 09:30:00.5+00', 0.1, '\x00ff')`)
	var row []string
	r.until("the insert", func(m wal.Message) bool {
		if m.Kind != wal.Data {
			return false
		}
		insert, ok := parse(t, m.Data).(*pglogrepl.InsertMessage)
		if ok {
			for _, column := range insert.Tuple.Columns {
				row = append(row, string(column.Data))
			}
		}
		return ok
	})
	if got, want := strings.Join(row, "|"), `ü€|2026-11-24 09:30:00.5+00|0.1|\x00ff`; got != want {
		t.Errorf("received %s, want %s", got, want)
	}
}

func TestAnyIdentifierStreams(t *testing.T) {
	f := setup(t)
	f.cfg.Schema, f.cfg.Table, f.cfg.Publication = `Sch"e m'a`, `Out"Box'; --`, `Pub, "l" 'ic`
	f.cfg.Columns = []string{`I"d`}
	name := pgx.Identifier{f.cfg.Schema, f.cfg.Table}.Sanitize()
	f.exec("CREATE SCHEMA " + pgx.Identifier{f.cfg.Schema}.Sanitize())
	f.exec("CREATE TABLE " + name + ` ("I""d" int)`)
	f.create()
	f.exec("INSERT INTO " + name + " VALUES (7)")
	if got := f.open(0).nextIDs(1); got != "[7]" {
		t.Errorf("received %s, want [7]", got)
	}
}

func TestPartitionsArriveUnderTheNameOfTheirRoot(t *testing.T) {
	f := setup(t)
	f.partitioned()
	if server, checks := f.verify(); server.Major() < 13 {
		if len(checks) != 1 || !strings.Contains(checks[0].Problem, "cannot publish a partitioned table") {
			t.Errorf("got %v", checks)
		}
		return
	}
	if server := f.create(); !server.Partitioned || !server.CreatedPublication || !server.CreatedSlot {
		t.Errorf("server is %+v", server)
	}
	r := f.open(0)
	f.exec("INSERT INTO parted VALUES (1), (101)")
	names := map[uint32]string{}
	inserts := map[string]int{}
	r.until("the commit", func(m wal.Message) bool {
		if m.Kind != wal.Data {
			return false
		}
		switch m := parse(t, m.Data).(type) {
		case *pglogrepl.RelationMessage: // the partitions are described too
			names[m.RelationID] = m.RelationName
		case *pglogrepl.InsertMessage:
			inserts[names[m.RelationID]]++
		case *pglogrepl.CommitMessage:
			return true
		}
		return false
	})
	if got := fmt.Sprint(inserts); got != "map[parted:2]" {
		t.Errorf("inserts arrived as %s, want map[parted:2]", got)
	}
}

func TestAMissingPublicationEndsTheStream(t *testing.T) {
	f := setup(t)
	f.create()
	f.exec("DROP PUBLICATION outboxd")
	f.insert(1)
	f.publish() // comes too late for the row
	r := f.open(0)
	var err error
	for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); {
		_, err = r.Receive(time.Now().Add(20 * time.Millisecond))
	}
	if !errors.Is(err, wal.ErrPublicationMissing) {
		t.Errorf("want ErrPublicationMissing, got %v", err)
	}
}

func TestAPassedDeadlineDoesNotBlock(t *testing.T) {
	f := setup(t)
	f.create()
	r := f.open(0)
	for _, until := range []time.Time{{}, time.Now().Add(-time.Hour)} {
		r.until("a tick", func(wal.Message) bool {
			m, err := r.Receive(until)
			if err != nil {
				t.Fatal(err)
			}
			return m.Kind == wal.Tick
		})
	}
	f.insert(1)
	if got := r.nextIDs(1); got != "[1]" {
		t.Errorf("received %s, want [1]", got)
	}
}

func TestWhatGathersIsReceivedAtTheLatestAtTheDeadline(t *testing.T) {
	f := setup(t)
	f.create()
	wantGathering(t, f)
}

// wantGathering receives a row that is much less than what is to gather, and then more than that.
func wantGathering(t *testing.T, f *fixture) {
	t.Helper()
	const gathers = 64 << 10
	r := f.open(0)
	must(t, r.Gather(gathers))
	if got := r.LowWater(t); got != gathers {
		t.Errorf("the kernel gathers %d bytes, want %d", got, gathers)
	}
	f.insert(2)
	r.until("a small row", func(m wal.Message) bool { return m.Kind == wal.Data && m.Data[0] == 'C' })
	f.exec("INSERT INTO outbox SELECT i, repeat('x', 500) FROM generate_series(3, 1001) i")
	rows := 0
	r.until("many rows", func(m wal.Message) bool { // whose end is less than what is to gather
		if m.Kind == wal.Data && m.Data[0] == 'I' {
			rows++
		}
		return m.Kind == wal.Data && m.Data[0] == 'C'
	})
	if rows != 999 {
		t.Errorf("received %d rows, want 999", rows)
	}
	must(t, r.Gather(1))
	if got := r.LowWater(t); got != 1 {
		t.Errorf("the kernel gathers %d bytes, want 1", got)
	}
	must(t, r.Gather(gathers))
	if err := r.Close(t.Context()); err != nil { // the goodbye is short
		t.Errorf("close: %v", err)
	}
}

func TestCloseFreesTheSlot(t *testing.T) {
	f := setup(t)
	f.create()
	f.exec("INSERT INTO outbox SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i")
	r := f.open(0)
	r.until("the first change", func(m wal.Message) bool { return m.Kind == wal.Data })
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := wal.DropSlot(t.Context(), f.Conn, f.cfg.Slot); err != nil {
		t.Errorf("drop slot: %v", err)
	}
}

func TestAReceivedChangeIsNotAllocated(t *testing.T) {
	const rows = 5000
	f := setup(t)
	f.create()
	r := f.open(0)
	f.exec("INSERT INTO outbox SELECT i, repeat('x', 500) FROM generate_series(1, $1::int) i", rows)
	until := time.Now().Add(patience)
	changes := 0
	receive := func() {
		m, err := r.Receive(until)
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind == wal.Data {
			changes++
		}
	}
	for changes == 0 {
		receive()
	}
	if allocs := testing.AllocsPerRun(rows-10, receive); allocs != 0 {
		t.Errorf("%v allocations per message, want 0", allocs)
	}
	if changes < rows-10 {
		t.Errorf("received %d changes, want %d", changes, rows-10)
	}
}

// BenchmarkReceive reads one-row changes of 500 bytes as fast as the server sends them.
func BenchmarkReceive(b *testing.B) {
	f := setup(b)
	f.create()
	f.exec("INSERT INTO outbox SELECT i, repeat('x', 500) FROM generate_series(1, $1::int) i", b.N)
	r := f.open(0)
	b.ReportAllocs()
	b.ResetTimer()
	for received := 0; received < b.N; received++ {
		if _, err := r.Receive(time.Now().Add(patience)); err != nil {
			b.Fatal(err)
		}
	}
}
