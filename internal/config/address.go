package config

import (
	"encoding/json"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// lifted are parameters of a database's address that are settings here. Where the setting itself is given, it wins.
var lifted = []struct {
	parameter, path string
	driver          bool                // of another program's driver only
	text            func(string) string // as the setting is written
}{
	{"application_name", "database.application_name", false, same},
	{"connect_timeout", "database.connect_timeout", false, seconds},
	{"timeout", "database.connect_timeout", true, seconds},
	{"statement_timeout", "database.statement_timeout", false, postgresTime},
	{"command_timeout", "database.statement_timeout", true, seconds},
	{"keepalives_idle", "database.keepalive", false, seconds},
	{"tcp_keepalives_idle", "database.keepalive", false, seconds},
	{"jit", "database.jit", false, onOff},
}

// ofDrivers are parameters of other programs' drivers and pools without a meaning here.
var ofDrivers = []string{
	"prepared_statement_cache_size", "prepared_statement_name_func", "statement_cache_size", "max_cached_statement_lifetime",
	"max_cacheable_statement_size", "async_fallback", "direct_tls", "pool_size", "max_overflow", "pool_recycle", "pool_timeout", "pool_pre_ping",
	"keepalives", "keepalives_interval", "keepalives_count",
}

func same(s string) string { return s }

// seconds is a number of seconds, which may have a fraction.
func seconds(s string) string {
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) {
		return s + "s"
	}
	return s
}

// postgresTime is a time as PostgreSQL reads its settings: milliseconds without a unit.
func postgresTime(s string) string {
	if _, err := strconv.Atoi(s); err == nil {
		return s + "ms"
	}
	return strings.Replace(s, "min", "m", 1)
}

func onOff(s string) string {
	return strings.NewReplacer("on", "true", "off", "false").Replace(s)
}

// readAddress turns the database's address, in the layer that has the last word on it, into one that PostgreSQL's clients know: without
// the driver that other programs name in it (postgresql+asyncpg://), and with parameters that are settings here made such, in a layer of
// their own.
func (l *loader) readAddress(given []tree) tree {
	t := tree{}
	for _, layer := range slices.Backward(given) {
		if address, ok := layer.get("database.url").(string); ok {
			layer.put("database.url", l.plainPostgres(t, address))
			break
		}
	}
	return t
}

func (l *loader) plainPostgres(t tree, address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	name, _, driver := strings.Cut(scheme, "+")
	if !ok || name != "postgres" && name != "postgresql" {
		return address
	}
	base, query, _ := strings.Cut(rest, "?")
	var kept []string
	for p := range strings.SplitSeq(query, "&") {
		if p = l.parameter(t, p, driver); p != "" {
			kept = append(kept, p)
		}
	}
	address = name + "://" + base
	if kept != nil {
		address += "?" + strings.Join(kept, "&")
	}
	return address
}

// parameter returns the parameter as PostgreSQL's clients know it, or "" where it became a setting or has no meaning.
func (l *loader) parameter(t tree, parameter string, driver bool) string {
	name, value, _ := strings.Cut(parameter, "=")
	name, wrongName := url.QueryUnescape(name)
	plain, wrongValue := url.QueryUnescape(value)
	if wrongName != nil || wrongValue != nil {
		return parameter // which the address as a whole is refused for
	}
	source := l.sources.Of("database.url")
	for _, one := range lifted {
		if one.parameter == name && (driver || !one.driver) {
			l.below(t, one.path, source, one.text(plain))
			return ""
		}
	}
	switch {
	case slices.Contains(ofDrivers, name):
		l.warn(source, "database.url", "its parameter %s has no meaning here and is ignored", name)
		return ""
	case name == "ssl" && driver:
		return "sslmode=" + strings.NewReplacer("true", "require", "false", "disable").Replace(value)
	case name == "server_settings" && driver:
		return l.serverSettings(t, plain, source)
	}
	return parameter
}

// serverSettings takes apart what asyncpg sends to the server, {"application_name": "shop"}.
func (l *loader) serverSettings(t tree, text string, source Source) string {
	var settings map[string]string
	if err := json.Unmarshal([]byte(text), &settings); err != nil {
		l.warn(source, "database.url", `its parameter server_settings is ignored: write it as a JSON object of texts, or its parts as parameters of their own`)
		return ""
	}
	var kept []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if p := l.parameter(t, url.QueryEscape(name)+"="+url.QueryEscape(settings[name]), false); p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "&")
}
