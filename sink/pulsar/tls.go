package pulsar

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	client "github.com/apache/pulsar-client-go/pulsar"
)

// tlsConfig returns the settings of every secured connection. The client's own fields are not used: they check the
// certificate of each broker against the host of the service URL, which is wrong as soon as there are two brokers.
// Without a ServerName, crypto/tls takes the host that is dialled.
func (t TLS) tlsConfig() (*tls.Config, error) {
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
		if _, err := t.certificate(); err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.certificate() }
	}
	return c, nil
}

// certificate reads the client's certificate anew, so that a renewed one is used at the next connection.
func (t TLS) certificate() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("load tls.cert_file and tls.key_file: %w", err)
	}
	return &c, nil
}

// authentication returns how the client says who it is, or nil when it does not. A certificate alone is a way to
// authenticate: the broker must be told so by name, or it takes the client for an anonymous one.
func (c Config) authentication() (client.Authentication, error) {
	switch {
	case c.Token != "" || c.TokenFile != "":
		if _, err := c.token(); err != nil {
			return nil, err
		}
		return client.NewAuthenticationTokenFromSupplier(c.token), nil
	case c.Username != "":
		return client.NewAuthenticationBasic(c.Username, c.Password)
	case c.TLS.CertFile != "":
		return client.NewAuthenticationFromTLSCertSupplier(c.TLS.certificate), nil
	default:
		return nil, nil
	}
}
