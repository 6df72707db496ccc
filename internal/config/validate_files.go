package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// checkFiles reports files that cannot be read or do not hold what they are named for. Their contents are in no message.
func (l *loader) checkFiles(cfg *Config) {
	l.checkDatabaseFiles(cfg.Database.URL)
	if l.options.Need != NeedAll {
		return
	}
	for _, name := range l.names {
		path := join("sinks", name)
		switch s := cfg.Sinks[name]; {
		case s.Redis != nil:
			l.readable(path+".password_file", "", s.Redis.PasswordFile)
			l.checkTLSFiles(path+".tls", s.Redis.TLS)
		case s.Pulsar != nil:
			l.readable(path+".token_file", "", s.Pulsar.TokenFile)
			l.checkTLSFiles(path+".tls", s.Pulsar.TLS)
		}
	}
}

func (l *loader) checkTLSFiles(path string, t TLS) {
	l.checkAuthorities(path+".ca_file", "", t.CAFile)
	l.checkPair(path+".cert_file", path+".key_file", "", "", t.CertFile, t.KeyFile)
}

// checkDatabaseFiles reports the files that parameters of the address name.
func (l *loader) checkDatabaseFiles(address URL) {
	_, parameters, err := cutParameters(address)
	if err != nil {
		return // reported already, or read by the client
	}
	const path = "database.url"
	l.readable(path, "passfile: ", parameters.Get("passfile")) // the client goes on without a password where it is not there
	cert, key := parameters.Get("sslcert"), parameters.Get("sslkey")
	if (cert == "") != (key == "") {
		l.wrong(path, "has only one of sslcert and sslkey: give both or none")
		return
	}
	if root := parameters.Get("sslrootcert"); root != "system" {
		l.checkAuthorities(path, "sslrootcert: ", root)
	}
	if parameters.Get("sslpassword") == "" { // the client decrypts the key
		l.checkPair(path, path, "sslcert: ", "sslkey: ", cert, key)
	}
}

// cutParameters returns what stands before the parameters of an address, and those.
func cutParameters(address URL) (base string, parameters url.Values, err error) {
	base, query, _ := strings.Cut(address.Reveal(), "?")
	parameters, err = url.ParseQuery(query)
	return base, parameters, err
}

// readable returns what the file holds, or reports why it cannot be read. what begins the message.
func (l *loader) readable(path, what, file string) ([]byte, bool) {
	if file == "" {
		return nil, false
	}
	text, err := os.ReadFile(file)
	if err != nil {
		l.wrong(path, "%s%s %s", what, file, unreadable(err))
	}
	return text, err == nil
}

// unreadable says why a file cannot be read, and the mend.
func unreadable(err error) string {
	if os.IsPermission(err) {
		return "may not be read by the user that outboxd runs as: change its owner or its mode"
	}
	return fmt.Sprintf("cannot be read: %v: name a file that is there", pathless(err))
}

func (l *loader) checkAuthorities(path, what, file string) {
	if text, ok := l.readable(path, what, file); ok && !x509.NewCertPool().AppendCertsFromPEM(text) {
		l.wrong(path, "%s%s holds no certificate in PEM: name the file of the authority", what, file)
	}
}

// checkPair reports a certificate and a key that cannot be read or do not belong to each other.
func (l *loader) checkPair(certPath, keyPath, certWhat, keyWhat, certFile, keyFile string) {
	cert, certOK := l.readable(certPath, certWhat, certFile)
	key, keyOK := l.readable(keyPath, keyWhat, keyFile)
	if !certOK || !keyOK {
		return
	}
	if !x509.NewCertPool().AppendCertsFromPEM(cert) {
		l.wrong(certPath, "%s%s holds no certificate in PEM: name the client's certificate", certWhat, certFile)
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		l.wrong(keyPath, "%s%s holds no key in PEM that belongs to the certificate: name the key that it was made with, not encrypted", keyWhat, keyFile)
	}
}
