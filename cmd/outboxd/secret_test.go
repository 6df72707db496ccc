package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
)

const secretConfig = `database: {url: "postgres://app:hunter2@127.0.0.1:1/shop?sslmode=disable&connect_timeout=5"}
sinks:
  redis: {url: "redis://u:hunter2@127.0.0.1:1/0", password: hunter2}
  redis-b: {url: "redis://127.0.0.1:1/0", password: hunter2}
  pulsar: {url: "pulsar://127.0.0.1:1", token: hunter2}
routes:
  - match: {tenant: a}
    to: [{sink: redis, destination: "a"}, {sink: redis-b, destination: "a"}]
  - to: [{sink: pulsar, destination: "persistent://t/n/a"}]
http: {addr: ""}
log: {level: trace}
`

// writeSecretConfig returns the path of a file with the planted secrets.
func writeSecretConfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outboxd.yaml")
	if err := os.WriteFile(path, []byte(secretConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every command, with servers that do not answer and with a faulty configuration, keeps the planted password to itself.
func TestNoCommandShowsASecret(t *testing.T) {
	path, outboxd := writeSecretConfig(t), program(t)
	for _, command := range []string{
		"config", "config --output json", "config --set batch.max_messages=0", "config --set sinks.redis.url=hunter2",
		"config --set sinks.redis.url=redis://u:hun#hunter2@h", "config --database-url hunter2", "config --database-url postgres://u:hunter2%@h/d",
		"migrate up", "migrate down --yes", "migrate status", "migrate sql --role app", "slot status", "slot create", "slot drop --yes",
	} {
		t.Run(command, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), outboxd, append(strings.Fields(command), "--config", path)...)
			cmd.Env = []string{}
			out, _ := cmd.CombinedOutput() // most of them fail, that is the point
			if len(out) == 0 || strings.Contains(string(out), "hunter2") {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// The servers refuse or do not answer, so that their errors reach the log: first the database, then the brokers.
func TestRunWithoutServersShowsNoSecret(t *testing.T) {
	t.Run("database", func(t *testing.T) {
		runUntil(t, nil, "session ended; opening the next one")
	})
	t.Run("brokers", func(t *testing.T) {
		url := testenv.Postgres(t).Database(t)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
		if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
			t.Fatal(err)
		}
		outboxd, environ := program(t), []string{
			"OUTBOXD_DATABASE_URL=" + url, "OUTBOXD_DATABASE_SLOT=cli_secret", "OUTBOXD_SHUTDOWN_TIMEOUT=100ms",
			"OUTBOXD_SINKS_PULSAR_TIMEOUT=1500ms",
		}
		create := exec.CommandContext(t.Context(), outboxd, "slot", "create", "--config", writeSecretConfig(t))
		if create.Env = environ; create.Run() != nil {
			t.Fatal("no slot")
		}
		if _, err := conn.Exec(t.Context(), `INSERT INTO outbox (tenant_id, topic, occurred_at, payload)
			VALUES ('a', 'x', now(), '{}'), ('b', 'x', now(), '{}')`); err != nil {
			t.Fatal(err)
		}
		runUntil(t, environ, `"sink":"redis-b","destination":"a"`, `"sink":"redis","destination":"a"`, `"sink":"pulsar","destination":"persistent:`, `"message":"redis client"`)
	})
}

// runUntil runs the program with the planted secrets until its output holds the texts, and stops it.
func runUntil(t *testing.T, variables []string, texts ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program(t), "run", "--config", writeSecretConfig(t))
	cmd.Env, cmd.Stdout, cmd.Stderr = append([]string{}, variables...), log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	read := func() string {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !containsAll(read(), texts); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("want %q in:\n%s", texts, read())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v:\n%s", err, read())
	}
	if text := read(); strings.Contains(text, "hunter2") {
		t.Errorf("printed:\n%s", text)
	}
}

func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}
