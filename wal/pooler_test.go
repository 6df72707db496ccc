package wal_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/wal"
)

func TestPoolerIsRefusedUnlessASessionIsOneClients(t *testing.T) {
	url := testenv.Postgres(t).Database(t)
	for _, c := range []struct {
		mode, settings string
		refused        bool
	}{
		{"session", "", false},
		{"transaction", "", true},
		{"statement", "", true},
		{"transaction", "server_round_robin = 1", true},
		{"transaction", "server_reset_query_always = 1", true},
	} {
		t.Run(strings.TrimSpace(c.mode+" "+c.settings), func(t *testing.T) {
			err := checkPooler(t, pgbouncer(t, url, "pool_mode = "+c.mode, c.settings))
			if !c.refused {
				if err != nil {
					t.Error(err)
				}
				return
			}
			checks := wal.CheckErrors(err)
			if len(checks) != 1 || checks[0].Check != wal.CheckThroughPooler || !strings.Contains(checks[0].Mend, "pool_mode = session") {
				t.Errorf("want a CheckError that names the mend, got %v", err)
			}
		})
	}
}

// In a busy pool each statement of a client may find another session, and two clients need not meet in one.
func TestBusyPoolerIsSeenThrough(t *testing.T) {
	url := testenv.Postgres(t).Database(t)
	for mode, refused := range map[string]bool{"session": false, "transaction": true} {
		t.Run(mode, func(t *testing.T) {
			through := pgbouncer(t, url, "pool_mode = "+mode, "default_pool_size = 20")
			keepBusy(t, through, 6)
			for range 5 {
				if err := checkPooler(t, through); (err != nil) != refused {
					t.Errorf("refused: %v, want %v", err, refused)
				}
			}
		})
	}
}

// What PgBouncer 1.18 makes of a replication connection: it refuses its parameters, or passes an ordinary connection.
func TestPoolerThatPassesNoReplicationIsNamed(t *testing.T) {
	f := setup(t)
	f.publish()
	for settings, problem := range map[string]string{
		"":                              "refuses the parameters",
		"ignore_startup_parameters = *": "dropped the parameter replication",
	} {
		settings = strings.ReplaceAll(settings, "*", "extra_float_digits,bytea_output,IntervalStyle,client_min_messages,lock_timeout,replication")
		cfg := f.cfg
		cfg.URL = pgbouncer(t, f.cfg.URL, settings)
		_, created := wal.CreateSlot(t.Context(), cfg)
		_, opened := wal.Open(t.Context(), cfg, 0)
		for call, err := range map[string]error{"create slot": created, "open": opened} {
			checks := wal.CheckErrors(err)
			if len(checks) != 1 || checks[0].Check != wal.CheckThroughPooler || !strings.Contains(checks[0].Problem, problem) {
				t.Errorf("%s with %q: want a CheckError, got %v", call, settings, err)
			}
		}
	}
}

func TestServerItselfIsNoPooler(t *testing.T) {
	conn := dial(t, testenv.Postgres(t).Database(t))
	err := wal.CheckPooler(t.Context(), conn, func(context.Context) (*pgx.Conn, error) {
		t.Error("a second connection was opened")
		return nil, context.Canceled
	})
	if err != nil {
		t.Error(err)
	}
}

func checkPooler(t *testing.T, url string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	connect := func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, url) }
	return wal.CheckPooler(ctx, dial(t, url), connect)
}

// keepBusy runs transactions over n connections until the test ends.
func keepBusy(t *testing.T, url string, n int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range n {
		conn := dial(t, url)
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := conn.Exec(ctx, "SELECT pg_sleep(0.002)", pgx.QueryExecModeSimpleProtocol); err != nil && ctx.Err() == nil {
					t.Errorf("keep busy: %v", err)
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		stop()
		all.Wait()
	})
}

// pgbouncer starts a PgBouncer before the database and returns the URL through it.
func pgbouncer(t *testing.T, url string, settings ...string) string {
	t.Helper()
	server, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	address := testenv.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	database := fmt.Sprintf("%s = host=%s port=%d user=%s", server.Database, server.Host, server.Port, server.User)
	if server.Password != "" { // an empty one is a syntax error
		database += fmt.Sprintf(" password='%s'", server.Password)
	}
	lines := append([]string{
		"[databases]", database,
		"[pgbouncer]", "listen_addr = 127.0.0.1", "listen_port = " + port, "unix_socket_dir =", "auth_type = any",
	}, settings...)
	file := filepath.Join(t.TempDir(), "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{file}
	if os.Getuid() == 0 {
		args = []string{"-u", "nobody", file} // it refuses to be root, and reads its file before that
	}
	var log bytes.Buffer
	cmd := exec.Command(pgbouncerProgram(t), args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails where it has ended already
		_ = cmd.Wait()         // says that it was killed
		if t.Failed() {
			t.Logf("pgbouncer: %s", log.String())
		}
	})
	eventually(t, "pgbouncer listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		hangUp(conn)
		return true
	})
	return "postgres://" + server.User + "@" + address + "/" + server.Database + "?sslmode=disable"
}

// pgbouncerProgram finds PgBouncer, which Debian puts where only root looks. Where there is none the test is skipped, but not in CI.
func pgbouncerProgram(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	testenv.Lacks(t, "PgBouncer")
	return ""
}
