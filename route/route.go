package route

import (
	"errors"
	"fmt"
	"slices"

	"github.com/outboxd/outboxd/event"
)

// Rule sends the events that match to its targets.
type Rule struct {
	Match Match
	To    []Target
}

// Match is a pair of globs; an empty one covers everything.
type Match struct{ Tenant, Topic string }

// Target is a sink and the template of a destination there.
type Target struct {
	Sink        string // its name in the configuration
	Destination string
}

// Destination is where an event goes.
type Destination struct {
	Sink string // the sink's name
	Name string // full name at the broker
}

// ErrUnrouted says that no rule matches the event.
var ErrUnrouted = errors.New("no route matches")

// NameError says that a value of the event does not fit into the name of its destination.
type NameError struct {
	Route int // number of the route, from 1
	Err   error
}

func (e *NameError) Error() string { return fmt.Sprintf("route %d: %v", e.Route, e.Err) }

// Unwrap returns what is wrong with the value.
func (e *NameError) Unwrap() error { return e.Err }

// maxCached bounds the names that are remembered.
const maxCached = 10_000

// Router knows the rules. It remembers the names it has made and is not safe for concurrent use.
type Router struct {
	rules   []rule
	byType  bool // a template uses the aggregate type
	cache   map[string][]Destination
	keyText []byte
}

type rule struct {
	match   Match
	targets []target
}

type target struct {
	sink     string
	template *template
}

// New checks the rules. kinds names the sinks there are. The error joins all faults.
func New(rules []Rule, kinds map[string]Kind) (*Router, error) {
	r := &Router{cache: make(map[string][]Destination)}
	var faults []error
	fault := func(i int, format string, args ...any) {
		faults = append(faults, fmt.Errorf("route %d: %w", i+1, fmt.Errorf(format, args...)))
	}
	catchAll := -1
	for i, one := range rules {
		if catchAll >= 0 {
			fault(i, "route %d matches everything, so this one is never reached: put it before", catchAll+1)
		} else if coversAll(one.Match.Tenant) && coversAll(one.Match.Topic) {
			catchAll = i
		}
		if len(one.To) == 0 {
			fault(i, "it goes nowhere: add a target to its \"to\"")
		}
		compiled := rule{match: one.Match}
		for _, t := range one.To {
			kind, ok := kinds[t.Sink]
			if !ok {
				fault(i, "unknown sink %q: name one of those under sinks", t.Sink)
				continue
			}
			parsed, err := parseTemplate(t.Destination, kind)
			if err != nil {
				fault(i, "destination %q: %w", t.Destination, err)
				continue
			}
			r.byType = r.byType || parsed.uses(aggregateType)
			compiled.targets = append(compiled.targets, target{t.Sink, parsed})
		}
		r.rules = append(r.rules, compiled)
	}
	return r, errors.Join(faults...)
}

// Route returns the event's destinations, each once. The slice is shared and must not be changed. Errors: [ErrUnrouted], *[NameError].
func (r *Router) Route(e *event.Event) ([]Destination, error) {
	r.keyText = append(r.keyText[:0], e.TenantID...)
	r.keyText = append(append(r.keyText, 0), e.Topic...)
	if r.byType && e.AggregateType != nil {
		r.keyText = append(append(r.keyText, 0), e.AggregateType...)
	}
	if known, ok := r.cache[string(r.keyText)]; ok {
		return known, nil
	}
	found, err := r.find(e)
	if err != nil {
		return nil, err
	}
	if len(r.cache) >= maxCached {
		clear(r.cache)
	}
	r.cache[string(r.keyText)] = found
	return found, nil
}

func (r *Router) find(e *event.Event) ([]Destination, error) {
	for i, one := range r.rules {
		if !match(one.match.Tenant, string(e.TenantID)) || !match(one.match.Topic, string(e.Topic)) {
			continue
		}
		var found []Destination
		for _, t := range one.targets {
			name, err := t.template.name(e)
			if err == nil {
				err = t.template.kind.checkName(name)
			}
			if err != nil {
				return nil, &NameError{Route: i + 1, Err: err}
			}
			if d := (Destination{t.sink, name}); !slices.Contains(found, d) {
				found = append(found, d)
			}
		}
		return found, nil
	}
	return nil, ErrUnrouted
}
