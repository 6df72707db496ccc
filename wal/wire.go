package wal

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
)

// The messages of the streaming protocol, each inside a CopyData.
// Source: https://www.postgresql.org/docs/current/protocol-replication.html
const (
	dataHeaderLen = 1 + 8 + 8 + 8 // 'w', start, end, clock
	keepaliveLen  = 1 + 8 + 8 + 1 // 'k', end, clock, reply requested
	statusBodyLen = 1 + 4*8 + 1   // 'r', written, flushed, applied, clock, reply requested
	statusLen     = 1 + 4 + statusBodyLen
	copyDataTag   = 'd'
)

// copyData reads what the server put into a CopyData.
func (s *Stream) copyData(body []byte) (Message, error) {
	if len(body) == 0 {
		return Message{}, fmt.Errorf("receive from the log: empty copy data")
	}
	switch body[0] {
	case pglogrepl.XLogDataByteID:
		if len(body) <= dataHeaderLen {
			return Message{}, fmt.Errorf("receive from the log: data message of %d bytes, want more than %d", len(body), dataHeaderLen)
		}
		return Message{Kind: Data, Data: body[dataHeaderLen:], ServerTime: serverTime(body[17:])}, nil
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		return s.keepalive(body)
	default:
		return Message{}, fmt.Errorf("receive from the log: unknown message %q of %d bytes", body[0], len(body))
	}
}

func (s *Stream) keepalive(body []byte) (Message, error) {
	if len(body) != keepaliveLen {
		return Message{}, fmt.Errorf("receive from the log: keepalive of %d bytes, want %d", len(body), keepaliveLen)
	}
	m := Message{
		Kind: Keepalive, WALEnd: event.LSN(binary.BigEndian.Uint64(body[1:])), ServerTime: serverTime(body[9:]),
		ReplyRequested: body[17] != 0,
	}
	if !m.ReplyRequested {
		return m, nil
	}
	var stopping bool
	m.ReplyRequested, stopping = s.keepalives.asked(m.WALEnd, s.confirmed, time.Now())
	if stopping {
		return Message{}, fmt.Errorf("receive from the log: %w: it waits until %s is confirmed, confirmed is %s",
			ErrServerStopping, m.WALEnd, s.confirmed)
	}
	return m, nil
}

func serverTime(b []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + event.PostgresEpochMicros).UTC()
}

// encodeStatus writes a StandbyStatusUpdate with all three positions the same: a flushed position of 0 would be left for the
// server, or for a library, to fill in.
func (s *Stream) encodeStatus(now time.Time) {
	b := &s.status
	b[0] = copyDataTag
	binary.BigEndian.PutUint32(b[1:], 4+statusBodyLen) // the length counts itself
	b[5] = pglogrepl.StandbyStatusUpdateByteID
	binary.BigEndian.PutUint64(b[6:], uint64(s.confirmed))  // written
	binary.BigEndian.PutUint64(b[14:], uint64(s.confirmed)) // flushed
	binary.BigEndian.PutUint64(b[22:], uint64(s.confirmed)) // applied
	binary.BigEndian.PutUint64(b[30:], uint64(now.UnixMicro()-event.PostgresEpochMicros))
	b[38] = 0
	if s.starved {
		b[38] = 1 // nothing came for a while: the server shall send a keepalive
	}
}

// control handles what is neither data nor keepalive. Nil means that the stream goes on.
func (s *Stream) control(message pgproto3.BackendMessage) error {
	switch m := message.(type) {
	case *pgproto3.NoticeResponse:
		return s.notice(pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(m)))
	case *pgproto3.ParameterStatus:
		if err := checkParameter(m.Name, m.Value); err != nil {
			return fmt.Errorf("receive from the log: %w", err)
		}
		return nil
	case *pgproto3.ErrorResponse:
		err := pgconn.ErrorResponseToPgError(m)
		if err.Code == lease.UndefinedObject && strings.Contains(err.Message, s.publication) {
			return fmt.Errorf("receive from the log: %w: %w", ErrPublicationMissing, err)
		}
		return fmt.Errorf("receive from the log: %w", classify(err))
	case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
		return fmt.Errorf("receive from the log: %w: it ended the stream", ErrServerStopping)
	default:
		return fmt.Errorf("receive from the log: unexpected message %T", m)
	}
}

// notice ignores a notice, unless it is the warning with which PostgreSQL 18 leaves out the rows of a publication that does not
// exist. Its text is translated, its SQLSTATE is not. From 17 on what waits for the slots of standbys (synchronized_standby_slots) warns with it, too, from another
// file of the server's source.
func (s *Stream) notice(n *pgconn.PgError) error {
	if (n.Code == codeNotInState || n.Code == lease.UndefinedObject) && n.File != "slot.c" {
		return fmt.Errorf("receive from the log: %w: %w", ErrPublicationMissing, n)
	}
	return nil
}
