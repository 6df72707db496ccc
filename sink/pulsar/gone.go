package pulsar

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/outboxd/outboxd/sink"
)

// goneTimeout bounds the question whether the brokers are gone. One that is refuses at once.
const goneTimeout = 500 * time.Millisecond

// isGone tells whether every host of the service URL refuses a connection, or has no address. One that does not answer in time says
// nothing of the kind.
func (s *Sink) isGone(ctx context.Context) bool {
	hosts, err := s.serviceHosts()
	if err != nil || ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	for _, host := range hosts {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", host)
		if err == nil {
			_ = conn.Close() // nothing was sent
			return false
		}
		name, ok := errors.AsType[*net.DNSError](err)
		if !errors.Is(err, syscall.ECONNREFUSED) && (!ok || !name.IsNotFound) {
			return false
		}
	}
	return true
}

// lostTouch tells whether a call failed because its connection did, which happens to one topic that moves as well as to a broker that dies.
func lostTouch(err error) bool {
	return noAnswer(err) || errors.Is(err, errLost) || errors.Is(err, errStalled) || strings.Contains(err.Error(), "connection closed")
}

// blameBroker says that it is the whole broker, where a call's connection failed and nobody listens any more.
func (s *Sink) blameBroker(ctx context.Context, failed ...*sink.Error) {
	asked, gone := false, false
	for _, f := range failed {
		if f == nil || !lostTouch(f) {
			continue
		}
		if !asked {
			asked, gone = true, s.isGone(ctx)
		}
		if gone {
			f.Class, f.Broker = sink.Unavailable, true
		}
	}
}
