package redis_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

// authority issues certificates into a folder.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	dir, err := os.MkdirTemp("", "outboxd-tls-") // the server may run as another user, who cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a := &authority{dir: dir}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.issue(t, "ca", template)
	return a
}

// issue writes NAME.crt and NAME.key. The first certificate is the authority's own.
func (a *authority) issue(t *testing.T, name string, template *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert == nil {
		a.key = key
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, name+".crt", "CERTIFICATE", der)
	a.write(t, name+".key", "PRIVATE KEY", keyDER)
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	content := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(a.file(name), content, 0o644); err != nil { // a test's key
		t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func TestTLSWithClientCertificate(t *testing.T) {
	a := newAuthority(t)
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	a.issue(t, "server", &x509.Certificate{Subject: pkix.Name{CommonName: "redis"}, DNSNames: []string{"redis.test"}, ExtKeyUsage: usage})
	a.issue(t, "client", &x509.Certificate{Subject: pkix.Name{CommonName: "outboxd"}, ExtKeyUsage: usage})
	port := freePort(t)
	testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{
		fmt.Sprintf("tls-port %d", port), "tls-cert-file " + a.file("server.crt"), "tls-key-file " + a.file("server.key"),
		"tls-ca-cert-file " + a.file("ca.crt"), "tls-auth-clients yes",
	}})
	good := redis.TLS{CAFile: a.file("ca.crt"), CertFile: a.file("client.crt"), KeyFile: a.file("client.key"), ServerName: "redis.test"}
	url := fmt.Sprintf("rediss://127.0.0.1:%d/0", port)

	s, stream := opened(t, redis.Config{URL: url, TLS: good}), newStream(t)
	mustTail(t, s, stream)
	mustPublish(t, s, batch(stream, 1, 500))
	if entries := mustTail(t, s, stream); len(entries) != 500 {
		t.Fatalf("tail of %d entries, want 500", len(entries))
	}

	for name, c := range map[string]struct {
		change func(*redis.TLS)
		says   string
	}{
		"unknown authority":     {func(c *redis.TLS) { c.CAFile = "" }, "certificate"},
		"another name":          {func(c *redis.TLS) { c.ServerName = "" }, "127.0.0.1"},
		"no client certificate": {func(c *redis.TLS) { c.CertFile, c.KeyFile = "", "" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := redis.Config{URL: url, TLS: good}
			c.change(&cfg.TLS)
			_, err := opened(t, cfg).Tail(t.Context(), stream, 1)
			if sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), c.says) {
				t.Errorf("class %s: %v", sink.ClassOf(err), err)
			}
		})
	}
	insecure := opened(t, redis.Config{URL: url, TLS: redis.TLS{Insecure: true, CertFile: good.CertFile, KeyFile: good.KeyFile}})
	mustTail(t, insecure, stream)
}

func TestUnreadableTLSFilesAreNamed(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []redis.TLS{{CAFile: "/nowhere/ca.pem"}, {CAFile: empty}, {CertFile: "/nowhere/c.pem", KeyFile: "/nowhere/k.pem"}} {
		_, err := redis.New(redis.Config{URL: "rediss://localhost", TLS: c})
		if err == nil || !strings.Contains(err.Error(), ".pem") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
