package wal_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
)

// A deadline that passes in the middle of a TLS record must not break the connection.
func TestALargeMessageArrivesWholeOverTLS(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	f := setupOn(t, server.Database(t))
	f.encrypt()
	f.cfg.URL = strings.Replace(f.cfg.URL, "sslmode=disable", "sslmode=require", 1)
	f.create()
	wantGathering(t, f)
	f.largeMessage(8<<20, 500_000)
	if !query[bool](f, "SELECT ssl FROM pg_stat_ssl s JOIN pg_replication_slots r ON r.active_pid = s.pid") {
		t.Error("the stream is not encrypted")
	}
}

// encrypt gives the server a certificate of its own.
func (f *fixture) encrypt() {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(f.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(f.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(f.t, err)
	folder := query[string](f, "SHOW data_directory")
	f.writeOwned(folder, "server.crt", "CERTIFICATE", certificate)
	f.writeOwned(folder, "server.key", "PRIVATE KEY", private)
	f.exec("ALTER SYSTEM SET ssl = on")
	f.exec("SELECT pg_reload_conf()")
	f.waitFor("the server offers TLS", "SELECT current_setting('ssl')::bool")
}

// writeOwned writes a file that belongs to the server's user, as PostgreSQL demands of its key.
func (f *fixture) writeOwned(folder, name, kind string, der []byte) {
	f.t.Helper()
	path := filepath.Join(folder, name)
	must(f.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	info, err := os.Stat(folder)
	must(f.t, err)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		must(f.t, os.Chown(path, int(owner.Uid), int(owner.Gid)))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
