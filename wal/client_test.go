package wal_test

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/wal"
)

// attempt opens an ordinary connection and closes it.
func attempt(t *testing.T, url string) error {
	t.Helper()
	config, err := wal.Config{URL: url}.ConnConfig()
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		return err
	}
	return conn.Close(t.Context())
}

// cutOff tells whether the server hung up before what it said was read: in TLS 1.3 it looks at a client's certificate when the client has gone on.
func cutOff(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF)
}

func TestTLSParametersOfTheURLWorkAgainstARealServer(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{TLS: true, Settings: []string{"listen_addresses = '127.0.0.1,127.0.0.2'"}})
	f := setupOn(t, server.Database(t))
	f.exec("CREATE ROLE client LOGIN REPLICATION SUPERUSER")
	pems, others := server.Certificates, testenv.NewCertificates(t)
	as := func(role, parameters string) string {
		url := strings.Replace(f.cfg.URL, "postgres@", role+"@", 1)
		return strings.Replace(url, "sslmode=disable", parameters, 1)
	}
	byName := func(url string) string { return strings.Replace(url, "127.0.0.1", "localhost", 1) }
	byOther := func(url string) string { return strings.Replace(url, "127.0.0.1", "127.0.0.2", 1) } // a name that no certificate has
	foreign := "&sslcert=" + others.ClientCert + "&sslkey=" + others.ClientKey
	client := "&sslcert=" + pems.ClientCert + "&sslkey=" + pems.ClientKey
	for _, c := range []struct{ url, refused string }{
		{as("postgres", "sslmode=require"), ""},
		{as("postgres", "sslmode=verify-ca&sslrootcert="+pems.CA), ""},
		{as("postgres", "sslmode=verify-ca&sslrootcert="+others.CA), "certificate"},
		{byName(as("postgres", "sslmode=verify-full&sslrootcert="+pems.CA)), ""},
		{as("postgres", "sslmode=verify-full&sslrootcert="+pems.CA), ""},
		{as("postgres", "sslmode=verify-full&sslrootcert="+others.CA), "certificate"},
		{as("client", "sslmode=verify-full&sslrootcert="+pems.CA+client), ""},
		{as("client", "sslmode=verify-full&sslrootcert="+pems.CA), "certificate"},
		{as("client", "sslmode=verify-full&sslrootcert="+pems.CA+foreign), "tls"},
		{as("client", "sslmode=require"+client), ""},
		{as("client", "sslmode=disable"), "pg_hba.conf"},
		{byOther(as("postgres", "sslmode=verify-ca&sslrootcert="+pems.CA)), ""},
		{byOther(as("postgres", "sslmode=verify-full&sslrootcert="+pems.CA)), "not 127.0.0.2"},
		{as("postgres", "sslmode=require&sslrootcert=/nowhere/ca.pem"), "/nowhere/ca.pem"},
		{as("postgres", "sslmode=sometimes"), "sslmode"},
	} {
		err := attempt(t, c.url)
		for tries := 0; cutOff(err) && tries < 100; tries++ {
			err = attempt(t, c.url)
		}
		if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v, want %q", c.url, err, c.refused)
		}
	}
	f.cfg.URL = as("client", "sslmode=verify-full&sslrootcert="+pems.CA+client)
	f.create()
	f.open(0)
	if !query[bool](f, "SELECT ssl AND client_dn LIKE '%client%' FROM pg_stat_ssl s JOIN pg_replication_slots r ON r.active_pid = s.pid") {
		t.Error("the stream has no certificate of its own")
	}

	f.exec("ALTER SYSTEM SET ssl_cert_file = 'expired.crt'")
	f.exec("SELECT pg_reload_conf()")
	f.waitFor("the server has read its certificate", "SELECT current_setting('ssl_cert_file') = 'expired.crt'")
	for _, mode := range []string{"verify-ca", "verify-full"} {
		if err := attempt(t, as("postgres", "sslmode="+mode+"&sslrootcert="+pems.CA)); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%s with an expired certificate: %v", mode, err)
		}
	}
}

func TestSessionsAreMadeAsTheSettingsSay(t *testing.T) {
	f := setup(t)
	f.cfg.Client = wal.Client{ApplicationName: "shop outbox", ConnectTimeout: 3 * time.Second, Keepalive: 42 * time.Second}
	config, err := f.cfg.SessionConfig()
	if err != nil {
		t.Fatal(err)
	}
	if config.ConnectTimeout != 3*time.Second {
		t.Errorf("connecting may take %s", config.ConnectTimeout)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, conn)
	for name, want := range map[string]string{
		"application_name": "shop outbox", "tcp_keepalives_idle": "42", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3", "TimeZone": "UTC",
	} {
		var got string
		if err := conn.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
}

// Of two parameters whose names are the same for the server it takes the one that comes last.
func TestTheTextFormOfValuesIsFixedWhateverTheURLAndTheEnvironmentSay(t *testing.T) {
	t.Setenv("PGTZ", "Europe/Berlin")
	f := setup(t)
	f.cfg.URL += "&datestyle=German&INTERVALSTYLE=iso_8601&Extra_Float_Digits=0&lock_timeout=7"
	session, err := f.cfg.SessionConfig()
	if err != nil {
		t.Fatal(err)
	}
	replication, err := f.cfg.ReplicationConfig()
	if err != nil {
		t.Fatal(err)
	}
	for connection, parameters := range map[string]map[string]string{"session": session.RuntimeParams, "replication": replication.RuntimeParams} {
		for name, want := range wal.TextFormat {
			var got []string
			for given, value := range parameters {
				if strings.EqualFold(given, name) {
					got = append(got, value)
				}
			}
			if len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s is asked for as %q, want %q alone", connection, name, got, want)
			}
		}
	}
	f.create()
	f.open(0)
}
