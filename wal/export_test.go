package wal

import (
	"cmp"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/event"
)

// SetSilenceLimit shortens how long a server may owe a sign of life.
func (s *Stream) SetSilenceLimit(d time.Duration) { s.silenceLimit = d }

// Confirmed returns the highest position that was sent to the server, at first [Stream.Start].
func (s *Stream) Confirmed() event.LSN { return s.confirmed }

// ReplicationConfig is how a replication connection is made.
func (c Config) ReplicationConfig() (*pgconn.Config, error) { return c.replicationConfig() }

// LowWater asks the kernel for how many bytes wake a Receive.
func (s *Stream) LowWater(t *testing.T) (n int) {
	t.Helper()
	var getErr error
	err := s.socket.Control(func(fd uintptr) {
		n, getErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT)
	})
	if err := cmp.Or(err, getErr); err != nil {
		t.Fatal(err)
	}
	return n
}
