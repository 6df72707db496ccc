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
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
)

// fence matches a block of a document with its language.
var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// step is a block of commands with what the document shows of its output.
type step struct{ commands, shown string }

func stepsOf(t *testing.T, name string) (steps []step) {
	t.Helper()
	for _, block := range fence.FindAllStringSubmatch(document(t, name), -1) {
		switch language, text := block[1], block[2]; {
		case language == "sh":
			steps = append(steps, step{commands: text})
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
	script.WriteString("set -eu\n")
	const mark = "=== step"
	for i, s := range steps {
		fmt.Fprintf(&script, "echo '%s %d'\n%s\n", mark, i, here.Replace(s.commands))
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script.String())
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
	database, addr := testenv.Postgres(t).Database(t), freeAddr(t)
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
	follow(t, "docs/troubleshooting.md", environ, replacements...)
}
