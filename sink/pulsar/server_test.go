package pulsar_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	clientlog "github.com/apache/pulsar-client-go/pulsar/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
	"github.com/outboxd/outboxd/sink/sinktest"
)

// patience is long because a machine that runs several test packages at once is slow.
const patience = 90 * time.Second

// patientStall is the AckStall of tests that are about something else: a busy broker may well acknowledge nothing for the second that is the default.
const patientStall = 20 * time.Second

func TestMain(m *testing.M) { testenv.Main(m) }

// server is a running Pulsar as the tests use it.
type server struct{ url, admin string }

var topics atomic.Int64

// topic returns a name that no test has used.
func (s server) topic(testing.TB) string {
	return fmt.Sprintf("persistent://public/default/t%d-%d", os.Getpid(), topics.Add(1))
}

// open returns a sink of the server; change changes its configuration.
func (s server) open(t testing.TB, change ...func(*pulsar.Config)) *pulsar.Sink {
	t.Helper()
	p := s.unowned(t, change...)
	t.Cleanup(func() { closeSink(t, p) })
	return p
}

// unowned returns a sink that the caller closes.
func (s server) unowned(t testing.TB, change ...func(*pulsar.Config)) *pulsar.Sink {
	t.Helper()
	c := pulsar.Config{URL: s.url}
	for _, f := range change {
		f(&c)
	}
	if c.AckStall == 0 && c.Timeout == 0 {
		c.AckStall = patientStall
	}
	p, err := pulsar.New(c, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// testLog is silent unless OUTBOXD_TEST_LOG names a level.
func testLog(t testing.TB) zerolog.Logger {
	level, err := zerolog.ParseLevel(os.Getenv("OUTBOXD_TEST_LOG"))
	if err != nil || os.Getenv("OUTBOXD_TEST_LOG") == "" {
		return zerolog.Nop()
	}
	return zerolog.New(os.Stderr).Level(level).With().Timestamp().Str("test", t.Name()).Logger()
}

func closeSink(t testing.TB, p *pulsar.Sink) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// plain returns Pulsar's own client.
func (s server) plain(t testing.TB) client.Client {
	t.Helper()
	c, err := client.NewClient(client.ClientOptions{URL: s.url, Logger: clientlog.DefaultNopLogger(), MetricsRegisterer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// read returns everything that the topic holds.
func (s server) read(t testing.TB, topic string) []client.Message {
	t.Helper()
	r, err := s.plain(t).CreateReader(client.ReaderOptions{Topic: topic, StartMessageID: client.EarliestMessageID(), StartMessageIDInclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []client.Message
	for r.HasNext() {
		m, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("read %s: %v", topic, err)
		}
		all = append(all, m)
	}
	return all
}

func (s server) messages(t testing.TB, topic string) []sinktest.Message {
	var all []sinktest.Message
	for _, m := range s.read(t, topic) {
		all = append(all, sinktest.Message{Headers: m.Properties(), Body: m.Payload()})
	}
	return all
}

// call calls the admin REST API and fails the test unless it answers with the wanted status.
func (s server) call(t testing.TB, method, path string, body any, want int) []byte {
	t.Helper()
	status, answer := testenv.PulsarAdmin(t, s.admin, method, path, body)
	if status != want {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// try calls the admin REST API and tells whether it did what it was asked.
func (s server) try(t testing.TB, method, path string) bool {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.admin+"/admin/v2/"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode/100 == 2
}

// get reads from the admin REST API.
func (s server) get(t testing.TB, path string, into any) {
	t.Helper()
	if err := json.Unmarshal(s.call(t, http.MethodGet, path, nil, http.StatusOK), into); err != nil {
		t.Fatal(err)
	}
}

// adminPath is a topic's place in the admin REST API.
func adminPath(topic string) string {
	return "persistent/" + strings.TrimPrefix(topic, "persistent://")
}

// append writes an entry that is none of ours, with the id where it is not "". It cuts off whoever holds the topic.
func (s server) append(t testing.TB, topic, id string) {
	t.Helper()
	taker := s.unowned(t)
	mustTail(t, taker, topic, 1)
	closeSink(t, taker)
	p, err := s.plain(t).CreateProducer(client.ProducerOptions{Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m := &client.ProducerMessage{Payload: []byte("from somebody else")}
	if id != "" {
		m.Properties = map[string]string{sink.HeaderID: id}
	}
	if _, err := p.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// pidOf returns the process that listens on the address.
func pidOf(t testing.TB, address string) int {
	t.Helper()
	port, err := strconv.Atoi(address[strings.LastIndex(address, ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	inode := listener(t, port)
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil && target == "socket:["+inode+"]" {
			pid, err := strconv.Atoi(strings.Split(file, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("nobody listens on %s", address)
	return 0
}

// listener returns the inode of the socket that listens on the port.
func listener(t testing.TB, port int) string {
	t.Helper()
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Skipf("no process table: %v", err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				return f[9]
			}
		}
	}
	t.Fatalf("nobody listens on port %d", port)
	return ""
}

// freeze stops the server with SIGSTOP until the function that it returns is called.
func (s server) freeze(t testing.TB) func() {
	t.Helper()
	pid := pidOf(t, s.url)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Errorf("thaw: %v", err)
		}
	}
}

// sharedServer returns the broker of all tests that do not end it.
func sharedServer(t testing.TB) server {
	t.Helper()
	return keeping(t, testenv.Pulsar(t))
}

// keeping makes the broker keep what no subscription needs. Without retention it removes whole ledgers whenever it likes, and
// one that is killed while it does so cannot load the topic again.
func keeping(t testing.TB, p *testenv.PulsarServer) server {
	t.Helper()
	s := server{p.URL, p.AdminURL}
	s.call(t, http.MethodPost, "namespaces/public/default/retention",
		map[string]int{"retentionTimeInMinutes": -1, "retentionSizeInMB": -1}, http.StatusNoContent)
	return s
}
