package route

import (
	"errors"
	"fmt"
	"strings"

	"github.com/outboxd/outboxd/event"
)

// placeholder is a value of the event.
type placeholder int

const (
	tenant placeholder = iota
	topic
	aggregateType
)

var placeholders = map[string]placeholder{"tenant": tenant, "topic": topic, "aggregate_type": aggregateType}

func (p placeholder) String() string { return [...]string{"tenant", "topic", "aggregate_type"}[p] }

func (p placeholder) of(e *event.Event) []byte {
	switch p {
	case tenant:
		return e.TenantID
	case topic:
		return e.Topic
	default:
		return e.AggregateType
	}
}

// part is a placeholder and the literal text behind it.
type part struct {
	value   placeholder
	literal string
	prefix  string // everything before the value in the template; tells which part of a name it is in
}

// template is a destination's name with placeholders.
type template struct {
	text  string
	start string // the literal text before the first placeholder
	parts []part
	kind  Kind
}

func parseTemplate(text string, kind Kind) (*template, error) {
	t := &template{text: text, kind: kind}
	literal := &t.start
	for rest := text; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			*literal += rest[:1]
			rest = rest[2:]
		case rest[0] == '}':
			return nil, errors.New(`"}" without "{" before it: write "}}" for a brace`)
		case rest[0] == '{':
			name, after, ok := strings.Cut(rest[1:], "}")
			if !ok {
				return nil, errors.New(`"{" without "}" behind it: write "{{" for a brace`)
			}
			value, known := placeholders[name]
			if !known {
				return nil, fmt.Errorf("unknown placeholder {%s}: there are {tenant}, {topic} and {aggregate_type}", name)
			}
			if n := len(t.parts); n > 0 && t.parts[n-1].literal == "" {
				return nil, fmt.Errorf("{%s} and {%s} stand side by side, so names could not be told apart: put a separator between", t.parts[n-1].value, value)
			}
			t.parts = append(t.parts, part{value: value, prefix: text[:len(text)-len(rest)]})
			literal = &t.parts[len(t.parts)-1].literal
			rest = after
		default:
			*literal += rest[:1]
			rest = rest[1:]
		}
	}
	if text == "" {
		return nil, errors.New("the destination is empty")
	}
	return t, kind.checkTemplate(t)
}

// uses tells whether the template has the placeholder.
func (t *template) uses(p placeholder) bool {
	for _, one := range t.parts {
		if one.value == p {
			return true
		}
	}
	return false
}

// name puts the event's values into the template.
func (t *template) name(e *event.Event) (string, error) {
	var b strings.Builder
	b.WriteString(t.start)
	for _, p := range t.parts {
		raw := p.value.of(e)
		if raw == nil {
			return "", fmt.Errorf("%s is NULL, and the destination %q needs it", p.value, t.text)
		}
		value := string(raw)
		if err := t.check(p, value); err != nil {
			return "", fmt.Errorf("%s %q does not fit into the destination %q: %w", p.value, value, t.text, err)
		}
		b.WriteString(value)
		b.WriteString(p.literal)
	}
	return b.String(), nil
}

// check tells whether the value stays in its place.
func (t *template) check(p part, value string) error {
	if value == "" {
		return errors.New("it is empty")
	}
	for _, r := range value {
		if r < ' ' || r == 0x7F {
			return errors.New("it holds a control character")
		}
	}
	if strings.ContainsAny(value, "{}") {
		return errors.New("it holds a brace")
	}
	if p.literal != "" && strings.Index(value+p.literal, p.literal) != len(value) {
		return fmt.Errorf("it holds or ends in a part of %q, which follows it", p.literal)
	}
	return t.kind.checkValue(p, value)
}
