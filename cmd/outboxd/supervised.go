package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/testenv"
)

const (
	readyTimeout = time.Minute
	stopTimeout  = 20 * time.Second
	restartPause = 200 * time.Millisecond
)

// supervised is outboxd as a process of its own, which is started again whenever somebody kills it.
type supervised struct {
	addr    string // where it is reached by HTTP
	logFile string
	pid     atomic.Int64
	kills   atomic.Int64

	cancel context.CancelFunc
	ended  chan struct{} // closed when it runs no more
	err    error         // why it ended by itself; to be read when ended is closed
}

// startSupervised starts "outboxd run" with the arguments, which make it listen on the address, and returns when the first process was
// started, or could not be.
func startSupervised(environ, arguments []string, listen, logFile string) (*supervised, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program: %w", err)
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make outboxd's log: %w", err)
	}
	args := append([]string{"outboxd", "run"}, arguments...)
	ctx, cancel := context.WithCancel(context.Background())
	c := &supervised{addr: reachable(listen), logFile: logFile, cancel: cancel, ended: make(chan struct{})}
	command := func() *exec.Cmd {
		cmd := exec.CommandContext(ctx, program)
		cmd.Args, cmd.Env = args, environ
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = testenv.ChildAttributes()
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = stopTimeout
		return cmd
	}
	started := make(chan struct{})
	go func() {
		defer close(c.ended)
		defer log.Close() //nolint:errcheck // nothing of ours is written to it
		c.err = c.supervise(ctx, command, started)
	}()
	select {
	case <-started:
		return c, nil
	case <-c.ended:
		return nil, c.err
	}
}

// supervise runs the process until ctx ends or the process does by itself. It keeps to its thread, because Linux ends the child when
// the thread that made it ends.
func (c *supervised) supervise(ctx context.Context, command func() *exec.Cmd, started chan<- struct{}) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for first := true; ; first = false {
		cmd := command()
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start outboxd: %w", err)
		}
		c.pid.Store(int64(cmd.Process.Pid))
		if first {
			close(started)
		}
		err := cmd.Wait()
		killed := cmd.ProcessState.Success() || !cmd.ProcessState.Exited()
		switch {
		case ctx.Err() != nil && cmd.ProcessState.Success():
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("outboxd did not stop cleanly: %s; the end of its log:\n%s", cmd.ProcessState, c.logTail())
		case !killed:
			return fmt.Errorf("outboxd ended by itself: %w; the end of its log:\n%s", err, c.logTail())
		}
		c.kills.Add(1)
		if pause(ctx, restartPause) != nil {
			return nil
		}
	}
}

// stop ends the process as a supervisor does, once; more does no harm. The error says that it had ended by itself or does not stop.
func (c *supervised) stop() error {
	c.cancel()
	<-c.ended
	err := c.err
	c.err = nil
	return err
}

// failure says why the process runs no more, nil while it runs.
func (c *supervised) failure() error {
	select {
	case <-c.ended:
		return cmp.Or(c.err, errors.New("outboxd has ended"))
	default:
		return nil
	}
}

// waitReady waits until outboxd says that it streams, no longer than limit.
func (c *supervised) waitReady(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client := &http.Client{Timeout: time.Second}
	for {
		state, err := askReady(ctx, client, c.addr)
		if err == nil && state == "active" {
			return nil
		}
		select {
		case <-c.ended:
			return c.stop()
		default:
		}
		if pause(ctx, 50*time.Millisecond) == nil {
			continue
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("outboxd is not ready after %s: %s: %w", limit, state, err)
		}
		return ctx.Err()
	}
}

// askReady asks /readyz, whose body is a state when outboxd is ready, and else what blocks it.
func askReady(ctx context.Context, client *http.Client, addr string) (state string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

// logTail returns the last lines of outboxd's log.
func (c *supervised) logTail() string {
	const lines = 10
	text, err := os.ReadFile(c.logFile)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// withoutSettings leaves out what would be a setting of outboxd.
func withoutSettings(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return config.IsSetting(name)
	})
}

// freeAddress chooses a port where addr has none (0). Another process may take it before outboxd does.
func freeAddress(ctx context.Context, addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("--http %s: %w", addr, err)
	}
	if port == "0" {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return "", fmt.Errorf("find a free port: %w", err)
		}
		if _, port, err = net.SplitHostPort(listener.Addr().String()); err != nil {
			return "", err
		}
		if err := listener.Close(); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, port), nil
}

// reachable is the address at which a client on this machine reaches what listens on addr.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && (host == "" || host == "0.0.0.0" || host == "::") {
		return net.JoinHostPort("localhost", port)
	}
	return addr
}
