package wal_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a stream and the server and passes the server's bytes on in pieces, as a slow network does.
type proxy struct {
	listener net.Listener
	server   string

	mu      sync.Mutex
	changed *sync.Cond
	allowed int // bytes that may pass to the client; negative: any number
	passed  int
	conns   []net.Conn
	done    sync.WaitGroup
}

// viaProxy routes the replication connection of f through a proxy.
func viaProxy(t testing.TB, f *fixture) *proxy {
	t.Helper()
	to, err := url.Parse(f.cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, server: to.Host, allowed: -1}
	p.changed = sync.NewCond(&p.mu)
	to.Host = listener.Addr().String()
	f.cfg.URL = to.String()
	p.done.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			hangUp(client)
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.done.Go(func() { p.forward(server, client) })
		p.done.Go(func() { p.pass(client, server) })
	}
}

// hangUp closes a connection that may be closed or broken already.
func hangUp(conn io.Closer) { _ = conn.Close() }

// forward copies to the server until either side ends.
func (p *proxy) forward(server io.WriteCloser, client io.Reader) {
	defer hangUp(server)
	_, _ = io.Copy(server, client) // a cut connection is what some tests are about
}

// pass copies from the server as far as it is allowed to.
func (p *proxy) pass(client io.WriteCloser, server io.Reader) {
	defer hangUp(client)
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		for rest := buffer[:n]; len(rest) > 0; {
			now := p.await(len(rest))
			if _, err := client.Write(rest[:now]); err != nil {
				return
			}
			rest = rest[now:]
		}
	}
}

// await waits until some of n bytes may pass, and returns how many.
func (p *proxy) await(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.allowed >= 0 && p.passed >= p.allowed {
		p.changed.Wait()
	}
	if p.allowed >= 0 {
		n = min(n, p.allowed-p.passed)
	}
	p.passed += n
	return n
}

// allow lets n more bytes pass, from now on only as many as were allowed.
func (p *proxy) allow(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = p.passed + n
	p.changed.Broadcast()
}

func (p *proxy) close() {
	hangUp(p.listener)
	p.mu.Lock()
	for _, conn := range p.conns {
		hangUp(conn)
	}
	p.allowed = -1
	p.changed.Broadcast()
	p.mu.Unlock()
	p.done.Wait()
}
