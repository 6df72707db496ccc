package pulsar

import (
	client "github.com/apache/pulsar-client-go/pulsar"
)

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
		return client.NewAuthenticationFromTLSCertSupplier(c.TLS.Certificate), nil
	default:
		return nil, nil
	}
}
