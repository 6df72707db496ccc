package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

// demoProcess is a demo that runs with a folder of its own for temporary files.
type demoProcess struct {
	*exec.Cmd
	t      *testing.T
	tmp    string
	news   *bufio.Scanner
	told   strings.Builder // of news, so far
	result bytes.Buffer    // standard output: JSON
}

// startDemo starts a demo in an environment that would spoil outboxd's settings, did the demo not keep it away.
func startDemo(t *testing.T, args ...string) *demoProcess {
	t.Helper()
	return startDemoWith(t, os.Getenv("PATH"), args...)
}

func startDemoWith(t *testing.T, path string, args ...string) *demoProcess {
	t.Helper()
	d := &demoProcess{t: t, tmp: openFolder(t)}
	d.Cmd = exec.CommandContext(t.Context(), program(t), append([]string{"demo", "--output", "json"}, args...)...)
	d.Env = append(os.Environ(), "TMPDIR="+d.tmp, "PATH="+path, "OUTBOXD_HTTP_ADDR=nonsense", "ENCRYPTION_KEY=of-something-else")
	d.Stdout = &d.result
	news, err := d.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.news = bufio.NewScanner(news)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// openFolder is a temporary folder that every user may enter.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // as os.TempDir
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// waitFor reads what the demo says until a line matches, and returns the match.
func (d *demoProcess) waitFor(pattern string) []string {
	d.t.Helper()
	expression := regexp.MustCompile(pattern)
	for d.news.Scan() {
		fmt.Fprintln(&d.told, d.news.Text())
		if match := expression.FindStringSubmatch(d.news.Text()); match != nil {
			return match
		}
	}
	d.t.Fatalf("the demo ended without saying %s:\n%s", pattern, d.told.String())
	return nil
}

// finish waits for the end and returns the exit code, the summary and everything said.
func (d *demoProcess) finish() (code int, summary demoSummary, told string) {
	d.t.Helper()
	for d.news.Scan() {
		fmt.Fprintln(&d.told, d.news.Text())
	}
	if err := d.Wait(); err != nil && d.ProcessState == nil {
		d.t.Fatal(err)
	}
	told = d.told.String()
	if err := json.Unmarshal(d.result.Bytes(), &summary); err != nil && d.result.Len() > 0 {
		d.t.Errorf("the summary: %v\n%s", err, d.result.String())
	}
	return d.ProcessState.ExitCode(), summary, told
}

// wantWell finishes a demo in which nothing was to go wrong, and which was to leave nothing behind.
func (d *demoProcess) wantWell() demoSummary {
	d.t.Helper()
	code, s, told := d.finish()
	if code != 0 || !s.OK || s.Report.Committed == 0 || s.Report.Committed != s.Report.Received || s.Latency.Max == 0 {
		d.t.Errorf("exit code %d, %+v\n%s", code, s, told)
	}
	left, err := filepath.Glob(filepath.Join(d.tmp, "*"))
	if err != nil || len(left) > 0 {
		d.t.Errorf("left behind: %v %v", left, err)
	}
	d.t.Log(s.Database, s.Broker, s.Report.String(), s.Latency)
	return s
}

func TestDemoWithItsOwnServersDeliversEverything(t *testing.T) {
	t.Parallel()
	startDemo(t, "--for", "3s").wantWell()
}

func TestDemoWithoutRedisUsesAnEmbeddedOne(t *testing.T) {
	t.Parallel()
	path := openFolder(t)
	for _, name := range []string{"sh", "rm", "sleep", "cat", "sed", "ipcrm", "id"} {
		if program, err := exec.LookPath(name); err == nil {
			if err := os.Symlink(program, filepath.Join(path, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	path += string(os.PathListSeparator) + testenv.Postgres(t).Bin
	if s := startDemoWith(t, path, "--for", "3s").wantWell(); s.Broker != "Redis (embedded)" {
		t.Errorf("used %s", s.Broker)
	}
}

func TestDemoLeavesForeignServersAsTheyWere(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	store := testenv.Redis(t)
	database := server.Database(t)
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it only read
	weak := "weak_" + strconv.Itoa(os.Getpid())
	_, err = conn.Exec(t.Context(), fmt.Sprintf(`CREATE ROLE %s LOGIN REPLICATION; GRANT CREATE ON DATABASE %s TO %[1]s`,
		weak, pgx.Identifier{conn.Config().Database}.Sanitize()))
	if err != nil {
		t.Fatal(err)
	}
	before := everythingIn(t, conn)
	for _, url := range []string{database, strings.Replace(database, "postgres@", weak+"@", 1)} {
		s := startDemo(t, "--for", "3s", "--pg", url, "--redis", store.URL)
		s.waitFor(`database and slot outboxd_demo_|schemas outboxd_demo_`)
		s.wantWell()
		if after := everythingIn(t, conn); !slices.Equal(before, after) {
			t.Errorf("before %v, after %v", before, after)
		}
		if left := streamsIn(t, store.URL, "outboxd-demo-"); len(left) > 0 {
			t.Errorf("streams are left: %v", left)
		}
	}
}

func everythingIn(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT datname FROM pg_database UNION ALL SELECT slot_name FROM pg_replication_slots
		UNION ALL SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp' UNION ALL SELECT pubname FROM pg_publication
		UNION ALL SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// streamsIn returns the streams of a Redis whose names begin so.
func streamsIn(t *testing.T, url, prefix string) []string {
	t.Helper()
	streams, err := redisClient(t, url).Keys(t.Context(), prefix+"*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return streams
}

func TestDemoLeavesForeignPulsarAsItWas(t *testing.T) {
	t.Parallel()
	server := testenv.Pulsar(t)
	startDemo(t, "--for", "4s", "--pulsar", server.URL, "--pulsar-admin", server.AdminURL).wantWell()
	wantNoTopics(t, server, "outboxd-demo-")
}

// wantNoTopics looks for topics with this in their names.
func wantNoTopics(t *testing.T, server *testenv.PulsarServer, part string) {
	t.Helper()
	reader, err := workload.NewPulsarReader(server.URL, workload.PulsarTopics{AdminURL: server.AdminURL, Namespaces: []string{"public/default"}})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close() //nolint:errcheck // it only read
	left, err := reader.Topics(t.Context())
	if err != nil || slices.ContainsFunc(left, func(name string) bool { return strings.Contains(name, part) }) {
		t.Errorf("topics are left: %v %v", left, err)
	}
}

func TestDemoStartsAKilledOutboxdAgain(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--for", "4s", "--rate", "500")
	pid, err := strconv.Atoi(d.waitFor(`^outboxd +process (\d+)`)[1])
	if err != nil {
		t.Fatal(err)
	}
	d.waitFor(`delivered [1-9]`)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if s := d.wantWell(); s.Kills != 1 {
		t.Errorf("%d kills", s.Kills)
	}
}

func TestKilledDemoLeavesNoProcess(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--for", "1m")
	pid, err := strconv.Atoi(d.waitFor(`^outboxd +process (\d+)`)[1])
	if err != nil {
		t.Fatal(err)
	}
	d.waitFor(`delivered [1-9]`)
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.finish()
	eventually(t, "outboxd ends", func() bool { return !running(pid) })
	eventually(t, "the servers are removed", func() bool {
		left, err := filepath.Glob(filepath.Join(d.tmp, "outboxd-[pr]*"))
		return err == nil && len(left) == 0
	})
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// running tells whether the process lives; one that waits for its burial does not.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func TestInterruptedDemoSumsUpAndCleansUp(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--for", "1m")
	d.waitFor(`^ +([2-9]|\d\d+)s .*delivered [1-9]`) // latencies count from the second second on
	if err := d.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	d.wantWell()
	if !strings.Contains(d.told.String(), "stopping: ") {
		t.Errorf("it said %s", d.told.String())
	}
}

func TestDemoFailsWhenAnEventIsMissing(t *testing.T) {
	t.Parallel()
	store := testenv.NewRedis(t, testenv.RedisOptions{})
	d := startDemo(t, "--for", "10s", "--redis", store.URL) // of which the first second is enough, where the machine is not busy
	d.waitFor(`^ +\d+s .*delivered [1-9]`)
	client := redisClient(t, store.URL)
	stream := streamsIn(t, store.URL, "outboxd-demo-")[0]
	first, err := client.XRangeN(t.Context(), stream, "-", "+", 1).Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.XDel(t.Context(), stream, first[0].ID).Err(); err != nil {
		t.Fatal(err)
	}
	code, s, told := d.finish()
	if code != 1 || s.OK || s.Report.Missing.Count != 1 || s.Report.Missing.Examples[0].ID != first[0].Values["id"] {
		t.Errorf("exit code %d, %+v\n%s", code, s, told)
	}
	if log := regexp.MustCompile(`log is kept: (\S+)`).FindStringSubmatch(told); log == nil {
		t.Errorf("the log is not named: %s", told)
	} else if _, err := os.Stat(log[1]); err != nil {
		t.Error(err)
	}
}

func TestDemoShowsWhyOutboxdDoesNotStart(t *testing.T) {
	t.Parallel()
	code, _, told := startDemo(t, "--for", "1m", "--set", "on_sent=burn").finish()
	if code != 1 || !strings.Contains(told, `on_sent: "burn" is not known`) {
		t.Errorf("exit code %d: %s", code, told)
	}
}

func TestDemoRefusesWhatContradicts(t *testing.T) {
	for _, args := range []string{
		"--config outboxd.yaml", "--database-url postgres://localhost/shop", "--sink pulsar --redis redis://localhost", "--pulsar-admin http://localhost",
		"--pg host=localhost", "--tenants 0", "--rate=-1", "--for=-1s", "--sink kafka",
	} {
		var out bytes.Buffer
		a := &app{in: strings.NewReader(""), out: io.Discard, err: &out}
		if code := execute(t.Context(), a, append([]string{"demo"}, strings.Fields(args)...)); code != exitUsage {
			t.Errorf("%s: exit code %d: %s", args, code, out.String())
		}
	}
}

func TestScreenLinesAreCutAtTheTerminal(t *testing.T) {
	for _, c := range []struct {
		line  string
		width int
		want  string
	}{
		{"short", 10, "short"},
		{"exactly ten", 11, "exactly ten"},
		{"too long", 3, "too"},
		{"größer", 3, "grö"},
		{"\x1b[32mgreen\x1b[0m and more", 5, "\x1b[32mgreen\x1b[0m"},
		{"\x1b[32mgreen\x1b[0m", 2, "\x1b[32mgr\x1b[0m"},
	} {
		if got := clip(c.line, c.width); got != c.want {
			t.Errorf("clip(%q, %d) = %q, want %q", c.line, c.width, got, c.want)
		}
	}
	if got := rows([]string{"", "12345", "123456"}, 5); got != 4 {
		t.Errorf("an empty, a full and an overfull line take %d rows, want 4", got)
	}
}

func TestCommandsToPasteHoldNoPassword(t *testing.T) {
	for url, want := range map[string]string{
		"redis://127.0.0.1:6380/0":                    "redis-cli -p 6380",
		"redis://:secret@cache:6379/3":                "redis-cli -h cache -p 6379 -n 3 --askpass",
		"rediss://app:secret@cache.example.com:6379/": "redis-cli -h cache.example.com -p 6379 --tls --user app --askpass",
	} {
		if got := redisCommand(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
	db := demoDatabase{url: "postgres://app:secret@db:5432/shop?sslmode=require", tableSchema: "own", psql: "psql"}
	if got := db.look(); strings.Contains(got, "secret") || !strings.Contains(got, "app@db:5432/shop?sslmode=require") || !strings.Contains(got, "own.outbox") {
		t.Errorf("psql: %s", got)
	}
}

func TestScreenFitsTheTerminal(t *testing.T) {
	d := &demo{app: &app{out: io.Discard}, database: &demoDatabase{title: "PostgreSQL", url: "postgres://localhost/demo", psql: "psql"}}
	d.broker, d.child = &demoBroker{title: "Redis", look: []string{"redis-cli"}}, &supervised{addr: "localhost:9090"}
	v := &demoScreen{d: d, began: time.Now()}
	p := demoPicture{trouble: "the broker does not answer", doubled: 1}
	for _, tenant := range workload.Tenants(20) {
		p.tenants = append(p.tenants, demoTenant{Tenant: tenant, Committed: 1})
		p.recent = append(p.recent, workload.Received{Tenant: tenant})
	}
	for height := 24; height < 80; height++ {
		below := v.below(height)
		page := v.page(p, time.Now(), height-rows(below, 80)-1)
		if used := len(page) + rows(below, 80); used >= height {
			t.Errorf("of %d lines %d are used", height, used)
		}
		if text := strings.Join(page, "\n"); !strings.Contains(text, "DOUBLED 1") || !strings.Contains(text, "LAST EVENTS") || !strings.Contains(text, "acme") {
			t.Errorf("at %d lines it lacks something:\n%s", height, text)
		}
	}
	var counted int64
	for _, tenant := range v.fewest(p.tenants, 5) {
		counted += tenant.Committed
	}
	if counted != 20 {
		t.Errorf("the rest of the tenants is summed up to %d of 20", counted)
	}
}
