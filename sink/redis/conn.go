package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// connections are those that the client has open. go-redis heeds a context's deadline but not its cancellation, so a
// cancelled call cuts short what the connections are doing. Another call that is under way at that moment gets an unknown fate,
// which costs it a look at the tail; a cancellation comes with the end of a session, where all calls end.
type connections struct {
	dialer net.Dialer
	tls    *tls.Config // nil without TLS

	mu   sync.Mutex
	open map[*conn]struct{}
}

// dial connects and registers the connection.
func (c *connections) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := c.dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	tracked := &conn{Conn: raw, all: c}
	c.mu.Lock()
	c.open[tracked] = struct{}{}
	c.mu.Unlock()
	if c.tls == nil {
		return tracked, nil
	}
	secured, err := secure(ctx, tracked, c.tls, addr)
	if err != nil {
		return nil, errors.Join(err, tracked.Close())
	}
	return &securedConn{Conn: secured, under: tracked}, nil
}

// cutShort makes every read and write that is under way fail at once. An idle connection is not harmed: its
// next call sets a deadline of its own.
func (c *connections) cutShort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for open := range c.open {
		_ = open.SetDeadline(time.Unix(1, 0)) // fails only where the connection is closed already
	}
}

// retire keeps what is open now from being used again. A call that is under way is not harmed.
func (c *connections) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for open := range c.open {
		open.retired.Store(true)
	}
}

// watch cuts the connections short when ctx is cancelled, until stop is called. A call that takes its connection just then
// sets its own deadline over ours, so the cut is repeated.
func (c *connections) watch(ctx context.Context) (stop func()) {
	var over atomic.Bool
	release := context.AfterFunc(ctx, func() {
		if !errors.Is(ctx.Err(), context.Canceled) {
			return
		}
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for !over.Load() {
			c.cutShort()
			<-again.C
		}
	})
	return func() {
		over.Store(true)
		release()
	}
}

// conn is a registered connection.
type conn struct {
	net.Conn
	all     *connections
	retired atomic.Bool
}

func (c *conn) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// SyscallConn lets the pool see that the server has closed an idle connection, or that it is retired.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if c.retired.Load() {
		return nil, net.ErrClosed
	}
	s, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return s.SyscallConn()
}

// securedConn is a connection by TLS.
type securedConn struct {
	net.Conn
	under *conn
}

// SyscallConn lets the pool see that the connection is retired. What stands in the socket may be a record of TLS, which says nothing.
func (c *securedConn) SyscallConn() (syscall.RawConn, error) {
	if c.under.retired.Load() {
		return nil, net.ErrClosed
	}
	return unread{}, nil
}

// unread finds nothing in a socket.
type unread struct{ syscall.RawConn }

func (unread) Read(func(fd uintptr) (done bool)) error { return nil }
