package wal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/wal"
)

// failure receives, confirming as a polite client does, until the stream fails.
func (r *reader) failure(confirm bool) error {
	r.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		m, err := r.Receive(time.Now().Add(20 * time.Millisecond))
		if err != nil {
			return err
		}
		if confirm && (m.ReplyRequested || m.Kind == wal.Tick) {
			if err := r.Confirm(0); err != nil {
				return err
			}
		}
	}
	r.t.Fatalf("the stream did not fail within %s", patience)
	return nil
}

// shortTimeout makes the server end sessions of the fixture that are silent for so long.
func (f *fixture) shortTimeout(timeout string) {
	f.cfg.URL += "&wal_sender_timeout=" + timeout
}

func TestStatusKeepsAStalledSessionAlive(t *testing.T) {
	const rows = 4000
	f := setup(t)
	f.create()
	// More than the sockets hold, so that the server stands in the middle of it. It is there before the session is, which nobody keeps alive meanwhile.
	f.exec("INSERT INTO outbox SELECT i, repeat('x', 5000) FROM generate_series(1, $1::int) i", rows)
	f.shortTimeout("1000")
	r := f.open(0)
	alive := func() bool {
		if err := r.Confirm(0); err != nil {
			t.Fatal(err)
		}
		return query[bool](f, `SELECT coalesce((SELECT reply_time - backend_start > interval '2500 ms' FROM pg_stat_replication r
			JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE slot_name = $1), false)`, f.cfg.Slot)
	}
	eventually(t, "replies are counted behind twice the timeout", alive)
	received := 0
	r.until("all rows", func(m wal.Message) bool {
		if m.Kind == wal.Data && m.Data[0] == 'I' {
			received++
		}
		if received%100 == 0 {
			if err := r.Confirm(0); err != nil {
				t.Fatal(err)
			}
		}
		return received == rows
	})
}

func TestAnUnconfirmedIdleSessionIsNotTakenForAStoppingServer(t *testing.T) {
	f := setup(t)
	f.create()
	f.shortTimeout("1000")
	r := f.open(0)
	f.insert(1)
	r.next()
	questions := 0
	r.until("the server asked several times", func(m wal.Message) bool {
		if m.ReplyRequested {
			questions++
			if err := r.Confirm(0); err != nil {
				t.Fatal(err)
			}
		}
		return questions == 5
	})
}

func TestWithoutStatusTheServerEndsTheSession(t *testing.T) {
	f := setup(t)
	f.create()
	f.shortTimeout("300")
	err := f.open(0).failure(false)
	if err == nil || errors.Is(err, wal.ErrServerSilent) {
		t.Errorf("want a cut connection, got %v", err)
	}
}

func TestAStoppingServerIsLetGo(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	f := setupOn(t, server.Database(t))
	f.create()
	r := f.open(0)
	f.insert(1)
	r.next()
	stopped := make(chan struct{})
	go func() { defer close(stopped); server.Stop() }()
	if err := r.failure(true); !errors.Is(err, wal.ErrServerStopping) {
		t.Errorf("want ErrServerStopping, got %v", err)
	}
	r.close()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("the server still runs")
	}
	server.Start()
	if got := f.open(0).nextIDs(1); got != "[1]" {
		t.Errorf("after the restart received %s, want [1]", got)
	}
}

func TestAKilledServerSendsTheUnconfirmedAgain(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	f := setupOn(t, server.Database(t))
	f.create()
	r := f.open(0)
	f.insert(1, 2)
	first := r.next()
	if err := r.Confirm(first.end); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := r.failure(true); err == nil {
		t.Error("the stream survived its server")
	}
	if err := r.Close(t.Context()); err == nil {
		t.Error("closing a cut connection said that the slot is free")
	}
	server.Start()
	// The server may have forgotten what was confirmed; the start says it again.
	if got := f.open(first.end).nextIDs(1); got != "[2]" {
		t.Errorf("received %s, want [2]", got)
	}
}

func TestATerminatedSessionSaysSo(t *testing.T) {
	f := setup(t)
	f.create()
	r := f.open(0)
	f.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1", f.cfg.Slot)
	if err := r.failure(true); !errors.Is(err, wal.ErrServerStopping) {
		t.Errorf("want ErrServerStopping, got %v", err)
	}
}

func TestAnotherClusterIsRefused(t *testing.T) {
	f := setup(t)
	server := f.create()
	f.cfg.SystemID = "1234567890"
	_, err := wal.Open(t.Context(), f.cfg, 0)
	if !errors.Is(err, wal.ErrReplaced) || !strings.Contains(err.Error(), server.SystemID) || !strings.Contains(err.Error(), f.cfg.SystemID) {
		t.Errorf("want ErrReplaced naming both, got %v", err)
	}
	f.cfg.SystemID = server.SystemID
	if r := f.open(0); r.SystemID != server.SystemID || r.Timeline != server.Timeline {
		t.Errorf("stream is of %s on timeline %d, the server is %s on %d", r.SystemID, r.Timeline, server.SystemID, server.Timeline)
	}
}

