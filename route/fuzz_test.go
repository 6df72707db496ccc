package route

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/outboxd/outboxd/event"
)

// FuzzTwoEventsShareANameOnlyWhereTheirValuesAreAlike takes any template and the values of two events: it either makes a name that reads as
// the template, or an error; and the same name only of the same values.
func FuzzTwoEventsShareANameOnlyWhereTheirValuesAreAlike(f *testing.F) {
	f.Add("outbox:{tenant}:{topic}", true, "a:b", "c", "", "a", "b:c", "")
	f.Add("{topic}::{tenant}", true, "x", "a:", "", ":x", "a", "")
	f.Add("{topic}aba{tenant}", true, "x", "ab", "", "abax", "", "")
	f.Add("{tenant}-{aggregate_type}-{topic}.", true, "t", "o", "a", "t", "o", "a")
	f.Add("persistent://{tenant}/ns/{aggregate_type}-{topic}", false, "t", "b-c", "a", "t", "c", "a-b")
	f.Add("persistent://{tenant}/ns/{topic}", false, "t/ns", "x", "", "t", "ns/x", "")
	f.Add("{tenant}:{topic}:{tenant}", true, "a", "b", "", "a:b", "c", "")
	f.Fuzz(func(t *testing.T, template string, isRedis bool, tenant1, topic1, type1, tenant2, topic2, type2 string) {
		sink := "pulsar"
		if isRedis {
			sink = "redis"
		}
		r, err := New([]Rule{{To: to(sink, template)}}, allKinds, Shard{})
		if err != nil {
			return
		}
		first, one := nameOf(t, r, template, eventOf(tenant1, topic1, type1))
		second, two := nameOf(t, r, template, eventOf(tenant2, topic2, type2))
		if first != "" && first == second && one != two {
			t.Errorf("%q and %q both make %q by %q", one, two, first, template)
		}
	})
}

// nameOf returns the event's name, empty when it is rejected, and the values that it was made of.
func nameOf(t *testing.T, r *Router, template string, ev *event.Event) (string, [3]string) {
	t.Helper()
	found, err := r.Route(ev)
	if err != nil {
		if _, ok := errors.AsType[*NameError](err); !ok {
			t.Fatalf("%q: %v", template, err)
		}
		return "", [3]string{}
	}
	var used [3]string
	literal := template
	for i, p := range []struct{ place, value string }{
		{"{tenant}", string(ev.TenantID)}, {"{topic}", string(ev.Topic)}, {"{aggregate_type}", string(ev.AggregateType)},
	} {
		if strings.Contains(template, p.place) {
			used[i] = p.value
		}
		literal = strings.ReplaceAll(literal, p.place, p.value) // no value holds a brace, so none becomes a placeholder
	}
	literal = strings.ReplaceAll(literal, "{shard}", "0")
	if found[0].Name != literal || !utf8.ValidString(literal) && utf8.ValidString(template) {
		t.Fatalf("%q makes %q, want %q", template, found[0].Name, literal)
	}
	return found[0].Name, used
}

// FuzzParseTemplate: a template that is accepted is written as it was read, and every part of it has a partner.
func FuzzParseTemplate(f *testing.F) {
	for _, text := range []string{"outbox:{tenant}:{topic}", "persistent://{tenant}/outbox/{aggregate_type}-{topic}", "{tenant}{topic}", "{", "}", "{{tenant}}", "a{x}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseTemplate(text)
		if err != nil {
			return
		}
		if got := parsed.String(); got != text {
			t.Errorf("%q is written as %q", text, got)
		}
	})
}

// FuzzGlob compares the glob with a simple second one.
func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "aXXbYc")
	f.Add("*é?", "xéé1")
	f.Add("*a*a*a*b", "aaaaaaaaaaaaaaaa")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 12 || len(text) > 24 || !utf8.ValidString(pattern) || !utf8.ValidString(text) {
			return
		}
		want := pattern == "" || simpleGlob([]rune(pattern), []rune(text))
		if got := newGlob(pattern).match([]byte(text)); got != want {
			t.Errorf("%q over %q is %v", pattern, text, got)
		}
	})
}

// simpleGlob tries everything that a star could stand for.
func simpleGlob(pattern, text []rune) bool {
	switch {
	case len(pattern) == 0:
		return len(text) == 0
	case pattern[0] == '*':
		return simpleGlob(pattern[1:], text) || len(text) > 0 && simpleGlob(pattern, text[1:])
	default:
		return len(text) > 0 && (pattern[0] == '?' || pattern[0] == text[0]) && simpleGlob(pattern[1:], text[1:])
	}
}
