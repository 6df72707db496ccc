package relay_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// gateway is an address behind which one server or another may be, as in a failover.
type gateway struct {
	listener net.Listener
	to       func(n int) string // the URL of the server to which the n-th connection leads, from 1 on; "": that one is refused, as there are too many

	mu    sync.Mutex
	conns []net.Conn
	done  sync.WaitGroup
}

// newGateway returns a gateway, and the URL with its address in the place of the server's.
func newGateway(t *testing.T, at string, to func(n int) string) (*gateway, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{listener: listener, to: to}
	g.done.Go(g.accept)
	t.Cleanup(g.close)
	through, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	through.Host = listener.Addr().String()
	return g, through.String()
}

func (g *gateway) accept() {
	for n := 1; ; n++ {
		client, err := g.listener.Accept()
		if err != nil {
			return
		}
		if to := g.to(n); to != "" {
			g.lead(client, to)
			continue
		}
		refuse(client)
	}
}

// lead passes on what the two sides say until one of them ends.
func (g *gateway) lead(client net.Conn, to string) {
	at, err := url.Parse(to)
	if err != nil {
		panic(err)
	}
	server, err := net.Dial("tcp", at.Host)
	if err != nil {
		hangUp(client)
		return
	}
	g.mu.Lock()
	g.conns = append(g.conns, client, server)
	g.mu.Unlock()
	for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
		g.done.Go(func() {
			defer hangUp(to)
			_, _ = io.Copy(to, from) // a cut connection is an end like any other
		})
	}
}

// hangUp closes a connection that may be closed or broken already.
func hangUp(conn io.Closer) { _ = conn.Close() }

// refuse answers as a server without a free connection does.
func refuse(client net.Conn) {
	defer hangUp(client)
	backend := pgproto3.NewBackend(client, client)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "53300", Message: "sorry, too many clients already"})
	_ = backend.Flush() // the client may be gone
}

func (g *gateway) close() {
	hangUp(g.listener)
	g.mu.Lock()
	for _, conn := range g.conns {
		hangUp(conn)
	}
	g.mu.Unlock()
	g.done.Wait()
}
