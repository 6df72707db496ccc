package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// checkRoutes fills in the route that is meant when there is none, and checks the others.
func (l *loader) checkRoutes(cfg *Config) {
	if len(l.kinds) == 0 {
		l.wrong("sinks", "none is configured: add one, such as sinks: {redis: {url: redis://localhost:6379/0}}")
		return
	}
	if len(cfg.Routes) == 0 && len(cfg.Sinks) == 1 && len(l.kinds) == 1 {
		cfg.Routes = []Route{defaultRoute(l.names[0], l.kinds[l.names[0]])}
		return
	}
	if len(cfg.Routes) == 0 {
		l.wrong("routes", "are missing: with more than one sink (%s) say which events go where", strings.Join(slices.Sorted(maps.Keys(l.kinds)), ", "))
	}
	for i, r := range cfg.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		l.checkNotEmpty(path+".match.tenant", r.Match.Tenant, `write "*" for all`)
		l.checkNotEmpty(path+".match.topic", r.Match.Topic, `write "*" for all`)
		if len(r.To) == 0 {
			l.wrong(path+".to", "is empty: name a sink and a destination")
		}
		for j, to := range r.To {
			l.checkTarget(fmt.Sprintf("%s.to[%d]", path, j), to)
		}
	}
}

func defaultRoute(sink, kind string) Route {
	return Route{
		Match: Match{Tenant: "*", Topic: "*"},
		To:    []Target{{Sink: sink, Destination: defaultDestination(kind)}},
	}
}

// placeholders are what a destination may be made of.
var placeholders = []string{"{tenant}", "{topic}", "{aggregate_type}"}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

func (l *loader) checkTarget(path string, to Target) {
	known := slices.Sorted(maps.Keys(l.kinds))
	if !slices.Contains(known, to.Sink) {
		l.wrong(path+".sink", "there is no sink %q%s: configured are %s", to.Sink, didYouMean(to.Sink, known), strings.Join(known, ", "))
	}
	l.checkNotEmpty(path+".destination", to.Destination, "name the stream or topic")
	for _, found := range placeholder.FindAllString(to.Destination, -1) {
		if !slices.Contains(placeholders, found) {
			l.wrong(path+".destination", "%s is no placeholder%s: known are %s", found, didYouMean(found, placeholders), strings.Join(placeholders, ", "))
		}
	}
	if strings.ContainsAny(placeholder.ReplaceAllString(to.Destination, ""), "{}") {
		l.wrong(path+".destination", "%q has a brace without its partner: close it or remove it", to.Destination)
	}
}
