package main

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
)

// supervisor is the socket of a systemd.
type supervisor struct {
	t    *testing.T
	conn *net.UnixConn
	told []string
}

func newSupervisor(t *testing.T) (s *supervisor, variable string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &supervisor{t: t, conn: conn}, "NOTIFY_SOCKET=" + path
}

// waitFor reads until it is told the state.
func (s *supervisor) waitFor(state string) {
	s.t.Helper()
	message := make([]byte, 4096)
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	for {
		n, err := s.conn.Read(message)
		if err != nil {
			s.t.Fatalf("wait for %q: %v; told %q", state, err, s.told)
		}
		s.told = append(s.told, string(message[:n]))
		if s.told[len(s.told)-1] == state {
			return
		}
	}
}

func TestSupervisorIsToldHowItGoes(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).Database(t)
	common := []string{"DATABASE_URL=" + url, "OUTBOXD_DATABASE_SLOT=notify", "OUTBOXD_HTTP_ADDR=127.0.0.1:0"}
	if code := start(t, common, "migrate", "up").code(t); code != exitFine {
		t.Fatalf("migrate up exits %d", code)
	}
	streams, socket := newSupervisor(t)
	active := start(t, append(slices.Clone(common), socket, "WATCHDOG_USEC=5000000"), "run", "--set", "sinks.stdout={}")
	streams.waitFor("READY=1")
	if told := streams.told; !slices.Contains(told, "STATUS=active") || !strings.HasPrefix(told[0], "STATUS=connecting") {
		t.Errorf("the one that streams tells %q before it is ready", told)
	}
	streams.waitFor("WATCHDOG=1")

	waits, socket := newSupervisor(t)
	standby := start(t, append(slices.Clone(common), socket), "run", "--set", "sinks.stdout={}")
	waits.waitFor("READY=1")
	if told := waits.told; !slices.ContainsFunc(told, func(s string) bool { return strings.HasPrefix(s, "STATUS=standby") }) {
		t.Errorf("the standby tells %q before it is ready", told)
	}
	for s, p := range map[*supervisor]*started{waits: standby, streams: active} {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		s.waitFor("STOPPING=1")
		if code := p.code(t); code != exitFine {
			t.Errorf("exits %d: %s", code, p.stderr.String())
		}
	}
}

func TestDatabaseThatIsDownIsNotReady(t *testing.T) {
	t.Parallel()
	told, socket := newSupervisor(t)
	p := start(t, []string{"DATABASE_URL=postgres://127.0.0.1:1/nobody", "OUTBOXD_HTTP_ADDR=127.0.0.1:0", socket, "WATCHDOG_USEC=5000000"}, "run", "--set", "sinks.stdout={}")
	told.waitFor("WATCHDOG=1")
	told.waitFor("WATCHDOG=1")
	if slices.Contains(told.told, "READY=1") {
		t.Errorf("told %q", told.told)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told.waitFor("STOPPING=1")
	p.code(t)
}
