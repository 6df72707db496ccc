package route

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outboxd/outboxd/event"
)

// Match is a pair of globs over the tenant id and the topic. An empty glob matches everything.
type Match struct {
	Tenant string
	Topic  string
}

// Target is one destination template of one sink.
type Target struct {
	Sink        string // name of a sink
	Destination string // with the placeholders {tenant}, {topic}, {aggregate_type} and {shard}
}

// Rule sends the events that match to each of its targets.
type Rule struct {
	Match  Match
	To     []Target
	Blocks bool // a dead event holds back the later ones of its key
}

// Destination is a place that an event goes to.
type Destination struct {
	Sink string // name of the sink
	Name string // full name, as the broker knows it
}

// ErrUnrouted says that no rule matches an event.
var ErrUnrouted = errors.New("no route matches: add one that does, or drop such events (unrouted: drop)")

// Router applies rules to events. It is not safe for concurrent use: it remembers what it found.
type Router struct {
	rules      []rule
	bySink     map[string][]*target
	byType     bool // a template names the aggregate type
	remembered cache
	keyBuf     []byte
}

type rule struct {
	tenant, topic glob
	targets       []target
	blocks        bool
}

// target is a template in its place.
type target struct {
	place      string // "routes[0].to[1]"
	sink       string
	kind       Kind
	template   template
	separators []string // of all templates of the sink: a tenant must not contain them

	shard  []byte      // what {shard} stands for
	shards int         // how many there are
	apart  placeholder // what tells the shards apart in a name; "" where the table is not split
	owner  string      // the one tenant of a target that names none, when the table is split by tenant
	of     rule        // only what it matches
	others []*target   // of the sink, this one too
}

// New checks the rules and returns their router. kinds are the sinks that exist, by name. Of a table that is split, the router is that of one shard, and rules
// are refused that would let two shards write to one destination. The error names every fault.
func New(rules []Rule, kinds map[string]Kind, of Shard) (*Router, error) {
	r := &Router{}
	var faults []error
	if len(rules) == 0 {
		faults = append(faults, errors.New("routes: there is none, so no event could go anywhere: add one"))
	}
	for i, each := range rules {
		compiled, err := compile(i, each, kinds, of)
		if err != nil {
			faults = append(faults, err)
		}
		if j := slices.IndexFunc(rules[:i], func(earlier Rule) bool { return covers(earlier.Match, each.Match) }); j >= 0 {
			faults = append(faults, fmt.Errorf("routes[%d]: it is never reached, because routes[%d] matches all that it matches: "+
				"put it before that one, or remove it", i, j))
		}
		r.rules = append(r.rules, compiled)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	r.connect()
	return r, r.checkOwners()
}

func compile(i int, r Rule, kinds map[string]Kind, of Shard) (rule, error) {
	compiled := rule{tenant: newGlob(r.Match.Tenant), topic: newGlob(r.Match.Topic), blocks: r.Blocks}
	var faults []error
	if len(r.To) == 0 {
		faults = append(faults, fmt.Errorf("routes[%d].to: it is empty: name a sink and a destination", i))
	}
	for j, to := range r.To {
		place := fmt.Sprintf("routes[%d].to[%d]", i, j)
		if slices.Contains(r.To[:j], to) {
			faults = append(faults, fmt.Errorf("%s: sink %q and destination %q stand there twice: remove one", place, to.Sink, to.Destination))
		}
		t, err := newTarget(place, to, kinds)
		if err == nil {
			err = of.claim(&t, &compiled)
		}
		if err != nil {
			faults = append(faults, err)
		}
		compiled.targets = append(compiled.targets, t)
	}
	return compiled, errors.Join(faults...)
}

func newTarget(place string, to Target, kinds map[string]Kind) (target, error) {
	kind, ok := kinds[to.Sink]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
		return target{}, fmt.Errorf("%s.sink: there is no sink %q: configured are %s", place, to.Sink, known)
	}
	parsed, err := parseTemplate(to.Destination)
	if err == nil {
		err = kind.checkTemplate(parsed)
	}
	if err != nil {
		return target{}, fmt.Errorf("%s.destination: %q: %w", place, to.Destination, err)
	}
	return target{place: place, sink: to.Sink, kind: kind, template: parsed}, nil
}

// connect tells each target what the others of its sink mean to it.
func (r *Router) connect() {
	separators := map[string][]string{}
	r.bySink = map[string][]*target{}
	for _, one := range r.rules {
		for i := range one.targets {
			t := &one.targets[i]
			separators[t.sink] = append(separators[t.sink], t.template.separators()...)
			r.bySink[t.sink] = append(r.bySink[t.sink], t)
			r.byType = r.byType || t.template.uses(aggregateType)
		}
	}
	for _, one := range r.rules {
		for i := range one.targets {
			t := &one.targets[i]
			t.separators = slices.Compact(slices.Sorted(slices.Values(separators[t.sink])))
			t.others = r.bySink[t.sink]
		}
	}
}

// Route returns where the event goes, each destination once, in the order of the rule's targets. It returns ErrUnrouted, or a *NameError when a
// value does not fit into its place at one of the targets. The slice is shared: it must not be changed. A combination of
// tenant, topic and aggregate type that was seen lately costs no allocation.
func (r *Router) Route(ev *event.Event) ([]Destination, error) {
	r.keyBuf = appendCacheKey(r.keyBuf[:0], ev, r.byType)
	if found, ok := r.remembered.get(r.keyBuf); ok {
		return found, unroutedIf(found)
	}
	found, err := r.route(ev)
	if err != nil {
		return nil, err
	}
	r.remembered.put(r.keyBuf, found)
	return found, unroutedIf(found)
}

// unroutedIf turns "nowhere" into its error. A rule always has a target, so nowhere means that no rule matched.
func unroutedIf(found []Destination) error {
	if len(found) == 0 {
		return ErrUnrouted
	}
	return nil
}

// Blocks tells whether a dead event holds back the later ones of its key, by the rule that matches it. It looks through the rules
// each time: it is for what failed.
func (r *Router) Blocks(ev *event.Event) bool {
	matched := r.matching(ev)
	return matched != nil && matched.blocks
}

// route does the work; it returns nil when no rule matches.
func (r *Router) route(ev *event.Event) ([]Destination, error) {
	matched := r.matching(ev)
	if matched == nil {
		return nil, nil
	}
	found := make([]Destination, 0, len(matched.targets))
	for i := range matched.targets {
		t := &matched.targets[i]
		name, err := t.name(ev)
		if err != nil {
			return nil, err
		}
		if d := (Destination{t.sink, name}); !slices.Contains(found, d) {
			found = append(found, d)
		}
	}
	return found, nil
}

// matching returns the first rule that matches the event; nil when none does.
func (r *Router) matching(ev *event.Event) *rule {
	for i := range r.rules {
		if one := &r.rules[i]; one.tenant.match(ev.TenantID) && one.topic.match(ev.Topic) {
			return one
		}
	}
	return nil
}
