package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fernet/fernet-go"
	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
)

// fence matches a block of a document with its language.
var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// step is a block of commands, or of SQL, with what the document shows of its output.
type step struct{ commands, shown string }

func stepsOf(t *testing.T, name string) (steps []step) {
	t.Helper()
	for _, block := range fence.FindAllStringSubmatch(document(t, name), -1) {
		switch language, text := block[1], block[2]; {
		case language == "sh":
			steps = append(steps, step{commands: text})
		case language == "sql":
			steps = append(steps, step{commands: "psql -qX -v ON_ERROR_STOP=1 \"$PLAIN_URL\" <<'SQL'\n" + text + "SQL\n"})
		case language == "text" && len(steps) > 0:
			steps[len(steps)-1].shown += text
		}
	}
	if len(steps) == 0 {
		t.Fatalf("%s has no commands", name)
	}
	return steps
}

// changing is what differs between two runs: numbers, ids, times.
var changing = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9][0-9:.TZ-]*`)

// plainLine is a line without what changes, and with one space between words.
func plainLine(line string) string {
	return strings.Join(strings.Fields(changing.ReplaceAllString(line, "N")), " ")
}

// follow runs a document's commands in one shell and checks that their output holds the lines that the document shows. The replacements are
// pairs of what the document says and what it is here.
func follow(t *testing.T, name string, environ []string, replacements ...string) {
	t.Helper()
	steps, here := stepsOf(t, name), strings.NewReplacer(replacements...)
	var script strings.Builder
	script.WriteString("set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || :; wait' EXIT\n") // nothing that it started stays, also where it fails
	const mark = "=== step"
	for i, s := range steps {
		fmt.Fprintf(&script, "echo '%s %d'\n%s\n", mark, i, here.Replace(s.commands))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a loop that waits for an outboxd that has ended would go on for ever
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // for the trap
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program(t))+":"+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, environ...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(cmd.Dir, "outboxd.log"))
		t.Fatalf("the commands of %s: %v\n%s\noutboxd.log:\n%s", name, err, out, log)
	}
	printed := strings.Split(string(out), mark)[1:]
	for i, s := range steps {
		got := plainLine(strings.Join(strings.Split(printed[i], "\n"), " ␤ "))
		for _, line := range strings.Split(strings.TrimSpace(here.Replace(s.shown)), "\n") {
			if !strings.Contains(got, plainLine(line)) {
				t.Errorf("%s shows %q behind\n%swhich printed\n%s", name, line, s.commands, printed[i])
			}
		}
	}
}

// walkthrough returns a database, the environment of a document's commands, and what differs here from the document: servers and ports.
func walkthrough(t *testing.T) (conn *pgx.Conn, environ, replacements []string) {
	t.Helper()
	database, addr := testenv.Postgres(t).Database(t), testenv.FreeAddress(t)
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	asyncpg := *u
	asyncpg.Scheme, asyncpg.RawQuery = "postgresql+asyncpg", "ssl=disable"
	environ = []string{
		"PLAIN_URL=" + database, "OUTBOXD_HTTP_ADDR=" + addr, fmt.Sprintf("OUTBOXD_DATABASE_SLOT=walk_%d", time.Now().UnixNano()),
	}
	return conn, environ, []string{
		"postgres://app:secret@db/app", database, "postgresql+asyncpg://app:secret@db/app", asyncpg.String(),
		"redis://cache:6379/0", testenv.Redis(t).URL, "localhost:9090", addr, "database app, role app", "database " + u.Path[1:] + ", role " + u.User.Username(),
	}
}

// A document that shows commands has a test here that follows it; those of benchmarks.md take minutes each, and bench has tests of its own.
func TestEveryDocumentWithCommandsIsFollowed(t *testing.T) {
	tests := document(t, "cmd/outboxd/walkthrough_test.go")
	for _, pattern := range []string{"*.md", "docs/*.md", "docker/*.md", "docker/*/*.md"} {
		names, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			name = filepath.ToSlash(strings.TrimPrefix(name, filepath.Join("..", "..")+string(filepath.Separator)))
			if name == "docs/benchmarks.md" {
				continue
			}
			for _, block := range fence.FindAllStringSubmatch(document(t, name), -1) {
				if (block[1] == "sh" || block[1] == "sql") && !strings.Contains(tests, `follow(t, "`+name+`"`) {
					t.Errorf("no test follows the commands of %s:\n%s", name, block[2])
				}
			}
		}
	}
}

func TestGettingStartedWorksAsWritten(t *testing.T) {
	_, environ, replacements := walkthrough(t)
	follow(t, "docs/getting-started.md", environ, replacements...)
}

func TestMovingFromAProjectorWorksAsWritten(t *testing.T) {
	conn, environ, replacements := walkthrough(t)
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`DROP SCHEMA outboxd CASCADE`,
		`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload, status, retry_count, retry_after, error_message, created_at)
			SELECT 'walkthrough', 'order', i::text, 'orders', now(), '{}', s, CASE WHEN s IN ('FAILED', 'DEAD') THEN 2 ELSE 0 END,
				CASE s WHEN 'FAILED' THEN now() - interval '1 minute' END, CASE WHEN s IN ('FAILED', 'DEAD') THEN 'timeout' END, now() - interval '1 hour' + i * interval '1 minute'
			FROM unnest('{NEW,NEW,NEW,PUBLISHING,FAILED,DEAD,PUBLISHED,PUBLISHED}'::text[]) WITH ORDINALITY AS u(s, i)`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%v in %s", err, sql)
		}
	}
	follow(t, "docs/moving.md", environ, replacements...)
}

func TestSecurityWorksAsWritten(t *testing.T) {
	conn, environ, replacements := walkthrough(t)
	role := fmt.Sprintf("outboxd_app_%d", time.Now().UnixNano())
	t.Cleanup(func() {
		for _, sql := range []string{`DROP OWNED BY ` + role, `DROP ROLE ` + role} {
			if _, err := conn.Exec(context.Background(), sql); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	owner := replacements[1] // of postgres://app:secret@db/app
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "secret")
	environ = append(environ, "OWNER_URL="+owner, "DATABASE_URL="+owner, "REDIS_URL="+testenv.Redis(t).URL)
	follow(t, "docs/security.md", environ, "postgres://outboxd_app:secret@db/app", u.String(), "outboxd_app", role)
}

func TestTroubleshootingWorksAsWritten(t *testing.T) {
	conn, environ, replacements := walkthrough(t)
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	environ = append(environ, "DATABASE_URL="+replacements[1], "REDIS_URL="+testenv.Redis(t).URL)
	streaming(t, environ, replacements)
	follow(t, "docs/troubleshooting.md", environ, replacements...)
}

// streaming runs outboxd until the test ends, and returns when it streams.
func streaming(t *testing.T, environ, replacements []string) {
	t.Helper()
	run := exec.Command(program(t), "run")
	run.Env = append(os.Environ(), environ...)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := run.Wait(); err != nil {
			t.Error(err)
		}
	})
	addr := replacements[7] // of localhost:9090
	eventually(t, "outboxd streams", func() bool { return get(t, "http://"+addr+"/readyz") == "active\n" })
}

// operated is a database where outboxd streams by a file of settings that its commands take too, with an event that no route takes.
func operated(t *testing.T, id string) (environ, replacements []string) {
	t.Helper()
	conn, environ, replacements := walkthrough(t)
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "outboxd.yaml")
	settings := `routes:
  - {match: {topic: "order.*"}, to: [{sink: redis, destination: "operated:{tenant}:{topic}"}]}
  - {match: {topic: "outboxd-verify-*"}, to: [{sink: redis, destination: "operated:{tenant}:{topic}"}]}
