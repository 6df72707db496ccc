package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// goneTimeout bounds the question whether a server is gone. One that is refuses at once.
const goneTimeout = 500 * time.Millisecond

// gone returns why a connection that failed under a call cannot be made again: a new one is refused, turned away, or closed without an answer. What
// does not answer in time says nothing of the kind: it may be one slow call.
func (s *Sink) gone(ctx context.Context, err error) error {
	if err == nil || s.client.cluster != nil || !isNetwork(err) || ctx.Err() != nil {
		return nil
	}
	if _, ok := errors.AsType[*connectError](err); ok {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	o := s.client.single.Options() // its dialer asks the sentinels, where there are some
	conn, err := o.Dialer(ctx, o.Network, o.Addr)
	if err == nil {
		err = ping(ctx, conn)
		_ = conn.Close() // nothing but a question was sent
	}
	if err != nil && (ctx.Err() != nil || isTimeout(err)) {
		return nil
	}
	return err
}

// blameBroker says that it is the whole broker, and what it said where it has turned us away: go-redis takes that for the answer to HELLO, and goes on.
func (s *Sink) blameBroker(failed *sink.Error, why error) {
	failed.Broker = true
	if reply, is := replyOf(why); is {
		failed.Err, failed.Mend = fmt.Errorf("%w: %w", failed.Err, why), s.classifyReply(reply).mend
	}
}

// turningAway are the answers of a server that closes the connection at once.
var turningAway = []string{"ERR max number of clients", "DENIED "}

// ping returns nil when the connection brings any answer but those, so that a server that asks for a password lives.
func ping(ctx context.Context, conn net.Conn) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 256)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	said, _, _ := strings.Cut(string(answer[:n]), "\r\n")
	said, _, _ = strings.Cut(said, ". ") // the rest is a page of advice
	for _, begin := range turningAway {
		if text, isError := strings.CutPrefix(said, "-"); isError && strings.HasPrefix(text, begin) {
			return serverError(text)
		}
	}
	return nil
}

func isTimeout(err error) bool {
	network, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && network.Timeout()
}
