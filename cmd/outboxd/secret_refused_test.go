package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
)

// wantInAll runs the commands that connect to the database, which must say why that fails and keep the planted password to themselves.
func wantInAll(t *testing.T, address, why string, more ...string) {
	t.Helper()
	outboxd, path := program(t), filepath.Join(t.TempDir(), "outboxd.yaml")
	if err := os.WriteFile(path, []byte("sinks: {stdout: {}}\nroutes: [{to: [{sink: stdout, destination: a}]}]\nhttp: {addr: ''}\nlog: {level: trace}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range append(more, "doctor --output json", "migrate status", "events list", "config --explain") {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), outboxd, append(strings.Fields(command), "--config", path)...)
			cmd.Env = []string{"DATABASE_URL=" + address}
			out, err := cmd.CombinedOutput()
			if showsSecret(string(out)) {
				t.Errorf("printed %q", out)
			}
			if command != "config --explain" && (err == nil || !strings.Contains(string(out), why)) {
				t.Errorf("ended with %v, want %q in\n%s", err, why, out)
			}
		})
	}
}

// The database refuses the password.
func TestWrongPasswordOfTheDatabaseIsShownNowhere(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	conn, err := pgx.Connect(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // it is of the test
	for _, sql := range []string{
		`CREATE ROLE app LOGIN REPLICATION PASSWORD 'another word'`,
		`DO $$ BEGIN EXECUTE format($f$COPY (SELECT 'host all app all md5' UNION ALL SELECT 'host all all all trust') TO %L$f$, current_setting('hba_file')); END $$`,
		`SELECT pg_reload_conf()`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	address := strings.Replace(server.URL, "postgres@", "app:hunter2@", 1)
	eventually(t, "the server asks for a password", func() bool {
		_, err := pgx.Connect(t.Context(), address)
		return err != nil && strings.Contains(err.Error(), "password authentication failed")
	})
	wantInAll(t, address, "password authentication failed", "run", "doctor", "slot status")
}

// The passphrase of the client's key is wrong, or right, and nobody listens.
func TestPassphraseOfAKeyIsShownNowhere(t *testing.T) {
	files := testenv.NewCertificates(t)
	encrypted := func(passphrase string) string {
		text, err := os.ReadFile(files.ClientKey)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		//nolint:staticcheck // the only encryption of keys that pgx reads
		if block, err = x509.EncryptPEMBlock(rand.Reader, block.Type, block.Bytes, []byte(passphrase), x509.PEMCipherAES256); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct{ passphrase, why string }{
		"wrong": {"another word", "database.url"}, "right": {"hunter2", "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			parameters := url.Values{
				"sslmode": {"verify-full"}, "sslrootcert": {files.CA}, "sslcert": {files.ClientCert}, "sslkey": {encrypted(c.passphrase)}, "sslpassword": {"hunter2"},
			}
			wantInAll(t, "postgres://app@127.0.0.1:1/shop?"+parameters.Encode(), c.why)
		})
	}
}

// refusedConfig has sinks whose servers refuse the password, want one, or are not there.
const refusedConfig = `sinks:
  redis-wrong: {url: "redis://app:hunter2@%[1]s"}
  redis-file: {url: "redis://app@%[1]s", password_file: %[2]q}
  redis-none: {url: "redis://%[1]s"}
  stdout: {}
  pulsar: {url: "pulsar://127.0.0.1:1", token_file: %[2]q, timeout: 1500ms}
routes:
  - to:
      - {sink: redis-wrong, destination: a}
      - {sink: redis-file, destination: a}
      - {sink: redis-none, destination: a}
      - {sink: stdout, destination: a}
      - {sink: pulsar, destination: "persistent://t/n/a"}
http: {addr: %[3]q}
log: {level: trace}
tracing: {endpoint: %[4]q}
shutdown_timeout: 100ms
poll: {sweep: 1s}
`

// The brokers refuse the password and the collector of traces its header; some of what that is made of cannot be read at all.
func TestSecretsThatBrokersAndCollectorsRefuseAreShownNowhere(t *testing.T) {
	t.Parallel()
	broker := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"requirepass another-word", "user app on >another-word ~* &* +@all"}})
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer hunter2" {
			t.Errorf("the collector is shown %q", r.Header)
		}
		http.Error(w, "not this one", http.StatusUnauthorized)
	}))
	t.Cleanup(collector.Close)
	databaseURL := testenv.Postgres(t).Database(t)
	conn, addr, folder := migrated(t, databaseURL), testenv.FreeAddress(t), t.TempDir()
	secret, path := filepath.Join(folder, "secret"), filepath.Join(folder, "outboxd.yaml")
	text := fmt.Sprintf(refusedConfig, strings.TrimPrefix(broker.URL, "redis://"), secret, addr, collector.URL)
	for file, text := range map[string]string{secret: "hunter2\n", path: text} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{
		"DATABASE_URL=" + databaseURL, "OUTBOXD_DATABASE_SLOT=cli_refused", "OTEL_BSP_SCHEDULE_DELAY=100",
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20hunter2,hunter2,x hunter2=y,z=%hunter2",
	}
	command := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), program(t), append(args, "--config", path)...)
		cmd.Env = environ
		out, _ := cmd.CombinedOutput() // doctor finds errors
		return string(out)
	}
	command("slot", "create")
	if _, err := conn.Exec(t.Context(), `INSERT INTO outbox (tenant_id, topic, occurred_at, payload, event_metadata)
		VALUES ('a', 'x', now(), '{}', '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}')`); err != nil {
		t.Fatal(err)
	}
	page := func(path string) func() string { return func() string { return get(t, "http://"+addr+path) } }
	runUntil(t, path, environ, []func() string{
		page("/status"), page("/metrics"), page("/readyz"), func() string { return storedErrors(t, conn) },
		func() string { return command("doctor") }, func() string { return command("config", "--explain") },
		func() string { return command("events", "list", "--output", "json") },
		func() string { return command("verify", "--events", "1") },
	}, "WRONGPASS", "NOAUTH", `"sink":"redis-file"`, `"sink":"pulsar","destination"`, "traces could not be sent", "OpenTelemetry cannot use")
}
