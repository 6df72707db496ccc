package wal

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// What opens the stream may come together with a part of the first message, and the rest never.
func TestFirstMessageThatStopsHalfWayIsWaitedForUntilTheDeadline(t *testing.T) {
	ours, servers := net.Pipe()
	s := &Stream{net: ours, frontend: pgproto3.NewFrontend(ours, ours)}
	opening, err := (&pgproto3.CopyBothResponse{}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		_, err := servers.Write(append(opening, 'd', 0, 0))
		written <- err
	}()
	if _, err := s.frontend.Receive(); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	hangs := time.AfterFunc(10*time.Second, func() { _ = servers.Close() })
	defer hangs.Stop()
	m, err := s.Receive(time.Now().Add(time.Millisecond))
	if err != nil || m.Kind != Tick {
		t.Fatalf("Receive returned %v, %v; want a Tick at its deadline", m.Kind, err)
	}
	if err := errors.Join(ours.Close(), servers.Close()); err != nil {
		t.Fatal(err)
	}
}
