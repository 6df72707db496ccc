package sink

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLS is how a sink's connections are secured.
type TLS struct {
	CAFile     string // PEM file of the authorities to trust; default: the system's
	CertFile   string // PEM file of the client's certificate, read again at each connection; default: none
	KeyFile    string // PEM file of its key
	ServerName string // name that the server's certificate must bear; default: the host that is connected to
	Insecure   bool   // accept any certificate, which protects against nobody
}

// Config reads the files and returns the settings of a connection, TLS 1.2 or later. An error names the setting and the file.
func (t TLS) Config() (*tls.Config, error) {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.Insecure, //nolint:gosec // asked for by name in the configuration
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read tls.ca_file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		if _, err := t.Certificate(); err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.Certificate() }
	}
	return c, nil
}

// Certificate reads the client's certificate anew, so that a renewed one is used at the next connection.
func (t TLS) Certificate() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read tls.cert_file %s and tls.key_file %s: %w", t.CertFile, t.KeyFile, err)
	}
	return &c, nil
}
