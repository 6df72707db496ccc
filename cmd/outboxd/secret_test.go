package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/testenv"
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

// secretKey is a Fernet key.
const secretKey = "aHVudGVyMi1rZXktaHVudGVyMi1rZXktaHVudGVyMi0="

func showsSecret(text string) bool {
	return strings.Contains(text, "hunter2") || strings.Contains(text, secretKey[:20])
}

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
	t.Parallel()
	path, outboxd := writeSecretConfig(t), program(t)
	commands := []string{
		"config", "config --output json", "config --explain", "doctor", "doctor --output json", "cleanup --yes", "slot status --output json", "config --set batch.max_messages=0", "config --set sinks.redis.url=hunter2",
		"config --set sinks.redis.url=redis://u:hun#hunter2@h", "config --database-url hunter2", "config --database-url postgres://u:hunter2%@h/d",
		"run --database-url postgres://u:hunter2@h:x/d", "doctor --database-url postgres://u:hunter2@127.0.0.1:1/d?sslrootcert=/nowhere", "run --set sinks.pulsar.url=http://u:hunter2@h",
		"migrate up", "migrate down --yes", "migrate status", "migrate sql --role app", "slot status", "slot create", "slot drop --yes",
		"events list", "events show 1", "events retry --all --yes", "events skip --all --yes", "events replay --topic x --yes",
		"verify --events 1", "reshard --count 2 --yes", "healthcheck", "decrypt gAAAAABhunter", "decrypt --set encryption.enabled=true {}", "version",
	}
	without := []string{"outboxd bench", "outboxd demo"} // they have servers of their own
	every(newRootCommand(&app{}), func(cmd *cobra.Command) {
		named := func(command string) bool { return strings.HasPrefix("outboxd "+command+" ", cmd.CommandPath()+" ") }
		if !cmd.HasSubCommands() && !slices.Contains(without, cmd.CommandPath()) && !slices.ContainsFunc(commands, named) {
			t.Errorf("%s is not tried", cmd.CommandPath())
		}
	})
	for _, command := range commands {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), outboxd, append(strings.Fields(command), "--config", path)...)
			cmd.Env = []string{"ENCRYPTION_KEY=" + secretKey}
			out, _ := cmd.CombinedOutput() // most of them fail, that is the point
			if len(out) == 0 || showsSecret(string(out)) {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// The servers refuse or do not answer, so that their errors reach the log: first the database, then the brokers.
func TestRunWithoutServersShowsNoSecret(t *testing.T) {
	t.Parallel()
	t.Run("database", func(t *testing.T) {
		t.Parallel()
		runUntil(t, writeSecretConfig(t), nil, nil, "session ended; opening the next one")
	})
	t.Run("brokers", func(t *testing.T) {
		t.Parallel()
		url := testenv.Postgres(t).Database(t)
		conn := migrated(t, url)
		addr := testenv.FreeAddress(t)
		page := func(path string) func() string { return func() string { return get(t, "http://"+addr+path) } }
		stored := func() string { return storedErrors(t, conn) }
		outboxd, environ := program(t), []string{
			"OUTBOXD_HTTP_ADDR=" + addr,
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
		runUntil(t, writeSecretConfig(t), environ, []func() string{page("/status"), page("/metrics"), page("/readyz"), stored}, `"sink":"redis-b","destination":"a"`, `"sink":"redis","destination":"a"`, `"sink":"pulsar","destination":"persistent:`, `"message":"redis client"`)
	})
}

// storedErrors waits for errors beside parked events and in the rows of the outbox, and returns them all.
func storedErrors(t *testing.T, conn *pgx.Conn) (text string) {
	t.Helper()
	eventually(t, "the errors are stored", func() bool {
		err := conn.QueryRow(t.Context(), `SELECT coalesce(string_agg(concat_ws(' ', p.reason, o.error_message), E'\n'), '')
			FROM outboxd.parked p JOIN outbox o ON o.id::text = p.id`).Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		return text != ""
	})
	return text
}

// runUntil runs the program with the planted secrets until its output holds the texts, takes the looks at what else it shows, and stops it.
func runUntil(t *testing.T, path string, variables []string, looks []func() string, texts ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program(t), "run", "--config", path)
	cmd.Env, cmd.Stdout, cmd.Stderr = append([]string{"ENCRYPTION_KEY=" + secretKey}, variables...), log, log
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
	for _, look := range looks {
		if text := look(); text == "" || showsSecret(text) {
			t.Errorf("shown while it runs:\n%s", text)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v:\n%s", err, read())
	}
	if text := read(); showsSecret(text) {
		t.Errorf("printed:\n%s", text)
	}
}

func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}
