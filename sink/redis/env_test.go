package redis_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
	"github.com/outboxd/outboxd/sink/sinktest"
)

func TestMain(m *testing.M) {
	logging.Disable() // go-redis writes a line for each failed connection; the tests see the errors
	testenv.Main(m)
}

var streams atomic.Int64

// newStream returns a name that no test has used.
func newStream(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("outbox:%d:%d", os.Getpid(), streams.Add(1))
}

// plain returns a client of the server that shares nothing with the sink.
func plain(t testing.TB, url string) *goredis.Client {
	t.Helper()
	o, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := goredis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func open(t testing.TB, cfg redis.Config) *redis.Sink {
	t.Helper()
	s, err := redis.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// opened returns a sink that is closed when the test ends.
func opened(t testing.TB, cfg redis.Config) *redis.Sink {
	t.Helper()
	s := open(t, cfg)
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// batch returns the messages from..to for the stream.
func batch(stream string, from, to int) []sink.Message {
	var messages []sink.Message
	for i := from; i <= to; i++ {
		messages = append(messages, sink.Message{
			Destination: stream, Key: []byte("acme/order/1"), Body: []byte(`{"n":` + strconv.Itoa(i) + `}`),
			Headers: []sink.Header{{Name: "id", Value: []byte(strconv.Itoa(i))}, {Name: "position", Value: fmt.Appendf(nil, "7:0/%X:1", i)}},
		})
	}
	return messages
}

func mustTail(t testing.TB, s sink.Sink, stream string) []sink.Entry {
	t.Helper()
	entries, err := s.Tail(t.Context(), stream, sink.MaxBatch)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func mustPublish(t testing.TB, s sink.Sink, messages []sink.Message) {
	t.Helper()
	if results := s.Publish(t.Context(), messages); results != nil {
		t.Fatalf("publish: %v", results)
	}
}

// wantIDs fails the test unless the stream holds the ids from..to.
func wantIDs(t testing.TB, c goredis.UniversalClient, stream string, from, to int) {
	t.Helper()
	var got, want []string
	for _, m := range readWith(t, c, stream) {
		got = append(got, m.ID())
	}
	for i := from; i <= to; i++ {
		want = append(want, strconv.Itoa(i))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("stream holds %v, want %v", got, want)
	}
}

func readWith(t testing.TB, c goredis.UniversalClient, stream string) (messages []sinktest.Message) {
	t.Helper()
	entries, err := c.XRange(t.Context(), stream, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		m := sinktest.Message{Headers: make(map[string]string)}
		for name, value := range e.Values {
			if name == "payload" {
				m.Body = []byte(value.(string))
				continue
			}
			m.Headers[name] = value.(string)
		}
		messages = append(messages, m)
	}
	return messages
}

// freeze stops the server's process until thaw is called.
func freeze(t testing.TB, c *goredis.Client) (thaw func()) {
	t.Helper()
	info, err := c.InfoMap(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(info["Server"]["process_id"])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	return func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-again.C
	}
}

// freePort returns a port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	_, port, err := net.SplitHostPort(testenv.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return number
}

// host returns the host and port of a URL.
func host(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// withUser returns the URL with a user and a password.
func withUser(t testing.TB, raw, user, password string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}
