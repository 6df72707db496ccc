package config

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outboxd/outboxd/outbox"
)

// check completes the merged configuration and reports what is wrong with its values and between them. What was
// reported before is not reported again.
func (l *loader) check(cfg *Config) {
	l.checkDatabase(&cfg.Database)
	l.checkShards(cfg)
	for _, name := range l.names {
		l.checkSink(join("sinks", name), cfg.Sinks[name])
	}
	if l.options.Need == NeedAll {
		l.checkRoutes(cfg)
	}
	if l.options.Files {
		l.checkFiles(cfg)
	}
	l.checkTogether(cfg)
	l.checkTableLane(cfg)
	l.checkEncrypt(&cfg.Encrypt)
	if cfg.HTTP.Addr != "" {
		l.checkAddr("http.addr", cfg.HTTP.Addr)
	}
	l.checkTracing(cfg.Tracing.Endpoint)
}

// wrong reports a problem of a setting, unless it has one already.
func (l *loader) wrong(path, format string, args ...any) {
	if !slices.ContainsFunc(l.problems, func(p Problem) bool { return p.Setting == path }) {
		l.problem(l.sources.Of(path), path, format, args...)
	}
}

func (l *loader) checkNotEmpty(path, value, mend string) {
	if value == "" {
		l.wrong(path, "must not be empty: %s", mend)
	}
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func (l *loader) checkDatabase(d *Database) {
	if !d.URL.Empty() || l.options.Need != NeedNothing {
		l.checkURL("database.url", d.URL, "postgres", "postgresql")
		l.warnUnverified(d.URL)
	}
	if !slotName.MatchString(d.Slot) {
		l.wrong("database.slot", "%q cannot be a slot's name: use lower-case letters, digits and underscores, 1 to 63", d.Slot)
	}
	schema, table, err := outbox.ParseName(d.Table)
	if err != nil {
		l.wrong("database.table", "%v: write it like public.outbox", err)
	} else {
		l.checkIdentifier("database.table", schema)
		l.checkIdentifier("database.table", table)
	}
	l.checkIdentifier("database.publication", d.Publication)
	l.checkIdentifier("database.schema", d.Schema)
	l.checkNotEmpty("database.columns.id", d.Columns.ID, "every event needs its id")
	if d.DefaultTenant == "" {
		l.checkNotEmpty("database.columns.tenant_id", d.Columns.TenantID, "every event needs a tenant: name its column, or set database.default_tenant")
	}
	l.checkNotEmpty("database.columns.topic", d.Columns.Topic, "every event needs a topic")
	l.checkNotEmpty("database.columns.payload", d.Columns.Payload, "every event needs a body")
	l.checkStatuses(d)
}

// checkIdentifier refuses what PostgreSQL would cut off or cannot hold.
func (l *loader) checkIdentifier(path, name string) {
	if name == "" || len(name) > 63 || strings.ContainsRune(name, 0) {
		l.wrong(path, "%q cannot be a name in PostgreSQL: use 1 to 63 bytes", name)
	}
}

func (l *loader) checkStatuses(d *Database) {
	if d.Columns.Status == "" {
		return
	}
	seen := map[string]string{}
	for _, s := range []struct{ path, value string }{
		{"database.statuses.new", d.Statuses.New},
		{"database.statuses.sent", d.Statuses.Sent},
		{"database.statuses.failed", d.Statuses.Failed},
		{"database.statuses.dead", d.Statuses.Dead},
		{"database.statuses.publishing", d.Statuses.Publishing},
		{"database.statuses.published", d.Statuses.Published},
	} {
		l.checkNotEmpty(s.path, s.value, "name the value of the status column")
		if s.path == "database.statuses.published" && s.value == d.Statuses.Sent {
			continue // both say that it was delivered
		}
		if first, twice := seen[s.value]; twice {
			l.wrong(s.path, "%q is also %s: each status needs a value of its own", s.value, first)
		}
		seen[s.value] = s.path
	}
}

// checkURL reports an address that is missing, cannot be read, or has another scheme. It shows nothing but the scheme.
func (l *loader) checkURL(path string, u URL, schemes ...string) {
	if u.Empty() {
		l.wrong(path, "is missing: set it in the file, by --set, or by the variable %s", strings.Join(l.variablesOf(path), " or "))
		return
	}
	scheme, rest, found := strings.Cut(u.Reveal(), "://")
	if !found || !slices.Contains(schemes, scheme) {
		l.wrong(path, "has the wrong scheme: begin it with %s://", strings.Join(schemes, ":// or "))
		return
	}
	if rest == "" {
		l.wrong(path, "names no host: write %s://host:port", scheme)
		return
	}
	// Several hosts (host1:1,host2:2) are for the client to read; url.Parse refuses them.
	parsed, err := url.Parse(u.Reveal())
	if err != nil && !strings.Contains(rest, ",") || err == nil && cutByPassword(parsed) {
		l.wrong(path, "is not an address: write %s://host:port, and characters like @ / # ? %% in a password as %%40 %%2F %%23 %%3F %%25", scheme)
	}
}

// warnUnverified tells of an address whose server nobody asks to prove that it is the right one, unless a sslmode says that this is meant.
// Source: sslmode and PGSSLMODE, https://www.postgresql.org/docs/current/libpq-connect.html
func (l *loader) warnUnverified(u URL) {
	base, given, err := cutParameters(u)
	if err != nil || given.Has("sslmode") || given.Has("service") || os.Getenv("PGSSLMODE") != "" || os.Getenv("PGSERVICE") != "" {
		return
	}
	_, rest, _ := strings.Cut(base, "://")
	authority, _, _ := strings.Cut(rest[strings.LastIndex(rest, "@")+1:], "/")
	for host := range strings.SplitSeq(cmp.Or(given.Get("host"), authority, os.Getenv("PGHOST")), ",") {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.Trim(host, "[]")
		if ip := net.ParseIP(host); host == "" || host == "localhost" || strings.HasPrefix(host, "/") || ip != nil && ip.IsLoopback() {
			continue
		}
		l.warn(l.sources.Of("database.url"), "database.url", "whether %s is the right server is not checked, and the connection may be a plain one: "+
			"add sslmode=verify-full, or the sslmode that is meant, such as disable", host)
		return
	}
}

// cutByPassword tells whether a / or # in a password has ended the host's part: an @ then stands behind it. What was read as host and
// path is a piece of the password, and a client that cannot reach that host would show it.
func cutByPassword(u *url.URL) bool {
	return u.Fragment != "" || u.Host != "" && strings.Contains(u.EscapedPath(), "@")
}

// variablesOf returns the names in the environment of a setting.
func (l *loader) variablesOf(path string) []string {
	for _, s := range l.all() {
		if s.path != path {
			continue
		}
		names := []string{variable(path)}
		if l.legacyReaches(path) {
			names = append(names, s.legacyNames()...)
		}
		return names
	}
	return nil
}

func (l *loader) checkAddr(path, addr string) {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		var n int
		if n, err = strconv.Atoi(port); err == nil && (n < 0 || n > 65535) {
			err = fmt.Errorf("port %d", n)
		}
	}
	if err != nil {
		l.wrong(path, "%q is not host:port with a port up to 65535: write it like :9090 or 127.0.0.1:9090", addr)
	}
}

