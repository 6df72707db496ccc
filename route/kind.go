package route

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Kind is the kind of broker behind a sink; it decides which names are valid.
type Kind string

// The kinds of sinks.
const (
	Pulsar Kind = "pulsar"
	Redis  Kind = "redis"
	Stdout Kind = "stdout"
)

// checkTemplate refuses templates whose names could never be valid.
func (k Kind) checkTemplate(t template) error {
	for _, literal := range t.literals() {
		if strings.ContainsFunc(literal, unprintable) {
			return fmt.Errorf("%q contains a character that cannot be printed: remove it", literal)
		}
	}
	switch k {
	case Pulsar:
		return checkTopicTemplate(t)
	case Redis, Stdout:
		return nil
	default:
		return fmt.Errorf("no rules are known for names of a %q sink", string(k))
	}
}

// nameFault says why a whole name is no destination of this kind; empty when it is one.
func (k Kind) nameFault(name string) string {
	if k != Pulsar {
		return ""
	}
	return topicFault(name)
}

const (
	persistent      = "persistent://"
	topicParts      = 3
	partitionSuffix = "-partition-"
	systemPrefix    = "__"
	pendingAck      = "__transaction_pending_ack"
	systemNamespace = "pulsar/system"
)

// checkTopicTemplate demands the full form, with values that fit everywhere in the places of the template.
func checkTopicTemplate(t template) error {
	rest, ok := strings.CutPrefix(t.String(), persistent)
	if strings.HasPrefix(t.String(), "non-"+persistent) {
		return errors.New("a topic that is not persistent keeps nothing: write " + persistent)
	}
	if !ok {
		return errors.New("it is no full name of a topic: write persistent://TENANT/NAMESPACE/TOPIC, such as persistent://{tenant}/outbox/{topic}")
	}
	if parts := strings.Split(rest, "/"); len(parts) != topicParts {
		return fmt.Errorf("it has %d parts behind %s: write persistent://TENANT/NAMESPACE/TOPIC", len(parts), persistent)
	}
	if reason := topicFault(t.render(func(placeholder) string { return "x" })); reason != "" {
		return fmt.Errorf("it %s: correct it", reason)
	}
	return nil
}

// topicFault says why a name is no topic that Pulsar takes, or none that may be written to; empty when it is one.
//
// Source: TopicName, NamedEntity and SystemTopicNames in Pulsar's org.apache.pulsar.common.naming.
func topicFault(name string) string {
	parts := strings.Split(strings.TrimPrefix(name, persistent), "/")
	if len(parts) != topicParts {
		return fmt.Sprintf("has %d parts", len(parts))
	}
	for i, part := range parts {
		switch {
		case part == "":
			return "has an empty part"
		case part == "." || part == "..":
			return fmt.Sprintf("has a part %q, which is no name", part)
		case i < topicParts-1 && strings.ContainsFunc(part, notInNamespace):
			return fmt.Sprintf("has %q for its tenant or namespace, where only letters, digits and -_=:. may stand", part)
		}
	}
	if parts[0]+"/"+parts[1] == systemNamespace {
		return "lies in Pulsar's own namespace " + systemNamespace
	}
	return localTopicFault(parts[topicParts-1])
}

func localTopicFault(local string) string {
	switch {
	case strings.ContainsFunc(local, unicode.IsSpace):
		return "has a space in its topic"
	case strings.HasPrefix(local, systemPrefix) || strings.HasSuffix(local, pendingAck):
		return "is a topic that Pulsar keeps for itself (its names begin with " + systemPrefix + ")"
	}
	if i := strings.LastIndex(local, partitionSuffix); i >= 0 {
		if number := local[i+len(partitionSuffix):]; number != "" && !strings.ContainsFunc(number, notDigit) {
			return fmt.Sprintf("ends in %q, which addresses a partition of another topic", local[i:])
		}
	}
	return ""
}

func notDigit(c rune) bool { return c < '0' || c > '9' }

func notInNamespace(c rune) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	return !letter && notDigit(c) && !strings.ContainsRune("-_=:.", c)
}
