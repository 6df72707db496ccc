package testenv

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// PulsarOptions say what broker to start.
type PulsarOptions struct {
	Settings []string  // lines of standalone.conf, such as "maxMessageSize=1048576"; they win over this package's
	TLS      bool      // also listen with TLS, see TLSURL, AdminTLSURL and Certificates
	Disk     int64     // size in bytes of a file system in memory for its ledgers and journal, which FillDisk fills; 0 for none. It needs the right to mount
	JVM      string    // options of the Java machine, for its heap and its compiler; empty for a small heap and a fast start
	Progress io.Writer // told what is downloaded; nil for standard error
}

// PulsarServer is a running standalone broker with RocksDB metadata and without function worker.
// It keeps idle topics (brokerDeleteInactiveTopicsEnabled=false).
type PulsarServer struct {
	URL          string // pulsar://127.0.0.1:PORT
	AdminURL     string // http://127.0.0.1:PORT
	TLSURL       string // pulsar+ssl://127.0.0.1:PORT, with PulsarOptions.TLS
	AdminTLSURL  string // https://127.0.0.1:PORT, with PulsarOptions.TLS
	Dir          string // folder of its files, which a test may add to; empty for a server given by URL
	Certificates *Certificates
	server
}

// Pulsar returns the broker that the tests of this process share.
func Pulsar(t testing.TB) *PulsarServer {
	t.Helper()
	return shared.pulsar.get(t, "Pulsar", func() (*PulsarServer, error) {
		given, admin := os.Getenv("OUTBOXD_TEST_PULSAR_URL"), os.Getenv("OUTBOXD_TEST_PULSAR_ADMIN_URL")
		if (given == "") != (admin == "") {
			return nil, errors.New("OUTBOXD_TEST_PULSAR_URL and OUTBOXD_TEST_PULSAR_ADMIN_URL name one broker: set both or none")
		}
		if given != "" {
			return &PulsarServer{URL: given, AdminURL: admin, server: server{name: "Pulsar"}}, nil
		}
		return StartPulsar(context.Background(), PulsarOptions{})
	})
}

// NewPulsar starts a broker of the test's own, for kill -9 and for special settings. The test's end removes it.
func NewPulsar(t testing.TB, o PulsarOptions) *PulsarServer {
	t.Helper()
	s := own(t, "Pulsar", func(ctx context.Context) (*PulsarServer, error) { return StartPulsar(ctx, o) })
	s.owner = t
	return s
}

// StartPulsar starts a broker for something that is no test. Its caller closes it; Kill, Stop and Start panic where they fail.
func StartPulsar(ctx context.Context, o PulsarOptions) (*PulsarServer, error) {
	java, home, err := findPulsar(ctx, o.Progress)
	if err != nil {
		return nil, err
	}
	return attempts(ctx, func(ctx context.Context) (*PulsarServer, error) { return startPulsar(ctx, java, home, o) })
}

// findPulsar returns the homes of Java and of Pulsar, which is downloaded where it is missing.
func findPulsar(ctx context.Context, out io.Writer) (java, home string, err error) {
	if java, err = findJava(ctx); err != nil {
		return "", "", err
	}
	home, err = fetchPulsar(ctx, out)
	return java, home, err
}

func startPulsar(ctx context.Context, java, home string, o PulsarOptions) (*PulsarServer, error) {
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	f, err := newFolder("pulsar", nil)
	if err != nil {
		return nil, err
	}
	p := &PulsarServer{
		URL: "pulsar://" + address(ports[0]), AdminURL: "http://" + address(ports[1]), Dir: f.path,
		server: server{name: "Pulsar", folder: f, limit: 6 * time.Minute, patient: 75 * time.Second, stop: syscall.SIGTERM, discard: syscall.SIGKILL},
	}
	p.ready, p.stuck = p.serves, p.fightsItself
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	if err := p.create(ctx, java, home, ports, o); err != nil {
		return nil, abandon(p, err)
	}
	return p, nil
}

