package route

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/outboxd/outboxd/event"
)

// Shard is the part of the table whose events a router gets. Two shards must never write to one destination: what the one finds at its end
// says nothing about the events of the other. The zero value is a table that is not split; {shard} stands for 0 there.
type Shard struct {
	Count, Number int
	ByTenant      bool // all events of a tenant are in one shard; else those of a key
}

// claim makes sure that the names of the target belong to one shard each: they hold what tells shards apart.
func (s Shard) claim(t *target, of *rule) error {
	t.shard, t.shards = strconv.AppendInt(nil, int64(s.Number), 10), s.Count
	t.of = rule{tenant: of.tenant, topic: of.topic}
	if s.Count <= 1 {
		return nil
	}
	refuse := func(mend string) error {
		return fmt.Errorf("%s.destination: %q: two shards of the table would write there: %s", t.place, t.template.String(), mend)
	}
	if !s.ByTenant {
		if t.apart = shard; !t.template.uses(shard) {
			return refuse("with shards.by: key it has to hold {shard}")
		}
		return nil
	}
	t.apart = tenant
	switch {
	case t.template.uses(tenant):
	case strings.ContainsAny(string(of.tenant), "*?"):
		return refuse("with shards.by: tenant it has to hold {tenant}, or match.tenant to name one tenant")
	default:
		t.owner = string(of.tenant)
	}
	return nil
}

// Beside lets the router also refuse names that another shard could make by the routes of another router.
func (r *Router) Beside(routes *Router) {
	for _, one := range r.rules {
		for i := range one.targets {
			t := &one.targets[i]
			t.others = slices.Concat(t.others, routes.bySink[t.sink])
		}
	}
}

// checkOwners finds templates of two tenants that make the same names: every event of both would be refused.
func (r *Router) checkOwners() error {
	var faults []error
	for _, one := range r.rules {
		for i := range one.targets {
			t := &one.targets[i]
			if t.owner == "" {
				continue
			}
			for _, o := range t.others {
				if o == t {
					break // the others are told at theirs
				}
				if o.owner != "" && o.owner != t.owner && o.template.String() == t.template.String() && t.meets(o) {
					faults = append(faults, fmt.Errorf("%s.destination: %q: two shards of the table would write there: it is that of tenant %q too, at %s: "+
						"give each tenant its own", t.place, t.template.String(), o.owner, o.place))
					break
				}
			}
		}
	}
	return errors.Join(faults...)
}

// meets tells whether both take a topic, or do not tell topics apart.
func (t *target) meets(o *target) bool {
	return !t.template.uses(topic) || coversGlob(t.of.topic, o.of.topic) || coversGlob(o.of.topic, t.of.topic)
}

// sharedFault says why a name of the target, made for the event, could also be a name that another shard makes; empty when it could not. Each
// template of the sink is asked how it would read the name: names of one template are told apart by what they hold, those of two need not be.
func (t *target) sharedFault(name string, ev *event.Event) string {
	if t.apart == "" {
		return ""
	}
	own := string(t.value(t.apart, ev))
	for _, o := range t.others {
		if other, ok := o.reads(name); ok && other != own {
			return fmt.Sprintf("could be that of %s %q, which another shard may write, by the destination %q (%s)", t.apart, other, o.template, o.place)
		}
	}
	return ""
}

// reads returns what tells shards apart in a name, if the target could have made it.
func (t *target) reads(name string) (apart string, ok bool) {
	values, ok := t.template.read(name)
	if !ok {
		return "", false
	}
	apart, known := t.owner, t.owner != ""
	for i, s := range t.template.places {
		if t.fault(i, values[i]) != "" || !t.takes(s.placeholder, values[i]) {
			return "", false
		}
		if s.placeholder == t.apart {
			if known && values[i] != apart {
				return "", false
			}
			apart, known = values[i], true
		}
	}
	return apart, true
}

// takes tells whether the value can come to the place, by what the rule matches.
func (t *target) takes(p placeholder, value string) bool {
	switch p {
	case tenant:
		return t.of.tenant.match([]byte(value))
	case topic:
		return t.of.topic.match([]byte(value))
	case shard:
		number, err := strconv.ParseUint(value, 10, 31)
		return err == nil && int(number) < t.shards && strconv.FormatUint(number, 10) == value
	default:
		return true
	}
}
