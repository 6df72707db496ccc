package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outboxd/outboxd/route"
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
	l.checkOrder(cfg)
}

func defaultRoute(sink, kind string) Route {
	return Route{
		Match: Match{Tenant: "*", Topic: "*"},
		To:    []Target{{Sink: sink, Destination: defaultDestination(kind)}},
	}
}

func (l *loader) checkTarget(path string, to Target) {
	known := slices.Sorted(maps.Keys(l.kinds))
	if !slices.Contains(known, to.Sink) {
		l.wrong(path+".sink", "there is no sink %q%s: configured are %s", to.Sink, didYouMean(to.Sink, known), strings.Join(known, ", "))
		return
	}
	kind := l.kinds[to.Sink]
	if kind == "" {
		return // reported with the sink
	}
	if err := destinationFault(to.Destination, route.Kind(kind)); err != nil {
		l.wrong(path+".destination", "%v", err)
	}
}

// destinationFault returns what the router finds wrong with a destination, without the number of the route.
func destinationFault(destination string, kind route.Kind) error {
	_, err := route.New([]route.Rule{{To: []route.Target{{Sink: "sink", Destination: destination}}}}, map[string]route.Kind{"sink": kind})
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		return errors.Unwrap(joined.Unwrap()[0])
	}
	return err
}

// checkOrder reports what is wrong between the routes, once each of them is right.
func (l *loader) checkOrder(cfg *Config) {
	if slices.ContainsFunc(l.problems, func(p Problem) bool { return strings.HasPrefix(p.Setting, "routes") }) {
		return
	}
	if _, err := cfg.Router(); err != nil {
		l.wrong("routes", "%v", err)
	}
}

// Router makes the router of the configured routes. It fails only on routes that Load has not checked.
func (c *Config) Router() (*route.Router, error) {
	kinds := make(map[string]route.Kind, len(c.Sinks))
	for name, s := range c.Sinks {
		kinds[name] = route.Kind(s.Kind)
	}
	rules := make([]route.Rule, len(c.Routes))
	for i, r := range c.Routes {
		rules[i].Match = route.Match(r.Match)
		for _, to := range r.To {
			rules[i].To = append(rules[i].To, route.Target(to))
		}
	}
	return route.New(rules, kinds)
}
