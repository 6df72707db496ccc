package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
)

// ErrUnavailable is in the errors that say that this machine cannot run a server, and why.
var ErrUnavailable = errors.New("not available on this machine")

// shared holds the servers that the tests of this process share. It is this package's only state.
var shared struct {
	postgres once[*PostgresServer]
	redis    once[*RedisServer]
	pulsar   once[*PulsarServer]
}

// instance is a server of any kind.
type instance interface {
	Close(context.Context) error
	logTail() string
	revive(context.Context) (ended string, err error)
}

// once starts a server at its first use and remembers what came of it.
type once[S instance] struct {
	mutex  sync.Mutex // held while the server starts: the other tests wait for it
	done   bool
	server S
	err    error
}

func (o *once[S]) get(t testing.TB, kind string, start func() (S, error)) S {
	t.Helper()
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if !o.done {
		o.server, o.err = start()
		o.done = true
	}
	require(t, kind, o.err)
	ended, err := o.server.revive(context.Background())
	require(t, kind, err)
	if ended != "" {
		t.Logf("%s had ended by itself (%s) and was started again", kind, ended)
	}
	return o.server
}

func (o *once[S]) close(ctx context.Context) error {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if !o.done || o.err != nil {
		return nil
	}
	o.done = false
	return o.server.Close(ctx)
}

// Main is the body of a TestMain: it runs the tests, stops the shared servers and exits. Without it they end with the process.
func Main(m *testing.M) {
	code := m.Run()
	ctx := context.Background()
	if err := errors.Join(shared.postgres.close(ctx), shared.redis.close(ctx), shared.pulsar.close(ctx)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// require ends the test where the server could not be started: skipped by name where the machine cannot run it, unless CI is set.
func require(t testing.TB, kind string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrUnavailable) && os.Getenv("CI") == "":
		t.Skipf("%s is skipped: %v", t.Name(), err)
	default:
		t.Fatalf("start %s: %v", kind, err)
	}
}

// Lacks ends a test that needs what this machine has not and scripts/setup.sh installs: skipped by name, unless CI is set.
func Lacks(t testing.TB, what string) {
	t.Helper()
	require(t, what, fmt.Errorf("%s: %w: scripts/setup.sh installs it", what, ErrUnavailable))
}

// own starts a server for one test, which closes it at its end.
func own[S instance](t testing.TB, kind string, start func(context.Context) (S, error)) S {
	t.Helper()
	s, err := start(context.Background()) // every start has a limit of its own
	require(t, kind, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of what %s logged:\n%s", kind, s.logTail())
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}
