package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/outboxd/outboxd/event"
)

// Kind says what a [Message] is.
type Kind uint8

// Kinds of messages. The zero Kind is none of them.
const (
	Data      Kind = iota + 1 // one pgoutput message
	Keepalive                 // the server's end of the log
	Tick                      // nothing arrived in time
)

// Message is what [Stream.Receive] returns.
type Message struct {
	Kind Kind

	// Data is one pgoutput message, only for Kind Data. It is valid until the next Receive. The log positions of its
	// envelope are left out, because none of them may be confirmed.
	Data []byte

	// WALEnd is where the server has come in the log, only for Kind Keepalive. It may be confirmed once every
	// transaction that was received before it is finished, even while transactions are open on the server.
	WALEnd event.LSN

	// ReplyRequested asks for a Confirm now, only for Kind Keepalive.
	ReplyRequested bool

	// ServerTime is the server's clock when it sent the message, in UTC; zero for a Tick.
	ServerTime time.Time
}

const (
	// writeTimeout bounds a status update. A server that takes no 39 bytes for so long is gone.
	writeTimeout = 10 * time.Second

	// minSilence is the least silence after a question that ends a session, however short wal_sender_timeout is.
	minSilence = 10 * time.Second
)

// Stream is an open replication session. One goroutine at a time owns it: none of
// the methods may run at the same time as another, and there is no lock. After an error only Close may be called.
type Stream struct {
	SystemID      string    // of the server, decimal
	History                 // of the server
	Start         event.LSN // where the stream begins
	SlotConfirmed event.LSN // what the slot had confirmed when the session began

	conn     *pgconn.PgConn
	net      net.Conn
	socket   syscall.RawConn // nil where net is no socket
	gathers  int             // bytes, as Gather says
	frontend *pgproto3.Frontend

	publication string

	confirmed event.LSN // the highest position that was sent; never goes back
	status    [statusLen]byte

	deadline   time.Time // the read deadline that is set on net
	starved    bool      // the last Receive ended in a Tick
	keepalives keepalives

	// Liveness: a server that has nothing to say is asked for a keepalive, and blocked counts only the time
	// that Receive really waited since. A caller that does not receive sees no silence.
	pinged       bool
	waitFrom     time.Time // when the running Receive began, set while pinged
	blocked      time.Duration
	silenceLimit time.Duration
}

// Buffered returns how many bytes were received from the server and not returned yet. 0 means that the next Receive may block;
// more means that there is at least a part of the next message.
func (s *Stream) Buffered() int {
	if s.starved {
		return 0 // the part of a message that the last Receive waited for in vain
	}
	return s.frontend.ReadBufferLen()
}

// Gather lets the kernel collect n bytes before it wakes a Receive that waits, which then returns a Tick at its until although less may have arrived: the
// next one takes that without waiting. 1 wakes it for every byte, as at first. A server sends each message of a backlog by itself, and to wake
// for each costs more than to decode it. A Unix socket wakes for every byte all the same.
// Source: SO_RCVLOWAT in https://man7.org/linux/man-pages/man7/socket.7.html
func (s *Stream) Gather(n int) error {
	if n == s.gathers || s.socket == nil {
		return nil
	}
	var setErr error
	err := s.socket.Control(func(fd uintptr) {
		setErr = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n)
	})
	if err := cmp.Or(err, setErr); err != nil {
		return fmt.Errorf("receive from the log: let the kernel gather: %w", err)
	}
	s.gathers = n
	return nil
}

// Receive returns the next message, or a Tick when none was complete by until. A message that arrives in parts, over however many
// ticks, is returned whole. A passed or zero until reads nothing from the network and returns what is buffered.
// Receive knows no context: the caller polls its own between two calls, each bounded by until.
//
// Any error ends the session: [ErrServerStopping], [ErrServerSilent], [ErrPublicationMissing], the server's own
// error, or what the connection failed with.
func (s *Stream) Receive(until time.Time) (Message, error) {
	until = s.bound(until)
	if err := s.arm(until); err != nil {
		return Message{}, err
	}
	for {
		message, err := s.frontend.Receive()
		if err != nil {
			if !isTimeout(err) {
				return Message{}, fmt.Errorf("receive from the log: %w", err)
			}
			if m, err := s.timedOut(until); err != nil || m.Kind != 0 {
				return m, err
			}
			continue
		}
		s.starved, s.pinged = false, false
		if data, ok := message.(*pgproto3.CopyData); ok {
			return s.copyData(data.Data)
		}
		if err := s.control(message); err != nil {
			return Message{}, err
		}
	}
}

