package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const patience = 90 * time.Second

// started is a running program.
type started struct {
	*exec.Cmd
	stderr bytes.Buffer
	done   chan error
}

// start runs the program with an environment that holds nothing but the variables.
func start(t *testing.T, variables []string, args ...string) *started {
	t.Helper()
	s := &started{Cmd: exec.Command(program(t), args...), done: make(chan error, 1)}
	s.Env, s.Stderr = variables, &s.stderr
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.Wait() }()
	t.Cleanup(func() { _ = s.Process.Kill() })
	return s
}

// code waits for the end and returns the exit code.
func (s *started) code(t *testing.T) int {
	t.Helper()
	select {
	case err := <-s.done:
		exit, ok := errors.AsType[*exec.ExitError](err)
		if err != nil && !ok {
			t.Fatal(err)
		}
		if !ok {
			return 0
		}
		return exit.ExitCode()
	case <-time.After(patience):
		t.Fatalf("still running; its errors: %s", s.stderr.String())
		return 0
	}
}

// A server that accepts and says nothing holds the command until the signal comes.
func TestFirstSignalCancelsTheCommand(t *testing.T) {
	for signal, want := range map[syscall.Signal]struct {
		code int
		text string
	}{
		syscall.SIGINT:  {exitInterrupted, "outboxd: stopped by signal: interrupt\n"},
		syscall.SIGTERM: {exitFailure, "outboxd: stopped by signal: terminated\n"},
	} {
		t.Run(signal.String(), func(t *testing.T) {
			silent, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			s := start(t, []string{"DATABASE_URL=postgres://u:p@" + silent.Addr().String() + "/d?sslmode=disable"}, "migrate", "status")
			conn, err := silent.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := s.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if got := s.code(t); got != want.code || s.stderr.String() != want.text {
				t.Errorf("exit code %d, %q, want %d, %q", got, s.stderr.String(), want.code, want.text)
			}
		})
	}
}

// startStuck runs a command that reads a pipe which nobody writes to: a cancelled context does not end it.
func startStuck(t *testing.T) *started {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, nil, "config", "--config", pipe)
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // returns when the program reads
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return s
}

// timeout(1) signals its command and at once the command's group: that is one request to stop. A process that gets no turn for long between two of them
// takes the later one for another request, so it has several tries.
func TestEchoOfTheFirstSignalEndsNothing(t *testing.T) {
	const tries = 5
	for deadline, ended := time.Now().Add(patience), 0; ; {
		s := startStuck(t)
		if !signalThrice(t, s) {
			if time.Now().After(deadline) {
				t.Fatalf("this machine is too busy to send three signals within %s", signalEcho)
			}
			continue
		}
		select {
		case err := <-s.done:
			s.done <- err
			if ended++; ended == tries {
				t.Fatalf("ended each of %d times, with exit code %d", tries, s.code(t))
			}
		case <-time.After(2 * signalEcho):
			return
		}
	}
}

// signalThrice sends three signals, and tells whether it took no longer than an echo does.
func signalThrice(t *testing.T, s *started) bool {
	t.Helper()
	began := time.Now()
	for range 3 {
		if err := s.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // signals that come too fast become one
	}
	return time.Since(began) < signalEcho
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	s := startStuck(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range int(patience / (10 * time.Millisecond)) {
		select {
		case err := <-s.done:
			s.done <- err
			if got := s.code(t); got != exitInterrupted || s.stderr.Len() > 0 {
				t.Errorf("exit code %d, %q, want %d and no words", got, s.stderr.String(), exitInterrupted)
			}
			return
		case <-tick.C: // signals that come too fast become one
			if err := s.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
	}
	t.Fatal("still running")
}
