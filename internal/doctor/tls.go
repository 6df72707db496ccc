package doctor

import (
	"crypto/x509"
	"fmt"
	"time"
)

// expirySoon is how long before its end a certificate is told. A renewal by hand takes days.
const expirySoon = 30 * 24 * time.Hour

// certificateFinding says when the first certificate of the chain to expire does.
func certificateFinding(whose string, chain []*x509.Certificate, at time.Time) Finding {
	if len(chain) == 0 {
		return found(Info, "tls", "no certificate of "+whose+" was seen", "", "")
	}
	first := chain[0]
	for _, c := range chain[1:] {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
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
