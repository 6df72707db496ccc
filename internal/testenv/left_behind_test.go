package testenv_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
)

// starter is the environment variable that makes this test binary start the servers that it names and wait for its end.
const starter = "OUTBOXD_TESTENV_STARTER"

func TestMain(m *testing.M) {
	if kinds := os.Getenv(starter); kinds != "" {
		startAndWait(strings.Fields(kinds))
		return
	}
	testenv.Main(m)
}

func startAndWait(kinds []string) {
	fmt.Println("begin")
	for _, kind := range kinds {
		var err error
		switch kind {
		case "postgres":
			_, err = testenv.StartPostgres(context.Background(), testenv.PostgresOptions{})
		case "disk":
			_, err = testenv.StartPostgres(context.Background(), testenv.PostgresOptions{Disk: 512 << 20})
		case "redis":
			_, err = testenv.StartRedis(context.Background(), testenv.RedisOptions{})
		case "pulsar":
			_, err = testenv.StartPulsar(context.Background(), testenv.PulsarOptions{})
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	time.Sleep(time.Hour) // until it is killed
}

func TestKillOfTheTestLeavesNothingBehind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it looks for processes in /proc")
	}
	for name, c := range map[string]struct {
		kinds string
		line  string        // of the starter to wait for
		after time.Duration // and then this long
	}{
		"before a folder is made":        {"redis postgres", "begin", 0},
		"during initdb":                  {"postgres", "begin", 150 * time.Millisecond},
		"while PostgreSQL starts":        {"postgres", "begin", 900 * time.Millisecond},
		"with running servers":           {"redis postgres redis postgres", "ready", 0},
		"with a disk of its own":         {"disk", "ready", 0},
		"while Pulsar starts":            {"pulsar", "begin", 3 * time.Second},
		"while the Java machine starts ": {"pulsar", "begin", 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(c.kinds, "pulsar") {
				testenv.NeedPulsar(t) // so that the starter downloads nothing
			}
			if c.kinds == "disk" {
				needMount(t)
			}
			folder := ownFolder(t)
			process := startStarter(t, folder, c.kinds, c.line)
			time.Sleep(c.after) // any moment is a good one
			if err := process.Kill(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the folder is empty", func() string { return listing(t, folder) })
			eventually(t, "no process is left", func() string { return processesIn(t, folder) })
		})
	}
}

// ownFolder makes a folder that PostgreSQL's user may enter, to be the starter's os.TempDir.
func ownFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "outboxd-left-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	return folder
}

func startStarter(t *testing.T, folder, kinds, line string) *os.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), starter+"="+kinds, "TMPDIR="+folder)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it is, where the test got so far
		_ = cmd.Wait()
	})
	for lines := bufio.NewReader(out); ; {
		text, err := lines.ReadString('\n')
		if err != nil {
			rest, _ := io.ReadAll(lines)
			t.Fatalf("the starter ended: %s%s", text, rest)
		}
		if strings.TrimSpace(text) == line {
			return cmd.Process
		}
	}
}

// eventually waits until the list of what should not be is empty.
func eventually(t *testing.T, what string, remains func() string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for left := remains(); left != ""; left = remains() {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s: %s", what, left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func listing(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(fmt.Sprint(entries), "[]")
}

// processesIn lists the living processes that work in the folder or were told of it.
func processesIn(t *testing.T, folder string) string {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, proc := range found {
		words, _ := os.ReadFile(filepath.Join(proc, "cmdline")) // empty for one that is gone or unburied
		work, _ := os.Readlink(filepath.Join(proc, "cwd"))
		if strings.Contains(string(words)+work, folder) {
			left = append(left, proc+" "+strings.ReplaceAll(string(words), "\x00", " "))
		}
	}
	return strings.Join(left, "\n")
}

func TestServersInheritNoDescriptor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it looks for descriptors in /proc")
	}
	path := filepath.Join(t.TempDir(), "lock")
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_RDWR, 0o600) // not close-on-exec, as a parent may leave one
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", server.PID()))
	if err != nil || len(open) == 0 {
		t.Fatalf("list the server's descriptors: %v, %v", open, err)
	}
	for _, link := range open {
		if target, err := os.Readlink(link); err == nil && target == path {
			t.Errorf("the server holds %s", path)
		}
	}
}
