package testenv

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newScript makes a server that is a shell script in its folder; it is ready when the file "ready" is there.
func newScript(t *testing.T, script string) *server {
	t.Helper()
	f, err := newFolder("script", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{name: "script", owner: t, folder: f, limit: 10 * time.Second, stop: syscall.SIGTERM, discard: syscall.SIGKILL}
	s.command = func() command {
		return command{path: "/bin/sh", args: []string{"-c", script}, dir: f.path, log: f.file(logName)}
	}
	s.ready = func(context.Context) error {
		_, err := os.Stat(f.file("ready"))
		return err
	}
	s.stuck = func(log []byte) bool { return bytes.Contains(log, []byte("stuck")) }
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestAStuckServerIsStartedOnceMore(t *testing.T) {
	s := newScript(t, `if [ -e second ]; then touch ready; else touch second; echo stuck; fi; exec sleep 1000`)
	s.Start()
	if !s.Running() {
		t.Error("it does not run")
	}
}

func TestAServerThatDoesNotStartShowsItsLog(t *testing.T) {
	for name, c := range map[string]struct {
		script, want string
		limit        time.Duration
	}{
		"it ends":             {"echo reason; exit 3", "exit status 3", time.Minute},
		"it never gets ready": {"echo reason; exec sleep 1000", "not ready in time", 2 * time.Second}, // enough for its first word
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, c.script)
			ctx, cancel := context.WithTimeout(t.Context(), c.limit)
			defer cancel()
			err := s.start(ctx)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "reason") {
				t.Errorf("want %q and the log, got: %v", c.want, err)
			}
			if s.Running() {
				t.Error("it still runs")
			}
		})
	}
}

func TestAServerThatIsStuckIsLaunchedAgain(t *testing.T) {
	s := newScript(t, `[ -e once ] && touch ready; touch once; exec sleep 1000`)
	s.patient = time.Second
	s.Start()
	if !s.Running() {
		t.Error("it does not run")
	}
}

func TestAServerThatIgnoresTheSignalIsKilled(t *testing.T) {
	s := newScript(t, `trap '' TERM; touch ready; while :; do sleep 0.1; done`)
	s.Start()
	if err := s.end(syscall.SIGTERM, 200*time.Millisecond); err == nil || !strings.Contains(err.Error(), "still running") {
		t.Errorf("want an error that says so, got %v", err)
	}
	if s.Running() {
		t.Error("it still runs")
	}
}

func TestAPortTakenByAnotherIsTriedAgain(t *testing.T) {
	tries := 0
	_, err := attempts(t.Context(), func(ctx context.Context) (*RedisServer, error) {
		s := newScript(t, `echo "bind: Address already in use"; exit 1`)
		tries++
		return nil, s.start(ctx)
	})
	if tries != 3 || err == nil {
		t.Errorf("%d tries ended with %v, want 3 and an error", tries, err)
	}
}
