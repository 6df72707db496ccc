package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// placeholder is what a template takes from an event.
type placeholder string

const (
	tenant        placeholder = "tenant"
	topic         placeholder = "topic"
	aggregateType placeholder = "aggregate_type"
	shard         placeholder = "shard" // of the router, the same for all of its events
)

// template is a destination's name with places for values: head, then each place with the literal behind it.
type template struct {
	head   string
	places []slot
}

type slot struct {
	placeholder placeholder
	after       string // empty behind the last place only
}

// parseTemplate reads a template.
func parseTemplate(text string) (template, error) {
	if text == "" {
		return template{}, errors.New("it is empty: name the stream or topic")
	}
	var t template
	literal := &t.head
	for text != "" {
		open := strings.IndexAny(text, "{}")
		if open < 0 {
			*literal = text
			break
		}
		*literal = text[:open]
		if text[open] == '}' {
			return template{}, errors.New("a closing brace has no partner: remove it")
		}
		name, rest, ok := strings.Cut(text[open+1:], "}")
		if !ok {
			return template{}, fmt.Errorf("the brace before %q is not closed: close it", name)
		}
		p := placeholder(name)
		if p != tenant && p != topic && p != aggregateType && p != shard {
			return template{}, fmt.Errorf("{%s} is no placeholder: known are {tenant}, {topic}, {aggregate_type} and {shard}", name)
		}
		if len(t.places) > 0 && *literal == "" {
			return template{}, fmt.Errorf("nothing stands between {%s} and {%s}, so different values could make the same name: "+
				"put a separator there", t.places[len(t.places)-1].placeholder, p)
		}
		t.places = append(t.places, slot{placeholder: p})
		literal = &t.places[len(t.places)-1].after
		text = rest
	}
	return t, nil
}

// String returns the template as it is written.
func (t template) String() string {
	return t.render(func(p placeholder) string { return "{" + string(p) + "}" })
}

// render returns the template with a value in each place.
func (t template) render(value func(placeholder) string) string {
	var b strings.Builder
	b.WriteString(t.head)
	for _, s := range t.places {
		b.WriteString(value(s.placeholder))
		b.WriteString(s.after)
	}
	return b.String()
}

// literals are all pieces of text between and around the places.
func (t template) literals() []string {
	all := []string{t.head}
	for _, s := range t.places {
		all = append(all, s.after)
	}
	return all
}

// separators are the literals that stand between two places.
func (t template) separators() []string {
	var all []string
	for i, s := range t.places {
		if i < len(t.places)-1 {
			all = append(all, s.after)
		}
	}
	return all
}

func (t template) uses(p placeholder) bool {
	return slices.ContainsFunc(t.places, func(s slot) bool { return s.placeholder == p })
}

// read takes a name apart: the value in each place. There is one way at most; ok is false where the template makes no such name.
func (t template) read(name string) (values []string, ok bool) {
	rest, ok := strings.CutPrefix(name, t.head)
	if !ok || len(t.places) == 0 {
		return nil, ok && rest == ""
	}
	for i, s := range t.places {
		value, found := strings.CutSuffix(rest, s.after)
		if i < len(t.places)-1 {
			value, rest, found = strings.Cut(rest, s.after)
		}
		if !found {
			return nil, false
		}
		values = append(values, value)
	}
	return values, true
}

// endsBefore tells whether a value that is followed by separator ends where the separator appears for the first time. This is what
// makes the name of a template readable in one way only: each value but the last ends at the first
// separator, and the last is the rest. "a:" before "::" fails, because ":::" would be read as "" or "a" and ":".
func endsBefore(value, separator string) bool {
	return strings.Index(value+separator, separator) == len(value)
}
