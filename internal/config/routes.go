package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/shard"
)

// checkRoutes fills in the route that is meant when there is none, and checks the others.
func (l *loader) checkRoutes(cfg *Config) {
	if len(l.kinds) == 0 {
		l.wrong("sinks", "none is configured: add one, such as sinks: {redis: {url: redis://localhost:6379/0}}")
		return
	}
	if len(cfg.Routes) == 0 && len(cfg.Sinks) == len(l.kinds) && l.oneOfEach() {
		if cfg.Shard().Split() && cfg.Shard().By == shard.Key {
			l.wrong("routes", "are missing: with shards.by: key each destination has to hold {shard}, such as outbox:{tenant}:{shard}")
			return
		}
		cfg.Routes = []Route{l.defaultRoute()}
		return
	}
	if len(cfg.Routes) == 0 {
		l.wrong("routes", "are missing: with more than one sink (%s) say which events go where", strings.Join(slices.Sorted(maps.Keys(l.kinds)), ", "))
		return
	}
	l.checkTargets(cfg.Routes)
	l.checkRouter(cfg.Routes, cfg.Shard())
}

// oneOfEach tells whether there is one sink, or one of Redis and one of Pulsar: then there is nothing to choose.
func (l *loader) oneOfEach() bool {
	kinds := slices.Sorted(maps.Values(l.kinds))
	return len(kinds) == 1 || slices.Equal(kinds, []string{KindPulsar, KindRedis})
}

// defaultRoute sends everything to each sink.
func (l *loader) defaultRoute() Route {
	r := Route{Match: Match{Tenant: "*", Topic: "*"}, OnDead: "pass"}
	for _, name := range l.names {
		r.To = append(r.To, Target{Sink: name, Destination: defaultDestination(l.kinds[name])})
	}
	return r
}

// checkTargets reports sinks that do not exist, with the nearest that does.
func (l *loader) checkTargets(routes []Route) {
	known := slices.Sorted(maps.Keys(l.kinds))
	for i, r := range routes {
		for j, to := range r.To {
			if !slices.Contains(known, to.Sink) {
				l.wrong(fmt.Sprintf("routes[%d].to[%d].sink", i, j), "there is no sink %q%s: configured are %s",
					to.Sink, didYouMean(to.Sink, known), strings.Join(known, ", "))
			}
		}
	}
}

// checkRouter reports what the router finds wrong. Its errors begin with the path of the setting, as a problem does.
func (l *loader) checkRouter(routes []Route, of shard.Shard) {
	kinds := map[string]route.Kind{}
	for name, kind := range l.kinds {
		kinds[name] = route.Kind(cmp.Or(kind, KindStdout)) // a sink without a kind is reported already
	}
	_, err := newRouter(routes, kinds, of)
	for _, fault := range split(err) {
		path, text, ok := strings.Cut(fault.Error(), ": ")
		if !ok || !strings.HasPrefix(path, "routes") {
			path, text = "routes", fault.Error()
		}
		l.wrong(path, "%s", text)
	}
}

// split returns the errors that were joined to err, however deep.
func split(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // only a joined error itself, nothing that it wraps
	if !ok && err != nil {
		return []error{err}
	}
	var all []error
	if ok {
		for _, one := range joined.Unwrap() {
			all = append(all, split(one)...)
		}
	}
	return all
}

// Router makes the router of the configured routes. It fails only on routes that Load has not checked.
func (c *Config) Router() (*route.Router, error) {
	return newRouter(c.Routes, c.kinds(), c.Shard())
}

// kinds are those of the sinks, by their names.
func (c *Config) kinds() map[string]route.Kind {
	kinds := make(map[string]route.Kind, len(c.Sinks))
	for name, s := range c.Sinks {
		kinds[name] = route.Kind(s.Kind)
	}
	return kinds
}

// RoutesText is a text that is another one where an event may go to other destinations: what the routes, the columns and the default tenant say, as a hash.
func (c *Config) RoutesText() string {
	routes := slices.Clone(c.Routes)
	for i := range routes {
		routes[i].OnDead = ""
	}
	hash := sha256.New()
	if err := json.NewEncoder(hash).Encode([]any{routes, c.kinds(), c.Database.Columns, c.Database.DefaultTenant}); err != nil {
		panic(err) // texts and lists of them
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

func newRouter(routes []Route, kinds map[string]route.Kind, of shard.Shard) (*route.Router, error) {
	rules := make([]route.Rule, len(routes))
	for i, r := range routes {
		rules[i].Match = route.Match(r.Match)
		rules[i].Blocks = r.OnDead == "block"
		for _, to := range r.To {
			rules[i].To = append(rules[i].To, route.Target(to))
		}
	}
	return route.New(rules, kinds, route.Shard{Count: of.Count, Number: of.Number, ByTenant: of.By == shard.Tenant})
}
