package pulsar_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
	"github.com/outboxd/outboxd/sink/sinktest"
)

// What the secured server trusts. Who shows nothing is "anonymous", who may do everything, so that the tests that are not
// about credentials need none; who shows something wrong is turned away.
const (
	tokenKey      = "a key of 32 bytes for the tests.."
	basicUser     = "basic-user"
	basicPassword = "basic-secret"
	basicHash     = "$apr1$abcdefgh$3dAbqqgqs4dcZSJ4aZE751"
)

// settings are lines of standalone.conf.
func settings() []string {
	const provider = "org.apache.pulsar.broker.authentication.AuthenticationProvider"
	return []string{
		"authenticationEnabled=true",
		"authorizationEnabled=true",
		"authenticationProviders=" + provider + "Token," + provider + "Tls," + provider + "Basic",
		"anonymousUserRole=anonymous",
		"superUserRoles=anonymous,admin,client," + basicUser,
		"tokenSecretKey=data:;base64," + base64.StdEncoding.EncodeToString([]byte(tokenKey)),
		"basicAuthConf=data:;base64," + base64.StdEncoding.EncodeToString([]byte(basicUser+":"+basicHash)),
		"tlsRequireTrustedClientCertOnConnect=true",
		fmt.Sprintf("maxMessageSize=%d", securedMaxMessageSize),
	}
}

// securedMaxMessageSize is the secured server's limit, which is not Pulsar's default.
const securedMaxMessageSize = 1 << 20

// token returns a JSON web token of the role.
func token(role, key string) string {
	encode := base64.RawURLEncoding.EncodeToString
	body := encode([]byte(`{"alg":"HS256"}`)) + "." + encode(fmt.Appendf(nil, `{"sub":%q}`, role))
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(body)) //nolint:errcheck // never fails, as hash.Hash says
	return body + "." + encode(h.Sum(nil))
}

// wrongToken is signed with another key.
func wrongToken() string { return token("admin", strings.Repeat("w", 32)) }

func intruder(s server) func(testing.TB) sinktest.Intruder {
	return func(t testing.TB) sinktest.Intruder {
		secret := wrongToken()
		wrong := s.unowned(t, func(c *pulsar.Config) { c.Token, c.Timeout = secret, 4*time.Second })
		return sinktest.Intruder{Sink: wrong, Destination: s.topic(t), Secrets: []string{secret, secret[strings.LastIndex(secret, ".")+1:]}}
	}
}

// testCredentials runs the tests that need a secured server.
func testCredentials(t *testing.T, own *testenv.PulsarServer) {
	s, secured := server{own.URL, own.AdminURL}, server{own.TLSURL, own.AdminTLSURL}
	files, others := own.Certificates, testenv.NewCertificates(t)
	certificates := sink.TLS{CAFile: files.CA, CertFile: files.ClientCert, KeyFile: files.ClientKey}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(token("admin", tokenKey)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*pulsar.Config){
		"Token":       func(c *pulsar.Config) { c.Token = token("admin", tokenKey) },
		"TokenFile":   func(c *pulsar.Config) { c.TokenFile = tokenFile },
		"Basic":       func(c *pulsar.Config) { c.Username, c.Password = basicUser, basicPassword },
		"Certificate": func(*pulsar.Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			p, topic := secured.open(t, func(c *pulsar.Config) { c.TLS = certificates }, change), s.topic(t)
			mustTail(t, p, topic, 1)
			mustPublish(t, p, messages(topic, 1, 3, 100))
			newer := secured.open(t, func(c *pulsar.Config) { c.TLS = certificates }, change)
			wantTail(t, newer, topic, 5, 3) // cuts p off, which speaks the protocol by itself
			s.wantIDs(t, topic, 3)

			names, err := secured.open(t, func(c *pulsar.Config) {
				c.TLS, c.Create, c.AdminURL = certificates, true, secured.admin
			}, change).Partitions(t.Context(), "persistent://tenant-"+strings.ToLower(name)+"/outbox/orders")
			if err != nil || len(names) != 1 {
				t.Errorf("create a namespace: %v %v", names, err)
			}
		})
	}
	t.Run("RoleWithoutRights", func(t *testing.T) {
		p := s.open(t, func(c *pulsar.Config) { c.Token = token("nobody", tokenKey) })
		_, err := p.Tail(t.Context(), s.topic(t), 1)
		if sink.ClassOf(err) != sink.Unavailable || sink.BrokerDown(err) || !strings.Contains(err.Error(), "Authorization") {
			t.Errorf("tail: the whole broker %v: %v", sink.BrokerDown(err), err)
		}
	})
	for name, change := range map[string]func(*pulsar.Config){
		"UntrustedServer":          func(c *pulsar.Config) { c.TLS.CAFile = "" },
		"ServerOfAnotherName":      func(c *pulsar.Config) { c.TLS.ServerName = "broker.example.com" },
		"ServerOfAnotherAuthority": func(c *pulsar.Config) { c.TLS.CAFile = others.CA },
		"CertificateOfAnother":     func(c *pulsar.Config) { c.TLS.CertFile, c.TLS.KeyFile = others.ClientCert, others.ClientKey },
		"NoCertificate":            func(c *pulsar.Config) { c.TLS.CertFile, c.TLS.KeyFile = "", "" },
		"WrongPassword":            func(c *pulsar.Config) { c.Username, c.Password = basicUser, "wrong-secret" },
		"TokenOfAnotherKeyOverTLS": func(c *pulsar.Config) { c.Token = wrongToken() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := secured.open(t, func(c *pulsar.Config) { c.TLS, c.Timeout = certificates, 3*time.Second }, change)
			_, err := p.Tail(t.Context(), s.topic(t), 1)
			if sink.ClassOf(err) != sink.Unavailable || !sink.BrokerDown(err) {
				t.Errorf("tail: the whole broker %v: %v", sink.BrokerDown(err), err)
			}
			if strings.Contains(err.Error(), "wrong-secret") || strings.Contains(err.Error(), wrongToken()) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
	t.Run("LimitOfTheBrokerIsLearned", func(t *testing.T) {
		p, topic := s.open(t), s.topic(t)
		mustTail(t, p, topic, 1)
		results := p.Publish(t.Context(), append(messages(topic, 1, 1, securedMaxMessageSize-1000), messages(topic, 2, 2, securedMaxMessageSize)...))
		if len(results) != 2 || results[0] != nil || sink.ClassOf(results[1]) != sink.Rejected || !sink.FateKnown(results[1]) {
			t.Fatalf("results: %v", results)
		}
		s.wantIDs(t, topic, 1)
	})
}

// The server here only shakes hands: the client must not get any further.
func TestAnExpiredCertificateOfTheServerIsRefused(t *testing.T) {
	files := testenv.NewCertificates(t)
	expired, err := tls.LoadX509KeyPair(files.ExpiredCert, files.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{expired}})
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake() // fails, as the client says below
			_ = conn.Close()                 // nobody is at its other end
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
	})
	p := server{url: "pulsar+ssl://" + listener.Addr().String()}.open(t, func(c *pulsar.Config) { c.TLS.CAFile, c.Timeout = files.CA, 2*time.Second })
	_, err = p.Tail(t.Context(), "persistent://public/default/expired", 1)
	if sink.ClassOf(err) != sink.Unavailable || !sink.BrokerDown(err) || !strings.Contains(err.Error(), "certificate has expired") {
		t.Errorf("tail: the whole broker %v: %v", sink.BrokerDown(err), err)
	}
}