// bound returns when Receive has to return. An answer to the server that was put off may be due before the caller's until.
func (s *Stream) bound(until time.Time) time.Time {
	if until.IsZero() {
		until = time.Unix(0, 1) // the zero time would switch the deadline off
	}
	if s.keepalives.pending() && s.keepalives.dueAt.Before(until) {
		return s.keepalives.dueAt
	}
	return until
}

// arm sets the read deadline, which costs more than a received message, only where it matters: when the read will surely
// block, or when the deadline that is set is later than until. One that is set too early is put right when it fires.
func (s *Stream) arm(until time.Time) error {
	if s.pinged {
		s.waitFrom = time.Now()
	}
	if until.Equal(s.deadline) || s.frontend.ReadBufferLen() > 0 && !s.deadline.IsZero() && until.After(s.deadline) {
		return nil
	}
	return s.setDeadline(until)
}

func (s *Stream) setDeadline(until time.Time) error {
	if err := s.net.SetReadDeadline(until); err != nil {
		return fmt.Errorf("receive from the log: set deadline: %w", err)
	}
	s.deadline = until
	return nil
}

// timedOut decides what a passed deadline means: a Tick, the question of a stopping server that is due to be answered, or
// (the zero Message) that the deadline was an old one and the read goes on.
func (s *Stream) timedOut(until time.Time) (Message, error) {
	now := time.Now()
	if now.Before(until) {
		return Message{}, s.setDeadline(until)
	}
	s.starved = true
	if s.pinged {
		s.blocked += now.Sub(s.waitFrom)
		if s.blocked > s.silenceLimit {
			return Message{}, fmt.Errorf("receive from the log: %w: no answer for %s", ErrServerSilent, s.blocked.Round(time.Millisecond))
		}
	}
	if k := &s.keepalives; k.pending() && !now.Before(k.dueAt) {
		k.dueAt = time.Time{}
		return Message{Kind: Keepalive, WALEnd: k.walEnd, ReplyRequested: true}, nil
	}
	return Message{Kind: Tick}, nil
}

// Confirm tells the server that everything up to lsn is safe and keeps the connection alive. It has to be called at least every
// Config.StatusInterval, and when a Keepalive asks for it; repeating a position is fine. Confirm exactly the end of the
// last finished transaction (the EndLSN of pgoutput's Commit) or the WALEnd of a Keepalive, of a prefix without a gap. A position
// below an earlier one is raised to it. Confirm blocks for writeTimeout at most; an error ends the session.
func (s *Stream) Confirm(lsn event.LSN) error {
	s.confirmed = max(s.confirmed, lsn)
	now := time.Now()
	if s.starved && !s.pinged {
		s.pinged, s.blocked = true, 0
	}
	s.encodeStatus(now)
	if err := s.net.SetWriteDeadline(now.Add(writeTimeout)); err != nil {
		return fmt.Errorf("confirm %s: set deadline: %w", s.confirmed, err)
	}
	if err := s.frontend.SendUnbufferedEncodedCopyData(s.status[:]); err != nil {
		return fmt.Errorf("confirm %s: %w", s.confirmed, err)
	}
	s.keepalives.replied(now)
	return nil
}

// Close ends the session: it asks the server to end the stream, waits for that until ctx ends and no longer than two
// seconds (a server in the middle of a large transaction finishes it first), and closes the connection in any case. When
// it returns nil the slot is free again; otherwise the server frees it when it notices. It sends no confirmation.
// Closing again does nothing.
func (s *Stream) Close(ctx context.Context) error {
	if s.conn.IsClosed() {
		return nil
	}
	deadlineErr := s.net.SetDeadline(time.Now().Add(closeTimeout))
	stop := context.AfterFunc(ctx, func() {
		// It fails only on a closed connection, which is what is wanted.
		_ = s.net.SetDeadline(time.Unix(0, 1))
	})
	defer stop()
	endErr := deadlineErr
	if endErr == nil {
		endErr = s.end()
	}
	return errors.Join(endErr, closeConn(s.conn))
}

// end sends CopyDone and drops what arrives until the server is ready for another command.
func (s *Stream) end() error {
	if err := s.Gather(1); err != nil {
		return err
	}
	s.frontend.Send(&pgproto3.CopyDone{})
	if err := s.frontend.Flush(); err != nil {
		return fmt.Errorf("end stream: %w", err)
	}
	for {
		message, err := s.frontend.Receive()
		if err != nil {
			return fmt.Errorf("end stream: %w", err)
		}
		switch m := message.(type) {
		case *pgproto3.ReadyForQuery:
			return nil
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("end stream: %w", classify(pgconn.ErrorResponseToPgError(m)))
		}
	}
}