func TestAMissingSlotIsNamed(t *testing.T) {
	f := setup(t)
	f.publish()
	if _, err := wal.Open(t.Context(), f.cfg, 0); !errors.Is(err, wal.ErrSlotMissing) {
		t.Errorf("want ErrSlotMissing, got %v", err)
	}
}

func TestALostSlotIsNamed(t *testing.T) {
	if setup(t).mustVerify().Major() < 13 {
		t.Skip("PostgreSQL 12 keeps the log of every slot")
	}
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"max_slot_wal_keep_size = 1MB", "min_wal_size = 32MB", "max_wal_size = 32MB"}})
	f := setupOn(t, server.Database(t))
	f.create()
	eventually(t, "the slot is lost", func() bool {
		f.exec("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1 << 20)), pg_switch_wal()")
		f.exec("CHECKPOINT")
		return f.status().WALStatus == "lost"
	})
	if !f.status().Lost() {
		t.Errorf("status is %+v", f.status())
	}
	if _, err := wal.Verify(t.Context(), f.Conn, f.cfg); !errors.Is(err, wal.ErrSlotLost) {
		t.Errorf("verify: want ErrSlotLost, got %v", err)
	}
	if _, err := wal.Open(t.Context(), f.cfg, 0); !errors.Is(err, wal.ErrSlotLost) {
		t.Errorf("open: want ErrSlotLost, got %v", err)
	}
}

func TestALargeMessageArrivesWholeInManyParts(t *testing.T) {
	f := setup(t)
	f.create()
	f.largeMessage(64<<20, 4<<20)
}

// largeMessage streams one row of so many bytes through a network that stops after each piece until Receive has ticked.
func (f *fixture) largeMessage(size, piece int) {
	t := f.t
	t.Helper()
	p := viaProxy(t, f)
	r := f.open(0)
	r.until("the stream runs", func(m wal.Message) bool { return m.Kind == wal.Tick })
	p.allow(0)
	f.exec("ALTER TABLE outbox ALTER payload SET STORAGE EXTERNAL")
	f.exec("INSERT INTO outbox VALUES (1, repeat('x', $1::int))", size)
	ticks := 0
	r.until("the large message", func(m wal.Message) bool {
		switch {
		case m.Kind == wal.Tick:
			ticks++
			if r.Buffered() != 0 {
				t.Fatalf("%d bytes are buffered after a tick", r.Buffered())
			}
			if err := r.Confirm(0); err != nil {
				t.Fatal(err)
			}
			p.allow(piece)
		case m.Kind == wal.Data && len(m.Data) > size:
			insert, ok := parse(t, m.Data).(*pglogrepl.InsertMessage)
			if !ok || strings.Trim(string(insert.Tuple.Columns[1].Data), "x") != "" || len(insert.Tuple.Columns[1].Data) != size {
				t.Error("the payload is not what was inserted")
			}
			return true
		}
		return false
	})
	if ticks < size/piece {
		t.Errorf("the message came after %d ticks, want %d or more", ticks, size/piece)
	}
	p.allow(1 << 30)
	if err := r.Confirm(0); err != nil {
		t.Fatal(err)
	}
}

func TestASilentServerIsGivenUp(t *testing.T) {
	f := setup(t)
	f.create()
	p := viaProxy(t, f)
	r := f.open(0)
	asked := 0
	r.until("answers to idle status updates", func(m wal.Message) bool {
		if m.Kind == wal.Keepalive {
			asked++
		}
		if err := r.Confirm(0); err != nil {
			t.Fatal(err)
		}
		return asked > 5
	})
	r.SetSilenceLimit(time.Second) // a busy server may answer later than that
	p.allow(0)
	if err := r.failure(true); !errors.Is(err, wal.ErrServerSilent) {
		t.Errorf("want ErrServerSilent, got %v", err)
	}
}

func TestCloseIsBoundedByItsContext(t *testing.T) {
	f := setup(t)
	f.create()
	p := viaProxy(t, f)
	r := f.open(0)
	p.allow(0) // the server's answer never comes
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begun := time.Now()
	if err := r.Close(ctx); err == nil {
		t.Error("close says that the server ended the stream")
	}
	if took := time.Since(begun); took >= 2*time.Second { // which the server would get without the context
		t.Errorf("close took %s", took)
	}
}
