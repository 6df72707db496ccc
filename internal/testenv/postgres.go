package testenv

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions say what server to start.
type PostgresOptions struct {
	Version  int       // major version, 12 to 18; 0 takes OUTBOXD_TEST_POSTGRES_VERSION, else the newest installed one, else a pinned one
	Settings []string  // lines of postgresql.conf, such as "wal_sender_timeout = 5s"; they win over this package's
	TLS      bool      // also take connections with TLS, see Certificates; the role "client" needs the client's certificate
	Fsync    bool      // whether writes reach the disk before a commit returns; without it only a crash of the machine can lose any
	Disk     int64     // size in bytes of a file system in memory for its data, which FillDisk fills; 0 for none. It needs the right to mount
	Clock    bool      // whether StepClock moves its wall clock. It needs libfaketime
	Progress io.Writer // told what is downloaded; nil for standard error
}

// PostgresServer is a running PostgreSQL with trust authentication and the superuser postgres.
type PostgresServer struct {
	URL   string // postgres://postgres@127.0.0.1:PORT/postgres?sslmode=disable
	Major int    // version, as 15
	Bin   string // folder of initdb, postgres and pg_ctl (and psql, where installed); empty for a server given by URL

	Certificates *Certificates // with PostgresOptions.TLS; ssl_cert_file = 'expired.crt' makes the server show the expired one
	environ      []string      // of a clock of its own
	clockOwner   *account      // who reads the file that StepClock writes; nil for this process's user
	server
}

// Postgres returns the server that the tests of this process share.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	return shared.postgres.get(t, "PostgreSQL", func() (*PostgresServer, error) {
		if given := os.Getenv("OUTBOXD_TEST_POSTGRES_URL"); given != "" {
			return givenPostgres(given)
		}
		return StartPostgres(context.Background(), PostgresOptions{})
	})
}

// NewPostgres starts a server of the test's own, for kill -9 and for special settings. The test's end removes it.
func NewPostgres(t testing.TB, o PostgresOptions) *PostgresServer {
	t.Helper()
	s := own(t, "PostgreSQL", func(ctx context.Context) (*PostgresServer, error) { return StartPostgres(ctx, o) })
	s.owner = t
	return s
}

// StartPostgres starts a server for something that is no test. Its caller closes it; Kill, Stop and Start panic where they fail.
func StartPostgres(ctx context.Context, o PostgresOptions) (*PostgresServer, error) {
	binaries, err := findPostgres(ctx, o)
	if err != nil {
		return nil, err
	}
	return attempts(ctx, func(ctx context.Context) (*PostgresServer, error) { return startPostgres(ctx, binaries, o) })
}

func givenPostgres(given string) (*PostgresServer, error) {
	p := &PostgresServer{URL: given, server: server{name: "PostgreSQL"}}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, given)
	if err != nil {
		return nil, fmt.Errorf("connect to the server of OUTBOXD_TEST_POSTGRES_URL: %w", err)
	}
	var number int
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&number)
	p.Major = number / 10000
	return p, cmp.Or(err, conn.Close(ctx))
}

func startPostgres(ctx context.Context, binaries postgresBinaries, o PostgresOptions) (*PostgresServer, error) {
	return newPostgres(ctx, binaries, func(ctx context.Context, p *PostgresServer, owner *account, port int) error {
		return p.create(ctx, owner, port, o)
	})
}

// newPostgres makes a server that create fills and starts.
func newPostgres(ctx context.Context, binaries postgresBinaries, create func(context.Context, *PostgresServer, *account, int) error) (*PostgresServer, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	owner, err := postgresAccount()
	if err != nil {
		return nil, err
	}
	f, err := newFolder("postgres", owner)
	if err != nil {
		return nil, err
	}
	p := &PostgresServer{
		URL:   "postgres://postgres@" + address(ports[0]) + "/postgres?sslmode=disable",
		Major: binaries.major,
		Bin:   binaries.bin,
		server: server{
			name: "PostgreSQL", folder: f, limit: time.Minute,
			stop: syscall.SIGINT, discard: syscall.SIGQUIT, // fast and immediate shutdown
		},
	}
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	if err := create(ctx, p, owner, ports[0]); err != nil {
		return nil, abandon(p, err)
	}
	return p, nil
}

