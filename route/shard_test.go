package route

import (
	"errors"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/event"
)

func TestRulesThatLetTwoShardsWriteToOneDestinationAreRefused(t *testing.T) {
	byTenant, byKey := Shard{Count: 3, ByTenant: true}, Shard{Count: 3}
	for name, c := range map[string]struct {
		of   Shard
		rule Rule
		want string // "": it is accepted
	}{
		"not split":                 {Shard{}, Rule{To: to("redis", "all")}, ""},
		"one shard":                 {Shard{Count: 1}, Rule{To: to("redis", "all")}, ""},
		"tenant named":              {byTenant, Rule{To: to("redis", "outbox:{tenant}")}, ""},
		"tenant not named":          {byTenant, Rule{To: to("redis", "outbox:{topic}")}, `routes[0].to[0].destination: "outbox:{topic}"`},
		"shard in tenant's place":   {byTenant, Rule{To: to("redis", "outbox:{shard}")}, "has to hold {tenant}, or match.tenant to name one tenant"},
		"one tenant matched":        {byTenant, Rule{Match: Match{Tenant: "acme"}, To: to("redis", "outbox:{topic}")}, ""},
		"several tenants matched":   {byTenant, Rule{Match: Match{Tenant: "acm?"}, To: to("redis", "outbox:{topic}")}, "has to hold {tenant}"},
		"second target is at fault": {byTenant, Rule{To: append(to("redis", "{tenant}"), to("stdout", "all")...)}, "routes[0].to[1].destination"},
		"shard named":               {byKey, Rule{To: to("redis", "outbox:{shard}")}, ""},
		"shard not named":           {byKey, Rule{Match: Match{Tenant: "acme"}, To: to("redis", "outbox:{tenant}:{topic}")}, "it has to hold {shard}"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New([]Rule{c.rule}, allKinds, c.of)
			if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestOneNameOfTwoTenantsIsRefused(t *testing.T) {
	byTenant := Shard{Count: 2, ByTenant: true}
	of := func(tenant, topic, sink, name string) Rule {
		return Rule{Match: Match{Tenant: tenant, Topic: topic}, To: to(sink, name)}
	}
	for name, c := range map[string]struct {
		of    Shard
		rules []Rule
		want  string
	}{
		"two tenants":     {byTenant, []Rule{of("acme", "", "redis", "orders"), of("beta", "", "redis", "orders")}, `routes[1].to[0].destination: "orders": two shards`},
		"not split":       {Shard{}, []Rule{of("acme", "", "redis", "orders"), of("beta", "", "redis", "orders")}, ""},
		"one tenant":      {byTenant, []Rule{of("acme", "a*", "redis", "orders"), of("acme", "", "redis", "orders")}, ""},
		"two sinks":       {byTenant, []Rule{of("acme", "", "redis", "orders"), of("beta", "", "stdout", "orders")}, ""},
		"two names":       {byTenant, []Rule{of("acme", "", "redis", "orders"), of("beta", "", "redis", "others")}, ""},
		"same templates":  {byTenant, []Rule{of("acme", "", "redis", "x:{topic}"), of("beta", "b*", "redis", "x:{topic}")}, `routes[1].to[0].destination: "x:{topic}"`},
		"types alone":     {byTenant, []Rule{of("acme", "a", "redis", "{aggregate_type}"), of("beta", "b", "redis", "{aggregate_type}")}, "two shards"},
		"told apart late": {byTenant, []Rule{of("acme", "a*", "redis", "x:{topic}"), of("beta", "b*", "redis", "x:{topic}")}, ""},
	} {
		_, err := New(c.rules, allKinds, c.of)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestShardStandsForItsNumber(t *testing.T) {
	wantDestinations(t, only(t, "redis", "x:{shard}"), eventOf("a", "b", "c"), Destination{"redis", "x:0"})
	r, err := New([]Rule{{To: to("redis", "x:{shard}:{topic}")}}, allKinds, Shard{Count: 12, Number: 11})
	if err != nil {
		t.Fatal(err)
	}
	wantDestinations(t, r, eventOf("a", "b", "c"), Destination{"redis", "x:11:b"})
}

func TestNameThatAnotherShardCouldMakeIsRejected(t *testing.T) {
	byTenant, byKey := Shard{Count: 2, ByTenant: true}, Shard{Count: 2}
	crossed := []Rule{{Match: Match{Topic: "x*"}, To: to("redis", "{topic}:{tenant}")}, {To: to("redis", "{tenant}:{topic}")}}
	for name, c := range map[string]struct {
		of       Shard
		rules    []Rule
		ev       *event.Event
		rejected bool
	}{
		"tenant and topic change places":     {byTenant, crossed, eventOf("beta", "x1", ""), true},
		"... where the other takes it not":   {byTenant, crossed, eventOf("acme", "orders", ""), false},
		"... and back":                       {byTenant, crossed, eventOf("x1", "beta", ""), true},
		"... not split":                      {Shard{}, crossed, eventOf("beta", "x1", ""), false},
		"topic looks like a shard":           {byKey, []Rule{{Match: Match{Topic: "1"}, To: to("redis", "x:{topic}:{shard}")}, {To: to("redis", "x:{shard}:{topic}")}}, eventOf("a", "1", ""), true},
		"... but of no shard that there is":  {byKey, []Rule{{Match: Match{Topic: "7"}, To: to("redis", "x:{topic}:{shard}")}, {To: to("redis", "x:{shard}:{topic}")}}, eventOf("a", "7", ""), false},
		"another sink":                       {byTenant, []Rule{{Match: Match{Topic: "x*"}, To: to("redis", "{topic}:{tenant}")}, {To: to("stdout", "{tenant}:{topic}")}}, eventOf("beta", "x1", ""), false},
		"its own names are its own":          {byTenant, []Rule{{To: to("pulsar", "persistent://{tenant}/outbox/{topic}")}}, eventOf("a", "b", ""), false},
		"a tenant with a head of a template": {byTenant, []Rule{{Match: Match{Tenant: "vip"}, To: to("redis", "vip:{topic}")}, {To: to("redis", "{tenant}:{topic}")}}, eventOf("vip", "b", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := New(c.rules, allKinds, c.of)
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Route(c.ev)
			if _, ok := errors.AsType[*NameError](err); ok != c.rejected || !ok && err != nil {
				t.Errorf("got %v, rejected should be %v", err, c.rejected)
			}
		})
	}
}

func TestNameThatAnotherShardMakesByTheRoutesIsRejectedBesideThem(t *testing.T) {
	of := Shard{Count: 2, ByTenant: true}
	routes, err := New([]Rule{{To: to("redis", "{tenant}:{topic}")}}, allKinds, of)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New([]Rule{{To: to("redis", "{topic}:{tenant}")}}, allKinds, of)
	if err != nil {
		t.Fatal(err)
	}
	r.Beside(routes)
	if found, err := r.Route(eventOf("acme", "beta", "")); err == nil {
		t.Errorf("it goes to %v, where the routes send tenant beta", found)
	}
	wantDestinations(t, r, eventOf("acme", "acme", ""), Destination{"redis", "acme:acme"})
}

// FuzzTwoShardsNeverMakeOneName takes two templates of one sink and two events of different tenants, in different shards.
func FuzzTwoShardsNeverMakeOneName(f *testing.F) {
	f.Add(true, "{topic}:{tenant}", "{tenant}:{topic}", "x", "b", "c", "x")
	f.Add(false, "x:{topic}:{shard}", "x:{shard}:{topic}", "a", "1", "b", "0")
	f.Add(false, "{tenant}:{shard}:{topic}", "{shard}", "a", "1:0:b", "a:0:1", "b")
	f.Add(true, "{tenant}", "{tenant}:{topic}", "a:b", "x", "a", "b")
	f.Fuzz(func(t *testing.T, byTenant bool, template1, template2, tenant1, topic1, tenant2, topic2 string) {
		if tenant1 == tenant2 {
			return
		}
		rules := []Rule{{Match: Match{Topic: "first*"}, To: to("redis", template1)}, {To: to("redis", template2)}}
		var names []string
		for number, ev := range []*event.Event{eventOf(tenant1, topic1, "t"), eventOf(tenant2, topic2, "t")} {
			for _, first := range []string{"", "first"} {
				ev.Topic = append([]byte(first), ev.Topic...)
				r, err := New(rules, allKinds, Shard{Count: 2, Number: number, ByTenant: byTenant})
				if err != nil {
					return
				}
				name := ""
				if found, err := r.Route(ev); err == nil {
					name = found[0].Name
				}
				names = append(names, name)
			}
		}
		for _, a := range names[:2] {
			for _, b := range names[2:] {
				if a != "" && a == b {
					t.Errorf("two shards make %q by %q and %q", a, template1, template2)
				}
			}
		}
	})
}
