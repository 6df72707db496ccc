package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/event"
)

var allKinds = map[string]Kind{"pulsar": Pulsar, "redis": Redis, "stdout": Stdout}

func to(sink, destination string) []Target { return []Target{{sink, destination}} }

// router is one over rules that must be right.
func router(t testing.TB, rules ...Rule) *Router {
	t.Helper()
	r, err := New(rules, allKinds, Shard{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// only is a router with one template.
func only(t testing.TB, sink, destination string) *Router {
	t.Helper()
	return router(t, Rule{To: to(sink, destination)})
}

func eventOf(tenant, topic, aggregateType string) *event.Event {
	return &event.Event{TenantID: []byte(tenant), Topic: []byte(topic), AggregateType: []byte(aggregateType)}
}

func wantDestinations(t *testing.T, r *Router, ev *event.Event, want ...Destination) {
	t.Helper()
	for range 2 { // the second time from memory
		got, err := r.Route(ev)
		if err != nil {
			t.Fatalf("tenant %q, topic %q: %v", ev.TenantID, ev.Topic, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("tenant %q, topic %q go to %v, want %v", ev.TenantID, ev.Topic, got, want)
		}
	}
}

func TestFirstRuleThatMatchesWins(t *testing.T) {
	r := router(t,
		Rule{Match: Match{"acme", "order.*"}, To: to("pulsar", "persistent://{tenant}/outbox/{topic}")},
		Rule{Match: Match{"", "audit"}, To: to("redis", "audit")},
		Rule{Match: Match{"*", "*"}, To: to("redis", "outbox:{tenant}:{topic}")},
	)
	wantDestinations(t, r, eventOf("acme", "order.created", ""), Destination{"pulsar", "persistent://acme/outbox/order.created"})
	wantDestinations(t, r, eventOf("acme", "audit", ""), Destination{"redis", "audit"})
	wantDestinations(t, r, eventOf("acme", "orders", ""), Destination{"redis", "outbox:acme:orders"})
	wantDestinations(t, r, eventOf("Größe", "東京", ""), Destination{"redis", "outbox:Größe:東京"})
}

func TestEventGoesToEachTargetOfItsRuleOnce(t *testing.T) {
	r := router(t, Rule{To: []Target{
		{"redis", "t:{tenant}"}, {"pulsar", "persistent://{tenant}/ns/{aggregate_type}-{topic}"}, {"redis", "t:{topic}"},
	}})
	wantDestinations(t, r, eventOf("a", "b", "c"),
		Destination{"redis", "t:a"}, Destination{"pulsar", "persistent://a/ns/c-b"}, Destination{"redis", "t:b"})
	wantDestinations(t, r, eventOf("a", "a", "c"),
		Destination{"redis", "t:a"}, Destination{"pulsar", "persistent://a/ns/c-a"})
}

func TestEventThatNoRuleMatchesIsUnrouted(t *testing.T) {
	r := router(t, Rule{Match: Match{"acme", ""}, To: to("redis", "x")})
	for range 2 {
		if _, err := r.Route(eventOf("globex", "orders", "")); !errors.Is(err, ErrUnrouted) {
			t.Errorf("got %v", err)
		}
	}
	wantDestinations(t, r, eventOf("acme", "orders", ""), Destination{"redis", "x"})
}

func TestAggregateTypeDecidesOnlyWhereATemplateNamesIt(t *testing.T) {
	r := only(t, "redis", "{aggregate_type}")
	wantDestinations(t, r, eventOf("a", "b", "order"), Destination{"redis", "order"})
	wantDestinations(t, r, eventOf("a", "b", "invoice"), Destination{"redis", "invoice"})
	wantNameError(t, r, &event.Event{TenantID: []byte("a"), Topic: []byte("b")}, "aggregate_type", "is NULL")
	wantNameError(t, r, eventOf("a", "b", ""), "aggregate_type", "is empty")
	wantDestinations(t, only(t, "redis", "{topic}"), &event.Event{TenantID: []byte("a"), Topic: []byte("b")}, Destination{"redis", "b"})
}

func TestNullIsRememberedApartFromValues(t *testing.T) {
	r := only(t, "redis", "{tenant}")
	wantDestinations(t, r, &event.Event{TenantID: []byte("x")}, Destination{"redis", "x"})
	wantNameError(t, r, &event.Event{Topic: []byte("x")}, "tenant", "is NULL")
}

func wantNameError(t *testing.T, r *Router, ev *event.Event, placeholder, reason string) {
	t.Helper()
	for range 2 {
		got, err := r.Route(ev)
		bad, ok := errors.AsType[*NameError](err)
		if !ok {
			t.Errorf("tenant %q, topic %q, type %q: %v, %v; want %q", ev.TenantID, ev.Topic, ev.AggregateType, got, err, reason)
			return
		}
		if bad.Placeholder != placeholder || !strings.Contains(bad.Reason, reason) || got != nil {
			t.Errorf("got %v: %v, want %s %s", got, err, placeholder, reason)
		}
	}
}

func TestValueThatLeavesItsPlaceIsRejected(t *testing.T) {
	for _, c := range []struct{ sink, template, tenant, topic, placeholder, reason string }{
		{"redis", "outbox:{tenant}:{topic}", "a:b", "c", "tenant", "separator"},
		{"redis", "{topic}::{tenant}", "c", "a:", "topic", "separator"},
		{"redis", "{topic}::{tenant}", "c", "a::b", "topic", "separator"},
		{"redis", "{topic}ab{tenant}", "c", "xa", "", ""},
		{"redis", "outbox:{tenant}:{topic}", "", "c", "tenant", "is empty"},
		{"redis", "outbox:{tenant}:{topic}", "a", "", "topic", "is empty"},
		{"redis", "outbox:{tenant}:{topic}", "{a}", "c", "tenant", "brace"},
		{"redis", "{topic}", "a", "b}", "topic", "brace"},
		{"redis", "{topic}", "a", "b\nc", "topic", "cannot be printed"},
		{"redis", "{topic}", "a", "b\u200bc", "topic", "cannot be printed"},
		{"stdout", "{topic}", "a", "b\x1b[31m", "topic", "cannot be printed"},
		{"redis", "{topic}", "a", "b\xff", "topic", "UTF-8"},
		{"redis", "outbox:{tenant}:{topic}", "a", "b:c d", "", ""},
		{"redis", "{tenant}:{topic}", "a", strings.Repeat("b", 998), "", ""},
		{"redis", "{tenant}:{topic}", "a", strings.Repeat("b", 999), "", "longer than 1000 bytes"},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "a/b", "c", "tenant", "slash"},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "a", "b/c", "topic", "slash"},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "a b", "c", "", "letters, digits"},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "Größe", "c", "", "letters, digits"},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "..", "c", "", `part ".."`},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "a", ".", "", `part "."`},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "a", "b c", "", "space"},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "a", "b-partition-0", "", "partition"},
		{"pulsar", "persistent://{tenant}/ns/b-partition-{topic}", "a", "12", "", "partition"},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "a", "__change_events", "", "keeps for itself"},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "a", "x__transaction_pending_ack", "", "keeps for itself"},
		{"pulsar", "persistent://{tenant}/system/{topic}", "pulsar", "x", "", "own namespace"},
		{"pulsar", "persistent://{tenant}/ns/{topic}", "a-b.c:d=e_f", "order:créé.1-partition-x", "", ""},
	} {
		t.Run(c.template+" "+c.tenant+" "+c.topic[:min(40, len(c.topic))], func(t *testing.T) {
			r, ev := only(t, c.sink, c.template), eventOf(c.tenant, c.topic, "")
			if c.reason != "" {
				wantNameError(t, r, ev, c.placeholder, c.reason)
				return
			}
			name := strings.NewReplacer("{tenant}", c.tenant, "{topic}", c.topic).Replace(c.template)
			wantDestinations(t, r, ev, Destination{c.sink, name})
		})
	}
}