// create makes the data folder and starts the server.
func (p *PostgresServer) create(ctx context.Context, owner *account, port int, o PostgresOptions) error {
	if err := p.adoptPrograms(owner); err != nil {
		return err
	}
	data := p.folder.file(dataName)
	if err := p.folder.write(logName, "", owner); err != nil {
		return err
	}
	if err := p.mount(o.Disk, owner); err != nil {
		return err
	}
	err := p.folder.finish(ctx, p.program(owner, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"))
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, p.logTail())
	}
	if o.TLS {
		lines, err := p.secure(data, owner)
		if err != nil {
			return fmt.Errorf("secure PostgreSQL: %w", err)
		}
		o.Settings = append(lines, o.Settings...)
	}
	if err := p.configure(port, o); err != nil {
		return fmt.Errorf("configure PostgreSQL: %w", err)
	}
	if o.Clock {
		if p.environ, err = p.clock(owner); err != nil {
			return err
		}
	}
	return p.serve(ctx, owner)
}

// adoptPrograms puts the programs into the folder where the server's user may not run them from their place.
func (p *PostgresServer) adoptPrograms(owner *account) error {
	if owner == nil || strings.HasPrefix(p.Bin, "/usr/") {
		return nil
	}
	// The cache folder lies in a home that the server's user may not enter.
	bin, err := p.folder.adopt(filepath.Dir(p.Bin), "postgres")
	if err != nil {
		return fmt.Errorf("copy PostgreSQL's programs: %w", err)
	}
	p.Bin = filepath.Join(bin, "bin")
	return nil
}

func (p *PostgresServer) program(owner *account, name string, args ...string) command {
	return command{
		path: filepath.Join(p.Bin, name), args: args, dir: p.folder.path, owner: owner,
		env: []string{"HOME=" + p.folder.path, "LC_ALL=C"}, log: p.folder.file(logName),
	}
}

// serve starts the server on its data folder.
func (p *PostgresServer) serve(ctx context.Context, owner *account) error {
	p.command = func() command {
		c := p.program(owner, "postgres", "-D", p.folder.file(dataName))
		c.env = append(c.env, p.environ...)
		return c
	}
	p.ready = func(ctx context.Context) error { return p.query(ctx, "SELECT 1") }
	return p.start(ctx)
}

// secure puts certificates into the data folder, asks the role "client" for one, and returns the settings that use them.
func (p *PostgresServer) secure(data string, owner *account) (settings []string, err error) {
	if p.Certificates, err = newCertificates(p.folder); err != nil {
		return nil, err
	}
	hba := filepath.Join(data, "pg_hba.conf")
	rules, err := os.ReadFile(hba)
	if err != nil {
		return nil, err
	}
	const clients = "hostssl all client all cert\nhost all client all reject\n"
	if err := os.WriteFile(hba, append([]byte(clients), rules...), 0o600); err != nil {
		return nil, err
	}
	for name, from := range map[string]string{
		"server.crt": p.Certificates.ServerCert, "server.key": p.Certificates.ServerKey, "expired.crt": p.Certificates.ExpiredCert, "root.crt": p.Certificates.CA,
	} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = p.folder.write(filepath.Join(dataName, name), string(text), owner)
		}
		if err != nil {
			return nil, err
		}
	}
	return []string{"ssl = on", "ssl_ca_file = 'root.crt'"}, nil
}

// configure writes the server's settings.
func (p *PostgresServer) configure(port int, o PostgresOptions) error {
	flush := "off"
	if o.Fsync {
		flush = "on"
	}
	return p.set(append([]string{
		"listen_addresses = '127.0.0.1'",
		fmt.Sprintf("port = %d", port),
		"unix_socket_directories = '" + p.folder.path + "'",
		"dynamic_shared_memory_type = mmap", // files of the data folder, so that a killed server leaves none elsewhere
		"wal_level = logical",
		"max_wal_senders = 200",
		"max_replication_slots = 200",
		"max_connections = 500",
		"fsync = " + flush,
		"full_page_writes = " + flush,
	}, o.Settings...)...)
}

// set appends to postgresql.conf, where the last line of a name counts.
func (p *PostgresServer) set(lines ...string) error {
	file, err := os.OpenFile(filepath.Join(p.folder.file(dataName), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	return cmp.Or(err, file.Close())
}

// query runs one statement in a session of its own.
func (p *PostgresServer) query(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql, args...)
	return cmp.Or(err, conn.Close(ctx))
}

// DatabaseURL returns the URL of a database of the server.
func (p *PostgresServer) DatabaseURL(name string) string {
	u, err := url.Parse(p.URL)
	if err != nil {
		panic(fmt.Sprintf("testenv: URL of a server: %v", err)) // pgx has connected by it
	}
	u.Path = "/" + name
	return u.String()
}
