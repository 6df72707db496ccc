package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// Slot is a replication slot as pg_replication_slots shows it. A field whose version is named is zero on older servers.
// Source: https://www.postgresql.org/docs/current/view-pg-replication-slots.html
type Slot struct {
	Name      string
	Plugin    string // "" for a physical slot
	Database  string // "" for a physical slot
	Temporary bool

	Active    bool
	ActivePID int32 // the process that streams from it; 0 when none does

	RestartLSN     event.LSN // oldest WAL that the slot keeps; 0 when it keeps none
	ConfirmedFlush event.LSN // the stream goes on behind it; 0 for a physical slot
	RetainedBytes  int64     // WAL between RestartLSN and the end of the log

	WALStatus   string // 13: reserved, extended, unreserved or lost
	SafeWALSize *int64 // 13: bytes that may still be written before the slot is lost; nil without a limit

	TwoPhase           bool       // 14: it sends transactions when they are prepared
	Conflicting        bool       // 16
	InvalidationReason string     // 17
	InactiveSince      *time.Time // 17
	Failover           bool       // 17: synchronized to standbys
}

// Lost tells whether the server removed what the slot needs.
func (s *Slot) Lost() bool {
	return s.WALStatus == "lost" || s.InvalidationReason != "" || s.Conflicting
}

// Prevention is what keeps the server from invalidating a slot for the reason of this one.
// Source: https://www.postgresql.org/docs/current/view-pg-replication-slots.html
func (s *Slot) Prevention() string {
	switch {
	case s.InvalidationReason == "idle_timeout":
		return "idle_replication_slot_timeout = 0, or far longer than outboxd is ever stopped, prevents it"
	case s.InvalidationReason == "wal_level_insufficient":
		return "wal_level = logical for as long as the slot is there prevents it"
	case s.InvalidationReason == "rows_removed":
		return "hot_standby_feedback = on prevents it on a standby, from which this server was promoted"
	case s.InvalidationReason == "" && s.Conflicting: // 16 does not tell the two apart
		return "hot_standby_feedback = on on a standby, from which this server was promoted, and wal_level = logical on its primary prevent it"
	default:
		return "a larger max_slot_wal_keep_size prevents it"
	}
}

// SlotStatus reads the slot over an ordinary connection. Without such a slot the error is [ErrSlotMissing].
// It needs no privilege.
func SlotStatus(ctx context.Context, conn *pgx.Conn, name string) (*Slot, error) {
	major, err := majorVersion(ctx, conn)
	if err != nil {
		return nil, err
	}
	return readSlot(ctx, conn, name, major)
}

func readSlot(ctx context.Context, conn *pgx.Conn, name string, major int) (*Slot, error) {
	s := &Slot{Name: name}
	var restart, confirmed string
	err := conn.QueryRow(ctx, slotSQL(major), name).Scan(&s.Plugin, &s.Database, &s.Temporary, &s.ActivePID,
		&restart, &confirmed, &s.RetainedBytes, &s.WALStatus, &s.SafeWALSize, &s.TwoPhase, &s.Conflicting,
		&s.InvalidationReason, &s.InactiveSince, &s.Failover)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read slot %q: %w", name, ErrSlotMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("read slot %q: %w", name, err)
	}
	s.Active = s.ActivePID != 0
	if s.RestartLSN, err = event.ParseLSN(restart); err != nil {
		return nil, fmt.Errorf("read slot %q: restart_lsn: %w", name, err)
	}
	if s.ConfirmedFlush, err = event.ParseLSN(confirmed); err != nil {
		return nil, fmt.Errorf("read slot %q: confirmed_flush_lsn: %w", name, err)
	}
	return s, nil
}

// slotSQL reads one slot with the columns that the server's version has. On a standby the log ends where replay is.
func slotSQL(major int) string {
	since := func(version int, column, before string) string {
		if major >= version {
			return column
		}
		return before
	}
	return `SELECT coalesce(plugin, ''), coalesce(database, ''), temporary, coalesce(active_pid, 0),
		coalesce(restart_lsn, '0/0')::text, coalesce(confirmed_flush_lsn, '0/0')::text,
		coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
			ELSE pg_current_wal_lsn() END, restart_lsn), 0)::bigint,
		` + since(13, "coalesce(wal_status, '')", "''") + `,
		` + since(13, "safe_wal_size", "NULL::bigint") + `,
		` + since(14, "two_phase", "false") + `,
		` + since(16, "coalesce(conflicting, false)", "false") + `,
		` + since(17, "coalesce(invalidation_reason, '')", "''") + `,
		` + since(17, "inactive_since", "NULL::timestamptz") + `,
		` + since(17, "failover", "false") + `
		FROM pg_replication_slots WHERE slot_name = $1`
}