// create writes the configuration and starts the broker.
func (p *PulsarServer) create(ctx context.Context, java, home string, ports []int, o PulsarOptions) error {
	lines := []string{
		fmt.Sprintf("brokerServicePort=%d", ports[0]),
		fmt.Sprintf("webServicePort=%d", ports[1]),
		"bindAddress=127.0.0.1",
		"advertisedAddress=127.0.0.1",
		"allowLoopback=true",
		"listeningInterface=" + loopback(), // of the bookie, which has no bindAddress
		"allowEphemeralPorts=true",         // without it the bookie's port is not honoured
		"journalSyncData=false",            // only a crash of the machine can lose anything for it
		"brokerDeleteInactiveTopicsEnabled=false",
		"webSocketServiceEnabled=false",
	}
	if o.TLS {
		if err := p.secure(&lines, ports[3], ports[4]); err != nil {
			return fmt.Errorf("make certificates: %w", err)
		}
	}
	stock, err := os.ReadFile(filepath.Join(home, "conf", "standalone.conf"))
	if err != nil {
		return err
	}
	lines = slices.Concat(strings.Split(string(stock), "\n"), lines, o.Settings)
	configuration := strings.Join(lastOfEach(lines), "\n") + "\n"
	if err := cmp.Or(p.folder.write("standalone.conf", configuration, nil), os.Mkdir(p.folder.file("tmp"), 0o700)); err != nil {
		return err
	}
	if err := p.mount(o.Disk, nil); err != nil {
		return err
	}
	p.command = func() command { return pulsarCommand(p.folder, java, home, ports[2], o) }
	return p.start(ctx)
}

// lastOfEach leaves the last line of each name. Of several the broker would take the last, but its bookie the first.
func lastOfEach(lines []string) (kept []string) {
	seen := map[string]bool{}
	for _, line := range slices.Backward(lines) {
		name, _, _ := strings.Cut(line, "=")
		if !seen[name] {
			seen[name] = true
			kept = append(kept, line)
		}
	}
	slices.Reverse(kept)
	return kept
}

func pulsarCommand(f *folder, java, home string, bookiePort int, o PulsarOptions) command {
	ledgers := "bookkeeper"
	if o.Disk != 0 {
		ledgers = dataName
	}
	return command{
		path: filepath.Join(home, "bin", "pulsar"),
		args: []string{
			"standalone", "-nfw", "-nss", "--metadata-dir", f.file("metadata"),
			"--bookkeeper-dir", f.file(ledgers), "--bookkeeper-port", fmt.Sprint(bookiePort),
		},
		env: []string{
			"JAVA_HOME=" + java,
			"PULSAR_STANDALONE_CONF=" + f.file("standalone.conf"),
			"PULSAR_STANDALONE_USE_ZOOKEEPER=0",
			"PULSAR_LOG_DIR=" + f.file("logs"),
			"PULSAR_MEM=" + cmp.Or(o.JVM, "-Xmx512m -XX:MaxDirectMemorySize=512m -XX:TieredStopAtLevel=1"),
			"PULSAR_GC=-XX:+UseG1GC -XX:-UsePerfData", // which would lie outside the folder
			"PULSAR_GC_LOG=-Xlog:disable -Xlog:all=warning:stderr",
			"PULSAR_EXTRA_OPTS=-Djava.io.tmpdir=" + f.file("tmp"),
		},
		dir: f.path,
		log: f.file(logName),
	}
}

func loopback() string {
	if runtime.GOOS == "linux" {
		return "lo"
	}
	return "lo0"
}

// fightsItself reports whether a restarted broker holds on to a lock of the killed one, over and over, and never becomes ready.
func (p *PulsarServer) fightsItself(log []byte) bool {
	return bytes.Count(log, []byte("was invalidated")) > 20 // an ordinary start has up to two
}
