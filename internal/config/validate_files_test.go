package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
)

func TestFilesThatCannotBeUsedAreNamedWithTheMend(t *testing.T) {
	pems := testenv.NewCertificates(t)
	nonsense := filepath.Join(t.TempDir(), "nonsense.pem")
	if err := os.WriteFile(nonsense, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	const database, tls = "DATABASE_URL=postgres://db/shop?sslmode=verify-full&", "OUTBOXD_SINKS_REDIS_TLS_"
	for _, c := range []struct {
		environ []string
		want    string // with PLACE for the path of the file
		file    string
	}{
		{[]string{tls + "CA_FILE=/nowhere/ca.pem"}, tls + "CA_FILE: sinks.redis.tls.ca_file: PLACE cannot be read: no such file or directory: name a file that is there", "/nowhere/ca.pem"},
		{[]string{tls + "CA_FILE=" + nonsense}, tls + "CA_FILE: sinks.redis.tls.ca_file: PLACE holds no certificate in PEM: name the file of the authority", nonsense},
		{[]string{tls + "CERT_FILE=" + nonsense, tls + "KEY_FILE=" + pems.ClientKey}, tls + "CERT_FILE: sinks.redis.tls.cert_file: PLACE holds no certificate in PEM: name the client's certificate", nonsense},
		{[]string{tls + "CERT_FILE=" + pems.ClientCert, tls + "KEY_FILE=" + folder}, tls + "KEY_FILE: sinks.redis.tls.key_file: PLACE cannot be read: is a directory: name a file that is there", folder},
		{[]string{tls + "CERT_FILE=" + pems.ClientCert, tls + "KEY_FILE=" + pems.ServerKey}, tls + "KEY_FILE: sinks.redis.tls.key_file: PLACE holds no key in PEM that belongs to the certificate: name the key that it was made with, not encrypted", pems.ServerKey},
		{[]string{"OUTBOXD_SINKS_REDIS_PASSWORD_FILE=/nowhere/pw"}, "OUTBOXD_SINKS_REDIS_PASSWORD_FILE: sinks.redis.password_file: PLACE cannot be read: no such file or directory: name a file that is there", "/nowhere/pw"},
		{[]string{"PULSAR_SERVICE_URL=pulsar://h:1", "OUTBOXD_SINKS_PULSAR_TOKEN_FILE=/nowhere/token"}, "OUTBOXD_SINKS_PULSAR_TOKEN_FILE: sinks.pulsar.token_file: PLACE cannot be read: no such file or directory: name a file that is there", "/nowhere/token"},
		{[]string{database + "passfile=/nowhere/pgpass"}, "DATABASE_URL: database.url: passfile: PLACE cannot be read: no such file or directory: name a file that is there", "/nowhere/pgpass"},
		{[]string{database + "sslrootcert=/nowhere/ca.pem"}, "DATABASE_URL: database.url: sslrootcert: PLACE cannot be read: no such file or directory: name a file that is there", "/nowhere/ca.pem"},
		{[]string{database + "sslcert=" + pems.ClientCert + "&sslkey=" + nonsense}, "DATABASE_URL: database.url: sslkey: PLACE holds no key in PEM that belongs to the certificate: name the key that it was made with, not encrypted", nonsense},
		{[]string{database + "sslcert=" + pems.ClientCert}, "DATABASE_URL: database.url: has only one of sslcert and sslkey: give both or none", ""},
	} {
		environ := append([]string{"DATABASE_URL=postgres://db/shop", "REDIS_URL=rediss://cache"}, c.environ...)
		if strings.HasPrefix(c.environ[0], "DATABASE_URL") {
			environ = environ[1:]
		}
		_, _, err := Load(Options{Environ: environ, Files: true})
		if want := "configuration: " + strings.Replace(c.want, "PLACE", c.file, 1); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if _, _, err := Load(Options{Environ: environ}); err != nil && c.file != "" {
			t.Errorf("without looking at files: %v", err)
		}
	}
	good := []string{
		"REDIS_URL=rediss://cache", tls + "CA_FILE=" + pems.CA, tls + "CERT_FILE=" + pems.ClientCert, tls + "KEY_FILE=" + pems.ClientKey,
		database + "sslrootcert=" + pems.CA + "&sslcert=" + pems.ClientCert + "&sslkey=" + pems.ClientKey,
	}
	if _, _, err := Load(Options{Environ: good, Files: true}); err != nil {
		t.Error(err)
	}
}

// A file that outboxd's user may not read is told apart from one that is not there. Tests may run as root, who may read everything.
func TestAFileWithoutTheRightToReadItSaysSo(t *testing.T) {
	got := unreadable(&os.PathError{Op: "open", Path: "/run/secrets/key.pem", Err: syscall.EACCES})
	if want := "may not be read by the user that outboxd runs as: change its owner or its mode"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