// CreateSlot makes the logical slot cfg.Slot over a replication connection of its own and returns its consistent point:
// every transaction that commits behind it will be in the stream, none before it. It waits for the transactions
// that are open when it begins; ctx bounds that, and a cancelled attempt leaves no slot. The publication has to exist before (see [Setup]).
// The role needs REPLICATION.
func CreateSlot(ctx context.Context, cfg Config) (event.LSN, error) {
	if err := checkSlotName(cfg.Slot); err != nil {
		return 0, err
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return 0, fmt.Errorf("create slot %q: %w", cfg.Slot, err)
	}
	point, _, err := createSlot(ctx, conn, cfg, snapshotNothing)
	// The slot is there or not whatever closing says; a connection that does not close is cut.
	return point, errors.Join(err, closeConn(conn))
}

func createSlot(ctx context.Context, conn *pgconn.PgConn, cfg Config, snapshot string) (point event.LSN, name string, err error) {
	fail := func(err error) (event.LSN, string, error) {
		return 0, "", fmt.Errorf("create slot %q: %w", cfg.Slot, err)
	}
	major, err := connMajorVersion(conn)
	if err != nil {
		return fail(err)
	}
	row, err := queryRow(ctx, conn, createSlotCommand(cfg, major, snapshot))
	if err != nil {
		return fail(classify(err))
	}
	// slot_name, consistent_point, snapshot_name, output_plugin
	if len(row) < 3 {
		return fail(fmt.Errorf("the server answered %d columns, want 4", len(row)))
	}
	if point, err = event.ParseLSN(string(row[1])); err != nil {
		return fail(fmt.Errorf("consistent point: %w", err))
	}
	return point, string(row[2]), nil
}

// createSlotCommand is CREATE_REPLICATION_SLOT in the words of the server's version; snapshot is nothing or export.
// Source: https://www.postgresql.org/docs/current/protocol-replication.html
func createSlotCommand(cfg Config, major int, snapshot string) string {
	command := "CREATE_REPLICATION_SLOT " + quoteName(cfg.Slot) + " LOGICAL " + plugin
	switch {
	case major >= failoverMajor && cfg.Failover:
		return command + " (SNAPSHOT '" + snapshot + "', FAILOVER true)"
	case major >= 15:
		return command + " (SNAPSHOT '" + snapshot + "')"
	case snapshot == snapshotExport:
		return command + " EXPORT_SNAPSHOT"
	default:
		return command + " NOEXPORT_SNAPSHOT"
	}
}

const (
	snapshotNothing = "nothing"
	snapshotExport  = "export"
)

// DropSlot removes the slot, and with it every position that was confirmed. Without such a slot the error is
// [ErrSlotMissing]; while a session streams from it, [ErrSlotActive] naming the process. The server would drop a slot of
// another database too, which somebody else streams from: that is refused.
func DropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	var database string
	err := conn.QueryRow(ctx, "SELECT database FROM pg_replication_slots WHERE slot_name = $1 AND database <> current_database()", name).Scan(&database)
	if err == nil {
		return fmt.Errorf("drop slot %q: it belongs to database %q: name another slot, or the other database, in the configuration", name, database)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("drop slot %q: read its database: %w", name, err)
	}
	_, err = conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name)
	switch sqlState(err) {
	case codeObjectInUse:
		return fmt.Errorf("drop slot %q: %w: process %d: stop it, or SELECT pg_terminate_backend(%[3]d): %w",
			name, ErrSlotActive, activePID(ctx, conn, name), err)
	case lease.UndefinedObject:
		return fmt.Errorf("drop slot %q: %w", name, ErrSlotMissing)
	case lease.InsufficientPrivilege:
		return fmt.Errorf("drop slot %q: the role may not replicate: ALTER ROLE NAME REPLICATION, or connect as a role that may: %w", name, err)
	}
	if err != nil {
		return fmt.Errorf("drop slot %q: %w", name, err)
	}
	return nil
}

// activePID is the process that holds the slot, 0 when it is gone by now or cannot be read.
func activePID(ctx context.Context, conn *pgx.Conn, name string) int32 {
	slot, err := SlotStatus(ctx, conn, name)
	if err != nil {
		return 0
	}
	return slot.ActivePID
}