checkpoint_interval: 100ms
`
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	environ = append(environ, "DATABASE_URL="+replacements[1], "REDIS_URL="+testenv.Redis(t).URL, "OUTBOXD_CONFIG="+file)
	streaming(t, environ, replacements)
	if _, err := conn.Exec(t.Context(), `INSERT INTO outbox (id, tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload, created_at)
		VALUES ($1, 'acme', 'order', '1', 'metrics.raw', now() - interval '80h', '{}', now() - interval '80h')`, id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event is dead", func() bool {
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM outboxd.parked WHERE state = 'dead'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	return environ, append(replacements, "HOST:9090", replacements[7], "--config outboxd.yaml", "--config "+file)
}

// deploy.sh has tests of its own, and the load of verify is a smaller one.
func TestOperationsWorkAsWritten(t *testing.T) {
	var key fernet.Key
	if err := key.Generate(); err != nil {
		t.Fatal(err)
	}
	token, err := fernet.EncryptAndSign([]byte("hunter2"), &key)
	if err != nil {
		t.Fatal(err)
	}
	environ, replacements := operated(t, "0198c1f2-7a51-7bcd-8f0e-3d5a9c1b2e4f")
	environ = append(environ, "ENCRYPTION_KEY="+key.Encode())
	follow(t, "docs/operations.md", environ, append([]string{
		"docker/deploy.sh", ": docker/deploy.sh", "gAAAAA...", string(token), "verify --config outboxd.yaml", "verify --events 200", "--events 100000", "--events 500",
	}, replacements...)...)
}

func TestRunbookWorksAsWritten(t *testing.T) {
	environ, replacements := operated(t, "0198c1f2-7a51-7bcd-8f0e-3d5a9c1b2e4f")
	follow(t, "docs/runbook.md", environ, replacements...)
}

// The demo and the suite have tests of their own, and are not run once more; `outboxd run` stays in front of a person, and goes to the background here.
func TestReadmeWorksAsWritten(t *testing.T) {
	conn, environ, replacements := walkthrough(t)
	if _, err := conn.Exec(t.Context(), `CREATE TABLE orders AS SELECT 42 AS id, 'new' AS state`); err != nil {
		t.Fatal(err)
	}
	broker := testenv.NewRedis(t, testenv.RedisOptions{})
	redis := "redis-cli -u " + broker.URL
	follow(t, "README.md", environ, append([]string{
		"make demo", ": make demo", "make test", ": make test", "redis://cache:6379/0", broker.URL,
		"outboxd run ", "outboxd run > outboxd.log 2>&1 & until curl -fs " + replacements[7] + "/readyz; do sleep 1; done ",
		"redis-cli", redis + " XREAD COUNT 1 BLOCK 10000 STREAMS outbox:acme:order.paid 0; " + redis,
	}, replacements...)...)
	var state string
	if err := conn.QueryRow(t.Context(), `SELECT state FROM orders`).Scan(&state); err != nil || state != "paid" {
		t.Errorf("the order is %q (%v)", state, err)
	}
}