func (l *loader) checkTracing(endpoint URL) {
	if endpoint.Empty() {
		return
	}
	l.checkURL("tracing.endpoint", endpoint, "http", "https")
	if u, err := url.Parse(endpoint.Reveal()); err == nil && (u.User != nil || u.RawQuery != "") {
		l.wrong("tracing.endpoint", "holds more than an address: give credentials in OTEL_EXPORTER_OTLP_HEADERS (Authorization=Basic%%20...)")
	}
}

func (l *loader) checkTogether(cfg *Config) {
	if cfg.OnSent == outbox.Mark && cfg.Database.Columns.Status == "" {
		l.wrong("on_sent", "mark needs a status column, and database.columns.status is empty: choose delete or keep")
	}
	if cfg.Batch.MaxBytes > cfg.Memory.Budget {
		l.wrong("batch.max_bytes", "%s is more than memory.budget (%s): lower it or raise the budget", cfg.Batch.MaxBytes, cfg.Memory.Budget)
	}
	if d := cfg.Database.StatementTimeout; d > 0 && d.Std() < time.Second {
		l.wrong("database.statement_timeout", "%s is too short to work with: choose 1s to 1h, or 0s for the server's own", d)
	}
	if i := cfg.Monitor.Interval.Std(); i > 0 && i < time.Second {
		l.wrong("monitor.interval", "%s is too short: choose 1s to 1h, or 0s to switch its line off", cfg.Monitor.Interval)
	}
	if cfg.Retry.Base > cfg.Retry.Max {
		l.wrong("retry.base", "%s is more than retry.max (%s): lower it or raise retry.max", cfg.Retry.Base, cfg.Retry.Max)
	}
}
