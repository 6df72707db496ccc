package config

import (
	"strings"

	"github.com/outboxd/outboxd/sink"
)

func (l *loader) checkSink(path string, s Sink) {
	switch {
	case s.Redis != nil:
		l.checkRedis(path, s.Redis)
	case s.Pulsar != nil:
		l.checkPulsar(path, s.Pulsar)
	}
}

func (l *loader) checkRedis(path string, r *Redis) {
	l.checkURL(path+".url", r.URL, "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
	l.checkTLS(path+".tls", r.TLS, strings.HasPrefix(r.URL.Reveal(), "rediss"), "begin the url with rediss")
	if !r.Password.Empty() && r.PasswordFile != "" {
		l.wrong(path+".password_file", "is given beside password: keep one")
	}
	if r.MaxLen > 0 && r.MaxLen < sink.MaxBatch {
		l.wrong(path+".maxlen", "%d would cut off the batch that a restart goes by: choose 0, or %d and more", r.MaxLen, sink.MaxBatch)
	}
}

func (l *loader) checkPulsar(path string, p *Pulsar) {
	l.checkURL(path+".url", p.URL, "pulsar", "pulsar+ssl")
	if strings.Contains(p.URL.Reveal(), "@") {
		l.wrong(path+".url", "must hold no credentials: use token, token_file, or username and password")
	}
	secured := strings.HasPrefix(p.URL.Reveal(), "pulsar+ssl://") || strings.HasPrefix(p.AdminURL.Reveal(), "https://")
	l.checkTLS(path+".tls", p.TLS, secured, "begin the url with pulsar+ssl:// or admin_url with https://")
	if !p.AdminURL.Empty() {
		l.checkURL(path+".admin_url", p.AdminURL, "http", "https")
	} else if p.Create {
		l.wrong(path+".create", "needs %s.admin_url: set it, or create tenants and namespaces yourself", path)
	}
	if p.Timeout <= p.AckStall {
		l.wrong(path+".timeout", "%s is not longer than ack_stall (%s): raise it", p.Timeout, p.AckStall)
	}
	l.checkPulsarCredentials(path, p)
}

func (l *loader) checkPulsarCredentials(path string, p *Pulsar) {
	basic := p.Username != "" || !p.Password.Empty()
	switch {
	case !p.Token.Empty() && p.TokenFile != "":
		l.wrong(path+".token_file", "is given beside token: keep one")
	case basic && (!p.Token.Empty() || p.TokenFile != ""):
		l.wrong(path+".username", "is given beside a token: keep one way to authenticate")
	case basic && (p.Username == "" || p.Password.Empty()):
		l.wrong(path+".username", "needs password, and password needs username: give both or none")
	}
}

// checkTLS reports settings that are incomplete or would have no effect.
func (l *loader) checkTLS(path string, t TLS, secured bool, mend string) {
	if (t.CertFile == "") != (t.KeyFile == "") {
		l.wrong(path, "has only one of cert_file and key_file: give both or none")
	}
	if t != (TLS{}) && !secured {
		l.wrong(path, "is given, but the connection is not secured: %s", mend)
	}
}
