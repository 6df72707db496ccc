package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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

// Every command, with servers that do not answer and with a faulty configuration, keeps the planted password to itself.
func TestNoCommandShowsASecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outboxd.yaml")
	if err := os.WriteFile(path, []byte(secretConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	outboxd := program(t)
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

func TestRunWithoutServersShowsNoSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outboxd.yaml")
	if err := os.WriteFile(path, []byte(secretConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program(t), "run", "--config", path)
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{}, log, log
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
	for deadline := time.Now().Add(patience); strings.Count(read(), "session ended") < 2; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("no session was tried twice:\n%s", read())
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
