package config

import (
	"regexp"
	"slices"
	"strings"
)

// prefix is what the names of outboxd's own variables begin with.
const prefix = "OUTBOXD_"

// reserved are variables with the prefix that are no settings: the path of the file, and what the tests use.
var reserved = regexp.MustCompile(`^OUTBOXD_(CONFIG$|TEST_)`)

// kubernetes matches the variables that Kubernetes and Docker links put into every container for a service whose name begins with
// "outboxd"; they are nobody's settings. A ..._PORT is one only when its value is an address.
// Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var (
	kubernetes        = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_ADDR|_PORT|_PROTO)?$`)
	kubernetesAddress = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// variable returns the name in the environment of a setting: batch.max_bytes is OUTBOXD_BATCH_MAX_BYTES.
func variable(path string) string {
	return prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

// assignment is one variable of the environment.
type assignment struct {
	name, value string
	file        string // that it stands in; empty for the process's own environment
}

func (a assignment) source() Source {
	return Source{Layer: LayerEnvironment, Name: a.name, File: a.file}
}

// environment returns the variables that may concern outboxd, sorted by name.
func (l *loader) environment() []assignment {
	var set []assignment
	for _, pair := range l.options.Environ {
		name, value, _ := strings.Cut(pair, "=")
		service := strings.HasSuffix(name, "_PORT") && kubernetesAddress.MatchString(value)
		if !reserved.MatchString(name) && !kubernetes.MatchString(name) && !service {
			set = append(set, assignment{name, value, l.fromFile[name]})
		}
	}
	slices.SortFunc(set, func(a, b assignment) int { return strings.Compare(a.name, b.name) })
	return set
}

// readEnvironment reads the well-known names of existing deployments, then outboxd's own, which win.
func (l *loader) readEnvironment() tree {
	t := tree{}
	set := l.environment()
	for _, v := range set {
		if v.value != "" {
			l.foreign(t, v)
		}
	}
	for _, v := range set {
		if strings.HasPrefix(v.name, prefix) {
			l.own(t, v)
		}
	}
	return t
}

// kindOfPath returns the kind of the sink that the path is of.
func (l *loader) kindOfPath(path string) string { return l.kinds[strings.Split(path, ".")[1]] }

// own reads a variable with the prefix.
func (l *loader) own(t tree, v assignment) {
	var found []leaf
	var names []string
	for _, s := range l.all() {
		if variable(s.path) == v.name {
			found = append(found, s)
		}
		names = append(names, variable(s.path))
	}
	switch {
	case len(found) == 1:
		l.value(t, found[0].node, found[0].path, v.source(), v.value)
	case len(found) > 1:
		l.problem(v.source(), "", "may mean %s or %s: rename one of the sinks", found[0].path, found[1].path)
	default:
		l.problem(v.source(), "", "is not a setting%s", didYouMean(v.name, names))
	}
}
