package redis_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

// secured starts a server that shows the certificate and wants one of its clients, and returns its URL.
func secured(t *testing.T, pems *testenv.Certificates, certificate string) string {
	port := freePort(t)
	testenv.NewRedis(t, testenv.RedisOptions{Settings: tlsSettings(pems, certificate, port)})
	return fmt.Sprintf("rediss://127.0.0.1:%d/0", port)
}

func tlsSettings(pems *testenv.Certificates, certificate string, port int) []string {
	return []string{
		fmt.Sprintf("tls-port %d", port), "tls-cert-file " + certificate, "tls-key-file " + pems.ServerKey, "tls-ca-cert-file " + pems.CA, "tls-auth-clients yes",
	}
}

func TestTLSWithClientCertificate(t *testing.T) {
	pems, others := testenv.NewCertificates(t), testenv.NewCertificates(t)
	url, expired := secured(t, pems, pems.ServerCert), secured(t, pems, pems.ExpiredCert)
	good := sink.TLS{CAFile: pems.CA, CertFile: pems.ClientCert, KeyFile: pems.ClientKey}

	s, stream := opened(t, redis.Config{URL: url, TLS: good}), newStream(t)
	mustTail(t, s, stream)
	mustPublish(t, s, batch(stream, 1, 500))
	if entries := mustTail(t, s, stream); len(entries) != 500 {
		t.Fatalf("tail of %d entries, want 500", len(entries))
	}
	mustTail(t, opened(t, redis.Config{URL: strings.Replace(url, "127.0.0.1", "localhost", 1), TLS: good}), stream)

	for name, c := range map[string]struct {
		url    string
		change func(*sink.TLS)
		says   string
	}{
		"unknown authority":      {url, func(c *sink.TLS) { c.CAFile = "" }, "unknown authority"},
		"another authority":      {url, func(c *sink.TLS) { c.CAFile = others.CA }, "unknown authority"},
		"another name":           {url, func(c *sink.TLS) { c.ServerName = "redis.test" }, "redis.test"},
		"expired":                {expired, func(*sink.TLS) {}, "expired"},
		"no client certificate":  {url, func(c *sink.TLS) { c.CertFile, c.KeyFile = "", "" }, ""},
		"a client of another CA": {url, func(c *sink.TLS) { c.CertFile, c.KeyFile = others.ClientCert, others.ClientKey }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := redis.Config{URL: c.url, TLS: good}
			c.change(&cfg.TLS)
			_, err := opened(t, cfg).Tail(t.Context(), stream, 1)
			if sink.ClassOf(err) != sink.Unavailable || !strings.Contains(err.Error(), c.says) {
				t.Errorf("class %s: %v", sink.ClassOf(err), err)
			}
		})
	}
	for _, url := range []string{url, expired} {
		mustTail(t, opened(t, redis.Config{URL: url, TLS: sink.TLS{Insecure: true, CertFile: good.CertFile, KeyFile: good.KeyFile}}), stream)
	}
}

// A certificate is renewed by writing its files anew, while outboxd runs.
func TestRenewedClientCertificateIsUsedAtTheNextConnection(t *testing.T) {
	pems, others := testenv.NewCertificates(t), testenv.NewCertificates(t)
	dir := t.TempDir()
	used := sink.TLS{CAFile: pems.CA, CertFile: filepath.Join(dir, "client.pem"), KeyFile: filepath.Join(dir, "client.key")}
	write := func(from *testenv.Certificates) {
		t.Helper()
		for file, source := range map[string]string{used.CertFile: from.ClientCert, used.KeyFile: from.ClientKey} {
			content, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(others)
	s, stream := opened(t, redis.Config{URL: secured(t, pems, pems.ServerCert), TLS: used}), newStream(t)
	if _, err := s.Tail(t.Context(), stream, 1); sink.ClassOf(err) != sink.Unavailable {
		t.Fatalf("a certificate of another authority: %v", err)
	}
	write(pems)
	mustTail(t, s, stream)
	mustPublish(t, s, batch(stream, 1, 3))
}

func TestUnreadableTLSFilesAreNamed(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []sink.TLS{{CAFile: "/nowhere/ca.pem"}, {CAFile: empty}, {CertFile: "/nowhere/c.pem", KeyFile: "/nowhere/k.pem"}} {
		_, err := redis.New(redis.Config{URL: "rediss://localhost", TLS: c})
		if err == nil || !strings.Contains(err.Error(), ".pem") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
