package route

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Kind is the kind of a sink, whose names have rules of their own.
type Kind string

// The kinds of sinks.
const (
	Pulsar Kind = "pulsar"
	Redis  Kind = "redis"
	Stdout Kind = "stdout"
)

const pulsarScheme = "persistent://"

// Names of Pulsar, https://pulsar.apache.org/docs/concepts-messaging/#topics
var (
	pulsarNamespace = regexp.MustCompile(`^[-=:.\w]+$`)
	partitionSuffix = regexp.MustCompile(`-partition-\d+$`)
)

// checkTemplate tells whether names of the template can be names of the kind.
func (k Kind) checkTemplate(t *template) error {
	switch k {
	case Pulsar:
		return checkPulsarTemplate(t.text)
	case Redis, Stdout:
		return nil
	default:
		return fmt.Errorf("sinks of kind %q have no rules for names", k)
	}
}

func checkPulsarTemplate(text string) error {
	rest, ok := strings.CutPrefix(text, pulsarScheme)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return errors.New("want persistent://TENANT/NAMESPACE/TOPIC")
	}
	if partitionSuffix.MatchString(parts[2]) {
		return errors.New("the topic looks like a partition: name the partitioned topic, outboxd chooses the partition")
	}
	for _, part := range parts {
		if strings.ContainsAny(part, " \t\n") {
			return fmt.Errorf("white space in %q", part)
		}
	}
	return nil
}

// checkValue tells whether the value may stand at the placeholder.
func (k Kind) checkValue(p part, value string) error {
	if k != Pulsar {
		return nil
	}
	before := strings.TrimPrefix(p.prefix, pulsarScheme)
	switch {
	case strings.ContainsAny(value, "/ \t"):
		return errors.New("it holds a slash or white space")
	case strings.Count(before, "/") < 2 && !pulsarNamespace.MatchString(value):
		return errors.New("a Pulsar tenant or namespace has only letters, digits and -=:._")
	case value == "." || value == "..":
		return errors.New("it is no name")
	}
	return nil
}

// checkName tells whether the whole name is one of the kind.
func (k Kind) checkName(name string) error {
	if k == Pulsar && partitionSuffix.MatchString(name) {
		return fmt.Errorf("%q looks like a partition of another topic", name)
	}
	return nil
}
