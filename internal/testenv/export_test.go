package testenv

import "testing"

// PID returns the id of the server's process.
func (s *server) PID() int { return s.process.pid }

// NeedPulsar sees that a broker can be started without a download.
func NeedPulsar(t testing.TB) {
	t.Helper()
	_, _, err := findPulsar(t.Context(), nil)
	require(t, "Pulsar", err)
}
