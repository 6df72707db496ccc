package redis

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// address is what a URL says.
type address struct {
	kind             kind
	tls              bool
	hosts            []string // host:port, or the path of a socket
	master           string   // name of the master that the sentinels watch
	db               int
	username         string
	password         string
	sentinelUsername string
	sentinelPassword string
}

type kind int

const (
	single kind = iota
	unixSocket
	sentinel
	cluster
)

var schemes = map[string]address{
	"redis":           {kind: single},
	"rediss":          {kind: single, tls: true},
	"unix":            {kind: unixSocket},
	"redis+sentinel":  {kind: sentinel},
	"rediss+sentinel": {kind: sentinel, tls: true},
	"redis+cluster":   {kind: cluster},
	"rediss+cluster":  {kind: cluster, tls: true},
}

// parseURL reads the forms that Config.URL documents. No error holds the URL, which may hold a password.
func parseURL(raw string) (address, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	a, known := schemes[scheme]
	if !ok || !known {
		return a, errors.New("url: want redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
	}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	user, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, hosts = authority[:i+1], authority[i+1:]
	}
	u, err := url.Parse("redis://" + user + "host" + path) // net/url knows one host only
	if err != nil || u.Fragment != "" || strings.Contains(u.RawQuery, "@") || strings.Contains(u.Path, "@") {
		return a, errors.New("url: cannot be read: percent-encode reserved characters in user and password") // and show no part of it
	}
	a.username = u.User.Username()
	a.password, _ = u.User.Password()
	if err := a.setHosts(hosts); err != nil {
		return a, err
	}
	if err := a.setPath(u.Path); err != nil {
		return a, err
	}
	return a, a.setParameters(u.Query())
}

func (a *address) setHosts(hosts string) error {
	if a.kind == unixSocket {
		if hosts != "" {
			return errors.New("url: unix:// takes a path and no host: unix:///path/to/socket")
		}
		return nil
	}
	port := "6379"
	if a.kind == sentinel {
		port = "26379"
	}
	for host := range strings.SplitSeq(hosts, ",") {
		host = cmp.Or(host, "localhost")
		if h, p, err := net.SplitHostPort(host); err == nil {
			host = net.JoinHostPort(h, cmp.Or(p, port))
		} else {
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		a.hosts = append(a.hosts, host)
	}
	if a.kind == single && len(a.hosts) > 1 {
		return errors.New("url: several hosts need redis+sentinel:// or redis+cluster://")
	}
	return nil
}

func (a *address) setPath(path string) error {
	switch a.kind {
	case unixSocket:
		if path == "" || path == "/" {
			return errors.New("url: unix:// without the path of a socket")
		}
		a.hosts = []string{path}
		return nil
	case sentinel:
		a.master, path, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if a.master == "" {
			return errors.New("url: redis+sentinel:// needs the master's name: redis+sentinel://host1,host2/MASTER/0")
		}
	}
	return a.setDatabase(strings.Trim(path, "/"))
}

func (a *address) setDatabase(s string) error {
	if s == "" {
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return errors.New("url: the database is no number")
	}
	if n > 0 && a.kind == cluster {
		return errors.New("url: a cluster has database 0 only")
	}
	a.db = n
	return nil
}

func (a *address) setParameters(q url.Values) error {
	var problems []error
	for name := range q {
		value := q.Get(name)
		switch {
		case name == "db" && a.kind == unixSocket:
			if err := a.setDatabase(value); err != nil {
				problems = append(problems, err)
			}
		case name == "sentinel_username" && a.kind == sentinel:
			a.sentinelUsername = value
		case name == "sentinel_password" && a.kind == sentinel:
			a.sentinelPassword = value
		default:
			problems = append(problems, fmt.Errorf("url: unknown parameter %q: remove it, settings stand beside the URL", name))
		}
	}
	return errors.Join(problems...)
}
