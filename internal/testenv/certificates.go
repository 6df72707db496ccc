package testenv

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"
)

// Certificates are paths of PEM files: an authority made for one server, and what it has signed.
type Certificates struct {
	CA                    string
	ServerCert, ServerKey string
	ExpiredCert           string // of the server's key and name too, and past since an hour
	ClientCert, ClientKey string // of the common name "client"
}

// NewCertificates makes certificates for a test that needs files only.
func NewCertificates(t testing.TB) *Certificates {
	t.Helper()
	c, err := newCertificates(&folder{path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newCertificates writes an authority, a server's certificate for 127.0.0.1 and localhost, an expired one, and a client's, into the folder.
func newCertificates(f *folder) (*Certificates, error) {
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()),
			Subject:      pkix.Name{CommonName: name},
			NotBefore:    time.Now().Add(-time.Hour),
			NotAfter:     time.Now().Add(24 * time.Hour),
			IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
			DNSNames:     []string{"localhost"},
			KeyUsage:     x509.KeyUsageDigitalSignature,
			ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	ca := template("outboxd test authority")
	expired := template("localhost")
	expired.NotBefore, expired.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serverKey, serverErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	clientKey, clientErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	issue := func(name string, subject *x509.Certificate, key *ecdsa.PrivateKey) error {
		signed, err := x509.CreateCertificate(rand.Reader, subject, ca, key.Public(), caKey)
		if err != nil {
			return err
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		return cmp.Or(
			f.write(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})), nil),
			f.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})), nil),
		)
	}
	if err := cmp.Or(serverErr, clientErr); err != nil {
		return nil, err
	}
	err = cmp.Or(issue("ca", ca, caKey), issue("expired", expired, serverKey),
		issue("server", template("localhost"), serverKey), issue("client", template("client"), clientKey))
	return &Certificates{
		CA:         f.file("ca.pem"),
		ServerCert: f.file("server.pem"), ServerKey: f.file("server.key"), ExpiredCert: f.file("expired.pem"),
		ClientCert: f.file("client.pem"), ClientKey: f.file("client.key"),
	}, err
}

// secure adds the listeners with TLS to the broker's settings.
func (p *PulsarServer) secure(lines *[]string, port, adminPort int) (err error) {
	if p.Certificates, err = newCertificates(p.folder); err != nil {
		return err
	}
	p.TLSURL, p.AdminTLSURL = "pulsar+ssl://"+address(port), "https://"+address(adminPort)
	*lines = append(*lines,
		fmt.Sprintf("brokerServicePortTls=%d", port), fmt.Sprintf("webServicePortTls=%d", adminPort),
		"tlsCertificateFilePath="+p.Certificates.ServerCert, "tlsKeyFilePath="+p.Certificates.ServerKey,
		"tlsTrustCertsFilePath="+p.Certificates.CA,
	)
	return nil
}
