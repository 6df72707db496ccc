package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
)

// certificate writes NAME.crt and NAME.key of 127.0.0.1, signed by itself, which ends so long from now, into a folder that servers may enter.
func certificate(t *testing.T, folder, name string, left time.Duration) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-100 * 24 * time.Hour), NotAfter: time.Now().Add(left), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(folder, name+".crt"), filepath.Join(folder, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: signed}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// openFolder is a folder that other users may enter.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "outboxd-doctor-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

const day = 24 * time.Hour

func TestCertificatesOfPostgresAreSeen(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	r := bare(t, server)
	var data string
	if err := r.conn.QueryRow(t.Context(), `SELECT current_setting('data_directory')`).Scan(&data); err != nil {
		t.Fatal(err)
	}
	owner, err := os.Stat(data) // the key must be the server's own
	if err != nil {
		t.Fatal(err)
	}
	uid := int(owner.Sys().(*syscall.Stat_t).Uid)
	folder := openFolder(t)
	use := func(left time.Duration) (certFile string) {
		t.Helper()
		certFile, keyFile := certificate(t, folder, fmt.Sprintf("pg%d", left/time.Hour+1e6), left)
		for _, file := range []string{certFile, keyFile} {
			if err := os.Chown(file, uid, -1); err != nil {
				t.Fatal(err)
			}
		}
		r.exec("ALTER SYSTEM SET ssl_cert_file = '" + certFile + "'")
		r.exec("ALTER SYSTEM SET ssl_key_file = '" + keyFile + "'")
		r.exec("ALTER SYSTEM SET ssl = on")
		r.exec("SELECT pg_reload_conf()")
		return certFile
	}
	plain := r.url
	secured := func(mode string) { r.url = strings.Replace(plain, "sslmode=disable", "sslmode="+mode, 1) }
	sees := func(level Level, saw string) {
		t.Helper()
		r.eventually("the server has read its certificate: "+saw, func() bool {
			for _, f := range r.examine() {
				if f.Check == "tls" && f.Level == level && strings.Contains(f.Saw, saw) {
					return true
				}
			}
			return false
		})
	}
	secured("require")
	use(40 * day)
	sees(OK, "of PostgreSQL is valid until")
	use(10*day + time.Hour)
	sees(Warning, "in 10 days")
	file := use(-2 * day)
	sees(Error, "has expired")
	secured("verify-full&sslrootcert=" + file)
	findings := r.examine()
	wantFinding(t, findings, "tls", Error, "certificate has expired", "ssl_cert_file")
	if len(findings) != 1 {
		t.Errorf("findings:\n%s", text(findings))
	}
	r.url = plain
	r.want("tls", OK, "stays on this machine", "")
}

func TestCertificatesOfRedisAreSeen(t *testing.T) {
	for left, want := range map[time.Duration]struct {
		level Level
		saw   string
	}{100 * day: {OK, "is valid until"}, 5*day + time.Hour: {Warning, "in 5 days"}, -day: {Error, "has expired"}} {
		certFile, keyFile := certificate(t, openFolder(t), "redis", left)
		port := strings.TrimPrefix(testenv.FreeAddress(t), "127.0.0.1:")
		testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{
			"tls-port " + port, "tls-cert-file " + certFile, "tls-key-file " + keyFile, "tls-ca-cert-file " + certFile, "tls-auth-clients no", "appendonly yes",
		}})
		findings := examineSink(t, redisAt("rediss://127.0.0.1:"+port, func(s *Sink) { s.Redis.TLS = sink.TLS{CAFile: certFile} }))
		wantFinding(t, findings, "tls", want.level, want.saw, "")
		if got := worst(findings); got != want.level {
			t.Errorf("a certificate with %s left: %s\n%s", left, got, text(findings))
		}
	}
}

func TestCertificatesOfPulsarAreSeen(t *testing.T) {
	server := testenv.NewPulsar(t, testenv.PulsarOptions{TLS: true})
	files := server.Certificates // for a day
	s := Sink{Name: "pulsar", Pulsar: &pulsar.Config{
		URL: server.TLSURL, AdminURL: server.AdminTLSURL, TLS: sink.TLS{CAFile: files.CA, CertFile: files.ClientCert, KeyFile: files.ClientKey},
	}}
	findings := examineSink(t, s)
	wantFinding(t, findings, "connection", OK, "Pulsar answers", "")
	for _, of := range []string{strings.TrimPrefix(server.TLSURL, "pulsar+ssl://"), strings.TrimPrefix(server.AdminTLSURL, "https://"), files.ClientCert} {
		wantFinding(t, findings, "tls", Warning, of, "renew")
	}
}

func TestACertificateIsJudgedByTheFirstOfItsChainToExpire(t *testing.T) {
	wantFinding(t, []Finding{plainFinding(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5432})}, "tls", Info, "10.0.0.1:5432 is not encrypted", "sslmode=verify-full")
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotBefore: at.Add(-day), NotAfter: at.Add(90 * day)}
	authority := &x509.Certificate{NotBefore: at.Add(-day), NotAfter: at.Add(3*day + time.Hour)}
	wantFinding(t, []Finding{certificateFinding("x", []*x509.Certificate{leaf, authority}, at)}, "tls", Warning, "in 3 days", "renew")
	wantFinding(t, []Finding{certificateFinding("x", []*x509.Certificate{leaf}, at.Add(-2*day))}, "tls", Error, "is not valid before 2026-10-31", "clocks")
}
