package testenv

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RedisOptions say what server to start.
type RedisOptions struct {
	// Settings are lines of redis.conf, such as "appendonly yes", with or without leading dashes; they win over this package's, which
	// turn persistence off.
	Settings []string

	// Disk is the size in bytes of a file system in memory for its data, which FillDisk fills; 0 for none. It needs the right to mount.
	Disk int64

	// Sentinel runs the server as a sentinel, whose masters the settings name: "sentinel monitor NAME HOST PORT QUORUM".
	Sentinel bool
}

// RedisServer is a running Redis.
type RedisServer struct {
	URL  string // redis://127.0.0.1:PORT/0
	Addr string // 127.0.0.1:PORT; empty for a server given by URL
	Dir  string // folder of its files, which a test may add to; empty for a server given by URL
	server
}

// Redis returns the server that the tests of this process share.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	return shared.redis.get(t, "Redis", func() (*RedisServer, error) {
		if given := os.Getenv("OUTBOXD_TEST_REDIS_URL"); given != "" {
			return &RedisServer{URL: given, server: server{name: "Redis"}}, nil
		}
		return StartRedis(context.Background(), RedisOptions{})
	})
}

// NewRedis starts a server of the test's own, for kill -9 and for special settings. The test's end removes it.
func NewRedis(t testing.TB, o RedisOptions) *RedisServer {
	t.Helper()
	s := own(t, "Redis", func(ctx context.Context) (*RedisServer, error) { return StartRedis(ctx, o) })
	s.owner = t
	return s
}

// StartRedis starts a server for something that is no test. Its caller closes it; Kill, Stop and Start panic where they fail.
func StartRedis(ctx context.Context, o RedisOptions) (*RedisServer, error) {
	program, err := findRedis()
	if err != nil {
		return nil, err
	}
	return attempts(ctx, func(ctx context.Context) (*RedisServer, error) { return startRedis(ctx, program, o) })
}

// findRedis returns the program that OUTBOXD_TEST_REDIS_SERVER names, or else an installed one.
func findRedis() (string, error) {
	if given := os.Getenv("OUTBOXD_TEST_REDIS_SERVER"); given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("OUTBOXD_TEST_REDIS_SERVER: %w", err)
		}
		return path, nil
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("redis-server: %w: not in PATH; install redis, or name a server in OUTBOXD_TEST_REDIS_URL", ErrUnavailable)
}

func startRedis(ctx context.Context, program string, o RedisOptions) (*RedisServer, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	f, err := newFolder("redis", nil)
	if err != nil {
		return nil, err
	}
	r := &RedisServer{
		URL: "redis://" + address(ports[0]) + "/0", Addr: address(ports[0]), Dir: f.path,
		server: server{name: "Redis", folder: f, limit: 30 * time.Second, stop: syscall.SIGTERM, discard: syscall.SIGKILL},
	}
	args := []string{f.file("redis.conf")}
	if o.Sentinel {
		args = append(args, "--sentinel")
	}
	r.command = func() command { return command{path: program, args: args, dir: f.path, log: f.file(logName)} }
	r.ready = func(ctx context.Context) error { return pingRedis(ctx, r.Addr) }
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	if err := cmp.Or(r.mount(o.Disk, nil), f.write("redis.conf", redisConfiguration(f, ports[0], o), nil), r.start(ctx)); err != nil {
		return nil, abandon(r, err)
	}
	return r, nil
}

func redisConfiguration(f *folder, port int, o RedisOptions) string {
	dir := f.path
	if o.Disk != 0 {
		dir = f.file(dataName)
	}
	lines := []string{
		"bind 127.0.0.1", fmt.Sprintf("port %d", port), "dir " + dir, `save ""`, "appendonly no", "daemonize no",
	}
	for _, setting := range o.Settings {
		lines = append(lines, strings.TrimPrefix(setting, "--"))
	}
	return strings.Join(lines, "\n") + "\n"
}

// pingRedis speaks the protocol itself: any answer but LOADING says that the server serves, one that asks for a password too.
func pingRedis(ctx context.Context, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer drop(conn)
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.HasPrefix(answer, "-LOADING") {
		return errors.New(strings.TrimSpace(answer))
	}
	return nil
}
