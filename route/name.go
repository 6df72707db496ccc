package route

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/outboxd/outboxd/event"
)

// NameError says that a value of an event does not fit into its place in a destination's name.
type NameError struct {
	Place       string // of the target in the configuration: "routes[0].to[1]"
	Sink        string
	Template    string // of the destination
	Placeholder string // "tenant", "topic", "aggregate_type" or "shard"; empty when the whole name is at fault
	Value       string // or the whole name
	Reason      string // "is empty"
}

func (e *NameError) Error() string {
	what := e.Placeholder
	if what == "" {
		what = "destination"
	}
	return fmt.Sprintf("%s %q %s (%s, sink %q, destination %q): route such events elsewhere before this place; changing the row does not help",
		what, e.Value, e.Reason, e.Place, e.Sink, e.Template)
}

// maxNameBytes is how long a name may be: events that wait are found by it, and by their ids, in indexes whose entries have 2,704 bytes at most.
const maxNameBytes = 1000

// name makes the destination's name for an event.
func (t *target) name(ev *event.Event) (string, error) {
	for i, s := range t.template.places {
		value := t.value(s.placeholder, ev)
		reason := "is NULL"
		if value != nil {
			reason = t.fault(i, string(value))
		}
		if reason != "" {
			return "", t.nameError(string(s.placeholder), string(value), reason)
		}
	}
	name := t.template.render(func(p placeholder) string { return string(t.value(p, ev)) })
	if reason := t.kind.nameFault(name); reason != "" {
		return "", t.nameError("", name, reason)
	}
	if reason := t.sharedFault(name, ev); reason != "" {
		return "", t.nameError("", name, reason)
	}
	if len(name) > maxNameBytes {
		return "", t.nameError("", name, fmt.Sprintf("is longer than %d bytes", maxNameBytes))
	}
	return name, nil
}

// value is what stands in a place of the destination's name; nil for NULL.
func (t *target) value(p placeholder, ev *event.Event) []byte {
	switch p {
	case tenant:
		return ev.TenantID
	case topic:
		return ev.Topic
	case shard:
		return t.shard
	default:
		return ev.AggregateType
	}
}

func (t *target) nameError(placeholder, value, reason string) *NameError {
	return &NameError{
		Place: t.place, Sink: t.sink, Template: t.template.String(),
		Placeholder: placeholder, Value: value, Reason: reason,
	}
}

// fault says why the value does not fit into the template's place i; empty when it does.
func (t *target) fault(i int, value string) string {
	if reason := valueFault(value); reason != "" {
		return reason
	}
	if t.kind == Pulsar && strings.Contains(value, "/") {
		return "contains a slash"
	}
	place := t.template.places[i]
	if i < len(t.template.places)-1 && !endsBefore(value, place.after) {
		return fmt.Sprintf("runs into the separator %q behind it", place.after)
	}
	if place.placeholder != tenant {
		return ""
	}
	for _, separator := range t.separators {
		if strings.Contains(value, separator) {
			return fmt.Sprintf("contains the separator %q of a destination of this sink, so it could name another tenant's", separator)
		}
	}
	return ""
}

// valueFault says what is wrong with a value wherever it goes.
func valueFault(value string) string {
	switch {
	case value == "":
		return "is empty"
	case !utf8.ValidString(value):
		return "is no UTF-8"
	case strings.ContainsAny(value, "{}"):
		return "contains a brace"
	case strings.ContainsFunc(value, unprintable):
		return "contains a character that cannot be printed"
	}
	return ""
}

// unprintable is true of control characters and of every space but the ordinary one.
func unprintable(c rune) bool { return !unicode.IsPrint(c) }
