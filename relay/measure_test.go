package relay

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/wal"
)

func TestMeasurementTellsWhatTheSlotHoldsBackAndThatItIsLost(t *testing.T) {
	const slot, size = "measured", 3 << 20
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"min_wal_size = 32MB", "max_wal_size = 32MB"}})
	conn, err := pgx.Connect(t.Context(), server.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	read := func() measured {
		t.Helper()
		m, err := readMeasured(t.Context(), conn, "outboxd", slot)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if _, err := readMeasured(t.Context(), conn, "outboxd", slot); !errors.Is(err, wal.ErrSlotMissing) {
		t.Errorf("without a slot: %v, want ErrSlotMissing", err)
	}
	exec(`SELECT pg_create_logical_replication_slot('measured', 'pgoutput')`)
	before := read()
	exec(`SELECT pg_logical_emit_message(true, 'fill', repeat('x', 3 << 20))`)
	m := read()
	if m.active || m.lost || m.retainedBytes-before.retainedBytes < size || m.unconfirmedBytes-before.unconfirmedBytes < size {
		t.Errorf("after %d bytes of log: %+v, before them %+v", size, m, before)
	}
	exec(`SELECT pg_replication_slot_advance('measured', pg_current_wal_lsn())`)
	if m := read(); m.unconfirmedBytes > size/2 {
		t.Errorf("after a confirmation: %+v", m)
	}
	if server.Major < 13 {
		return // it keeps the log of every slot
	}
	exec(`ALTER SYSTEM SET max_slot_wal_keep_size = '8MB'`)
	exec(`SELECT pg_reload_conf()`)
	for n := 0; !read().lost; n++ {
		if n == 100 {
			t.Fatal("the slot is not lost")
		}
		exec(`SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1 << 20)), pg_switch_wal()`)
		exec(`CHECKPOINT`)
	}
}
