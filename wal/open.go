package wal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// Open connects to the server and starts to stream the slot at start, or at the slot's confirmed position when that is
// later (0 means there). Transactions that committed before it are not sent. ctx bounds the opening only.
//
// Run [Verify] first: from PostgreSQL 18 on Open succeeds with a publication that does not exist. Errors: [ErrReplaced],
// [ErrSlotActive], [ErrSlotMissing], [ErrSlotLost], [ErrServerStopping], or what connecting failed with.
func Open(ctx context.Context, cfg Config, start event.LSN) (*Stream, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, conn, cfg, start)
	if err != nil {
		// A failed START_REPLICATION is the error to report; the connection is closed in any case.
		return nil, errors.Join(err, closeConn(conn))
	}
	return s, nil
}

func open(ctx context.Context, conn *pgconn.PgConn, cfg Config, start event.LSN) (*Stream, error) {
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("identify system: %w", classify(err))
	}
	if cfg.SystemID != "" && cfg.SystemID != system.SystemID {
		return nil, fmt.Errorf("%w: its system identifier is %s, the checkpoint was written for %s",
			ErrReplaced, system.SystemID, cfg.SystemID)
	}
	history, err := readHistory(ctx, conn, cfg.Timeline, system.Timeline)
	if err != nil {
		return nil, err
	}
	before, err := slotBefore(ctx, conn, cfg.Slot)
	if err != nil {
		return nil, err
	}
	start = max(start, before.confirmed)
	if err := startReplication(ctx, conn, cfg, start); err != nil {
		return nil, fmt.Errorf("start replication on slot %q at %s: %w", cfg.Slot, start, startError(ctx, conn, cfg.Slot, err))
	}
	// What bounded the opening does not bound the stream.
	if err := conn.Conn().SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("start replication on slot %q: %w", cfg.Slot, err)
	}
	s := &Stream{
		SystemID: system.SystemID, History: history, Start: start, SlotConfirmed: before.confirmed,
		conn: conn, net: conn.Conn(), frontend: conn.Frontend(),
		publication:  cfg.Publication,
		confirmed:    start,
		keepalives:   newKeepalives(before.senderTimeout),
		silenceLimit: max(before.senderTimeout, minSilence),
	}
	if s.socket, err = socketOf(s.net); err != nil {
		return nil, fmt.Errorf("start replication on slot %q: %w", cfg.Slot, err)
	}
	return s, nil
}

// socketOf returns the socket of a connection, also of one inside TLS.
func socketOf(conn net.Conn) (syscall.RawConn, error) {
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secured.NetConn()
	}
	if s, ok := conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, nil
}

// slotFacts is what Open needs to know of the slot and the server before it streams.
type slotFacts struct {
	confirmed     event.LSN
	senderTimeout time.Duration // PostgreSQL's default where it is switched off
}

// slotBefore reads the slot's confirmed position: PostgreSQL 12 lets a lower one in a status move it back, so the first status
// must not be below it.
func slotBefore(ctx context.Context, conn *pgconn.PgConn, slot string) (slotFacts, error) {
	row, err := queryRow(ctx, conn, `SELECT coalesce(s.confirmed_flush_lsn, '0/0')::text, t.setting
		FROM pg_replication_slots s, pg_settings t
		WHERE t.name = 'wal_sender_timeout' AND s.slot_name = `+quoteLiteral(slot))
	if err != nil {
		return slotFacts{}, fmt.Errorf("read slot %q: %w", slot, classify(err))
	}
	if len(row) != 2 {
		return slotFacts{}, fmt.Errorf("read slot %q: %w", slot, ErrSlotMissing)
	}
	confirmed, err := event.ParseLSN(string(row[0]))
	if err != nil {
		return slotFacts{}, fmt.Errorf("read slot %q: confirmed_flush_lsn: %w", slot, err)
	}
	milliseconds, err := strconv.Atoi(string(row[1]))
	if err != nil {
		return slotFacts{}, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	if milliseconds == 0 {
		return slotFacts{confirmed, defaultSenderTimeout}, nil
	}
	return slotFacts{confirmed, time.Duration(milliseconds) * time.Millisecond}, nil
}

// startCommand asks for protocol version 1, which every supported server speaks and which sends a transaction only after its
// commit. publication_names is a list of identifiers inside a literal, so the name is quoted twice.
func startCommand(cfg Config, start event.LSN) string {
	return "START_REPLICATION SLOT " + quoteName(cfg.Slot) + " LOGICAL " + start.String() +
		" (proto_version '1', publication_names " + quoteLiteral(quoteName(cfg.Publication)) + ")"
}

// startReplication sends the command and waits until the server switches to streaming.
func startReplication(ctx context.Context, conn *pgconn.PgConn, cfg Config, start event.LSN) error {
	frontend := conn.Frontend()
	frontend.SendQuery(&pgproto3.Query{String: startCommand(cfg, start)})
	if err := frontend.Flush(); err != nil {
		return fmt.Errorf("send command: %w", err)
	}
	var failure error
	for {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return errors.Join(failure, err)
		}
		switch m := message.(type) {
		case *pgproto3.CopyBothResponse:
			return nil
		case *pgproto3.ErrorResponse:
			failure = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			return failure
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return fmt.Errorf("unexpected answer %T", m)
		}
	}
}

// startError finds out what a refused START_REPLICATION means. The texts of an invalidated slot vary by version, and its
// SQLSTATE 55000 has other meanings too, so the slot itself is asked.
func startError(ctx context.Context, conn *pgconn.PgConn, slot string, err error) error {
	switch sqlState(err) {
	case lease.UndefinedObject:
		return fmt.Errorf("%w: %w", ErrSlotMissing, err)
	case codeNotInState:
		lost, queryErr := slotLost(ctx, conn, slot)
		if queryErr != nil {
			return errors.Join(err, queryErr)
		}
		if lost {
			return fmt.Errorf("%w: %w", ErrSlotLost, err)
		}
	}
	return classify(err)
}

func slotLost(ctx context.Context, conn *pgconn.PgConn, slot string) (bool, error) {
	major, err := connMajorVersion(conn)
	if err != nil || major < 13 { // before 13 nothing invalidates a slot
		return false, err
	}
	row, err := queryRow(ctx, conn, "SELECT coalesce(wal_status, '') FROM pg_replication_slots WHERE slot_name = "+quoteLiteral(slot))
	if err != nil {
		return false, fmt.Errorf("read slot %q: %w", slot, err)
	}
	return len(row) == 1 && string(row[0]) == "lost", nil
}

// isTimeout tells whether a read ended because its deadline passed; pgproto3 keeps what it had read of a message.
func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}
