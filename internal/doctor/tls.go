package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"slices"
	"time"
)

// expirySoon is how long before its end a certificate is told. A renewal by hand takes days.
const expirySoon = 30 * 24 * time.Hour

// certificateFinding says when the first certificate of the chain to expire does.
func certificateFinding(whose string, chain []*x509.Certificate, at time.Time) Finding {
	if len(chain) == 0 {
		return found(Info, "tls", "no certificate of "+whose+" was seen", "", "")
	}
	first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	end := first.NotAfter.UTC().Format(time.DateTime) + "Z"
	why := "beyond that no connection is made by those who check it"
	mend := "renew the certificate, and let its server read it again"
	switch left := first.NotAfter.Sub(at); {
	case at.Before(first.NotBefore):
		return found(Error, "tls", fmt.Sprintf("the certificate of %s is not valid before %sZ", whose, first.NotBefore.UTC().Format(time.DateTime)),
			"no connection is made by those who check it", "set the clocks right, or renew the certificate")
	case left <= 0:
		return found(Error, "tls", fmt.Sprintf("the certificate of %s has expired on %s", whose, end), why, mend)
	case left < expirySoon:
		return found(Warning, "tls", fmt.Sprintf("the certificate of %s expires on %s, in %d days", whose, end, int(left.Hours()/24)), why, mend)
	default:
		return ok("tls", "the certificate of %s is valid until %s", whose, end)
	}
}

// checkCertificates connects to each address as config says, but for checking the certificate: an expired one is what it looks for.
func checkCertificates(ctx context.Context, addrs []string, config *tls.Config) (findings []Finding) {
	for _, addr := range addrs {
		chain, err := certificatesOf(ctx, addr, config)
		if err != nil {
			findings = append(findings, found(Warning, "tls", "the certificate of "+addr+" was not seen: "+err.Error(), "it may be about to expire", "see that the server listens there with TLS"))
			continue
		}
		findings = append(findings, certificateFinding(addr, chain, now()))
	}
	return findings
}

func certificatesOf(ctx context.Context, addr string, config *tls.Config) ([]*x509.Certificate, error) {
	look := config.Clone()
	look.InsecureSkipVerify = true // nothing is sent over this connection
	if host, _, err := net.SplitHostPort(addr); err == nil && look.ServerName == "" {
		look.ServerName = host
	}
	d := tls.Dialer{Config: look}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates, nil //nolint:forcetypeassert // a tls.Dialer says so
}

// certificateFile looks at the certificate that outboxd itself shows, if there is one.
func certificateFile(whose, file string) []Finding {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // the sink could not be opened, which is told
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			chain = append(chain, c)
		}
	}
	return []Finding{certificateFinding(whose+" ("+file+")", chain, now())}
}
