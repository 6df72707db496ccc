package redis

import (
	"bytes"
	"context"
	"errors"
	"net"
	"time"
)

// goneTimeout bounds the question whether a server is gone. One that is refuses at once.
const goneTimeout = 500 * time.Millisecond

// isGone tells whether a connection failed under a call because the server is gone: a new one is refused, or closed without an answer. What
// does not answer in time says nothing of the kind: it may be one slow call.
func (s *Sink) isGone(ctx context.Context, err error) bool {
	if err == nil || s.client.cluster != nil || !isNetwork(err) || ctx.Err() != nil {
		return false
	}
	if _, ok := errors.AsType[*connectError](err); ok {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	o := s.client.single.Options() // its dialer asks the sentinels, where there are some
	conn, err := o.Dialer(ctx, o.Network, o.Addr)
	if err == nil {
		err = ping(ctx, conn)
		_ = conn.Close() // nothing but a question was sent
	}
	return err != nil && ctx.Err() == nil && !isTimeout(err)
}

// errTurnedAway is the answer of a server that closes the connection at once.
var errTurnedAway = errors.New("max number of clients reached")

// ping returns nil when the connection brings any answer, so that a server that asks for a password lives.
func ping(ctx context.Context, conn net.Conn) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	if err == nil && bytes.HasPrefix(answer[:n], []byte("-ERR max number of clients")) {
		err = errTurnedAway
	}
	return err
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}