// The stream "outbox:acme:orders" of one rule must not be reached by a tenant "acme:orders" through another.
func TestTenantCannotReachAnothersDestinationThroughASecondTemplate(t *testing.T) {
	r := router(t,
		Rule{Match: Match{"*", "orders"}, To: to("redis", "outbox:{tenant}:{topic}")},
		Rule{Match: Match{"*", "*"}, To: to("redis", "outbox:{tenant}")},
	)
	wantDestinations(t, r, eventOf("acme", "orders", ""), Destination{"redis", "outbox:acme:orders"})
	wantNameError(t, r, eventOf("acme:orders", "x", ""), "tenant", "another tenant's")
	wantDestinations(t, only(t, "redis", "outbox:{tenant}"), eventOf("acme:orders", "x", ""), Destination{"redis", "outbox:acme:orders"})
}

// One target that cannot have the event is enough to stop it.
func TestOneFaultyTargetRejectsTheEvent(t *testing.T) {
	r := router(t, Rule{To: []Target{{"redis", "{topic}"}, {"pulsar", "persistent://t/ns/{topic}"}}})
	wantNameError(t, r, eventOf("a", "b c", ""), "", "space")
}

func TestNameErrorSaysWhatWhereAndWhy(t *testing.T) {
	r := router(t, Rule{Match: Match{"x", "x"}, To: to("redis", "x")}, Rule{To: []Target{{"redis", "y"}, {"redis", "o:{tenant}:{topic}"}}})
	_, err := r.Route(eventOf("a:b", "c", ""))
	const want = `tenant "a:b" runs into the separator ":" behind it (routes[1].to[1], sink "redis", destination "o:{tenant}:{topic}"): ` +
		`route such events elsewhere before this place; changing the row does not help`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestRulesThatCouldNeverWorkAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		rules []Rule
		want  string
	}{
		"none":                  {nil, "routes: there is none"},
		"no target":             {[]Rule{{}}, "routes[0].to: it is empty"},
		"unknown sink":          {[]Rule{{To: to("kafka", "x")}}, `routes[0].to[0].sink: there is no sink "kafka": configured are pulsar, redis, stdout`},
		"target twice":          {[]Rule{{To: append(to("redis", "x"), to("redis", "x")...)}}, "routes[0].to[1]: sink"},
		"behind a catch-all":    {[]Rule{{To: to("redis", "x")}, {Match: Match{"a", "b"}, To: to("redis", "y")}}, "routes[1]: it is never reached, because routes[0]"},
		"behind a wider one":    {[]Rule{{Match: Match{"a", "**"}, To: to("redis", "x")}, {Match: Match{"a", "b"}, To: to("redis", "y")}}, "routes[1]: it is never reached"},
		"the same again":        {[]Rule{{Match: Match{"a*", "b"}, To: to("redis", "x")}, {Match: Match{"a*", "b"}, To: to("redis", "y")}}, "routes[1]: it is never reached"},
		"empty template":        {[]Rule{{To: to("redis", "")}}, "it is empty: name the stream or topic"},
		"unknown placeholder":   {[]Rule{{To: to("redis", "x{Tenant}")}}, "{Tenant} is no placeholder: known are {tenant}, {topic}, {aggregate_type} and {shard}"},
		"brace not closed":      {[]Rule{{To: to("redis", "x{tenant")}}, `the brace before "tenant" is not closed`},
		"brace not opened":      {[]Rule{{To: to("redis", "x}tenant")}}, "a closing brace has no partner"},
		"nested braces":         {[]Rule{{To: to("redis", "{{tenant}}")}}, "{{tenant} is no placeholder"},
		"side by side":          {[]Rule{{To: to("redis", "{tenant}{topic}")}}, "nothing stands between {tenant} and {topic}"},
		"control character":     {[]Rule{{To: to("redis", "a\tb")}}, "cannot be printed"},
		"short topic":           {[]Rule{{To: to("pulsar", "orders")}}, "write persistent://TENANT/NAMESPACE/TOPIC"},
		"topic without scheme":  {[]Rule{{To: to("pulsar", "{tenant}/ns/{topic}")}}, "write persistent://TENANT/NAMESPACE/TOPIC"},
		"not persistent":        {[]Rule{{To: to("pulsar", "non-persistent://a/b/c")}}, "is not persistent keeps nothing"},
		"two parts":             {[]Rule{{To: to("pulsar", "persistent://{tenant}/{topic}")}}, "2 parts"},
		"four parts":            {[]Rule{{To: to("pulsar", "persistent://a/cluster/b/{topic}")}}, "4 parts"},
		"empty namespace":       {[]Rule{{To: to("pulsar", "persistent://a//{topic}")}}, "empty part"},
		"bad namespace":         {[]Rule{{To: to("pulsar", "persistent://a/b c/{topic}")}}, "letters, digits"},
		"space in a topic":      {[]Rule{{To: to("pulsar", "persistent://a/b/c {topic}")}}, "space"},
		"names a partition":     {[]Rule{{To: to("pulsar", "persistent://a/b/{topic}-partition-3")}}, "addresses a partition"},
		"names a broker's own":  {[]Rule{{To: to("pulsar", "persistent://a/b/__{topic}")}}, "keeps for itself"},
		"every fault is named":  {[]Rule{{}, {To: to("redis", "{")}}, "is not closed"},
		"every fault is named2": {[]Rule{{}, {To: to("redis", "{")}}, "routes[0].to: it is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := New(c.rules, allKinds, Shard{})
			if err == nil || !strings.Contains(err.Error(), c.want) || r != nil {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := New([]Rule{{To: to("kafka", "x")}}, map[string]Kind{"kafka": "kafka"}, Shard{}); err == nil {
		t.Error("a sink of an unknown kind is accepted")
	}
}

func TestMatchFollowsTheGlob(t *testing.T) {
	for _, c := range []struct {
		glob, text string
		want       bool
	}{
		{"", "", true},
		{"", "x", true},
		{"*", "", true},
		{"a", "a", true},
		{"a", "A", false},
		{"a", "", false},
		{"a", "ab", false},
		{"?", "", false},
		{"?", "x", true},
		{"?", "é", true},
		{"?", "東", true},
		{"??", "é", false},
		{"a?c", "aéc", true},
		{"a*", "a", true},
		{"a*", "abc", true},
		{"a*", "ba", false},
		{"*a", "bba", true},
		{"*a", "bab", false},
		{"*.created", "order.created", true},
		{"order.*", "order", false},
		{"a*b*c", "aXbYbc", true},
		{"a*b*c", "acb", false},
		{"**", "x", true},
		{"a**b", "ab", true},
		{"*é?", "xéé1", true},
		{"*?", "", false},
		{"*?", "東", true},
		{"*aab", "aaaab", true},
		{"a[b]", "a[b]", true},
		{"a.b", "axb", false},
		{`\*`, "*", false},
		{"*??12", "東12", false}, // a star does not stop inside a character
	} {
		if got := newGlob(c.glob).match([]byte(c.text)); got != c.want {
			t.Errorf("%q over %q is %v", c.glob, c.text, got)
		}
	}
}

func TestKnownEventAllocatesNothing(t *testing.T) {
	r := router(t, Rule{Match: Match{"acme", "o*"}, To: []Target{{"redis", "outbox:{tenant}:{topic}"}, {"redis", "{aggregate_type}"}}})
	known, unrouted := eventOf("acme", "orders", "order"), eventOf("globex", "orders", "order")
	allocs := testing.AllocsPerRun(1000, func() {
		if _, err := r.Route(known); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Route(unrouted); !errors.Is(err, ErrUnrouted) {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	r := only(t, "redis", "{tenant}/{topic}")
	for i := range 3 * cacheEntries {
		wantDestinationOnce(t, r, fmt.Sprint(i), "x")
		wantDestinationOnce(t, r, "hot", "x")
	}
	if n := len(r.remembered.young) + len(r.remembered.old); n > 2*cacheEntries+1 {
		t.Errorf("%d names are remembered", n)
	}
	if _, ok := r.remembered.young[string(appendCacheKey(nil, eventOf("hot", "x", ""), false))]; !ok {
		t.Error("what is used all the time is forgotten")
	}
	r = only(t, "redis", "one for all")
	long := eventOf(strings.Repeat("x", cacheKeyBytes), "x", "")
	if _, err := r.Route(long); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.remembered.get(appendCacheKey(nil, long, false)); ok {
		t.Error("a very long name is remembered")
	}
}

func wantDestinationOnce(t *testing.T, r *Router, tenant, topic string) {
	t.Helper()
	got, err := r.Route(eventOf(tenant, topic, ""))
	if err != nil || len(got) != 1 || got[0].Name != tenant+"/"+topic {
		t.Fatalf("%.50s: %v, %v", tenant, got, err)
	}
}

func BenchmarkRoute(b *testing.B) {
	r := router(b, Rule{Match: Match{"acme", "order*"}, To: to("redis", "outbox:{tenant}:{topic}")})
	ev := eventOf("acme", "orders", "order")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Route(ev); err != nil {
			b.Fatal(err)
		}
	}
}

// All values of one to three characters, of which one makes the separators: what is accepted never meets.
func TestDifferentValuesNeverMakeTheSameName(t *testing.T) {
	values := []string{"a", ":"}
	for from := 0; len(values) < 2+4+8; from++ {
		values = append(values, values[from]+"a", values[from]+":")
	}
	for _, template := range []string{
		"{topic}:{aggregate_type}", "{topic}::{aggregate_type}", "{topic}:a:{aggregate_type}", "::{topic}a:a{aggregate_type}a:",
		"{topic}:{tenant}:{aggregate_type}", "{tenant}::{aggregate_type}:{topic}", "{topic}:a{aggregate_type}a:{tenant}", "{topic}:{aggregate_type}:{topic}",
	} {
		r, uses := only(t, "redis", template), strings.Contains(template, "{tenant}")
		owners := map[string]string{}
		for _, topic := range values {
			for _, aggregateType := range values {
				for _, tenant := range values {
					found, err := r.Route(eventOf(tenant, topic, aggregateType))
					if err != nil {
						continue
					}
					owner := topic + " " + aggregateType
					if uses {
						owner += " " + tenant
					}
					if other, taken := owners[found[0].Name]; taken && other != owner {
						t.Errorf("%s: %q and %q share %q", template, owner, other, found[0].Name)
					}
					owners[found[0].Name] = owner
				}
			}
		}
		if len(owners) < 9 {
			t.Errorf("%s: only %d names are accepted", template, len(owners))
		}
	}
}
