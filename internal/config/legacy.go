package config

import (
	"slices"
	"strconv"
	"strings"
)

// legacyPrefix is what the names begin with that a polling projector reads. Those with a meaning here stand in the tag env of the setting
// that they set; one name may set several.
const legacyPrefix = "BENTO_OUTBOX_"

// without is a setting of existing deployments that has no meaning here.
type without struct{ name, why string }

// notPolled is why a pause between two looks at the table means nothing.
const notPolled = "nothing is polled: PostgreSQL sends each event when its transaction commits"

var withoutMeaning = []without{
	{legacyPrefix + "SLEEP_BUSY", notPolled},
	{legacyPrefix + "SLEEP_IDLE", notPolled},
	{legacyPrefix + "SLEEP_IDLE_MAX", notPolled},
	{
		legacyPrefix + "CONNECTION_POOL_SIZE",
		"there is no pool: the lock, the replication and each worker have a connection of their own, poll.max_concurrent + 5 at most",
	},
	{
		legacyPrefix + "BATCH_COMMIT_SIZE",
		"rows are marked when the brokers have answered, as many in one statement as have been answered by then",
	},
}

// foreign reads a variable of an existing deployment. An empty one counts as not set, as those deployments have it.
func (l *loader) foreign(t tree, v assignment) {
	known := false
	for _, s := range l.all() {
		if slices.Contains(s.legacyNames(), v.name) && l.legacyReaches(s.path) {
			l.value(t, s.node, s.path, v.source(), legacyValue(s, v.value))
			known = true
		}
	}
	if !known && strings.HasPrefix(v.name, legacyPrefix) {
		l.warn(v.source(), "", "%s", noMeaning(v.name))
	}
}

// noMeaning says why a name of existing deployments sets nothing.
func noMeaning(name string) string {
	for _, w := range withoutMeaning {
		if w.name == name {
			return "has no meaning here and is ignored, because " + w.why
		}
	}
	return "is not known and is ignored" + didYouMean(name, legacyVariables())
}

// legacyVariables are all names with the prefix of existing deployments.
func legacyVariables() []string {
	var names []string
	for _, s := range leaves(schema, "") {
		for _, name := range s.legacyNames() {
			if strings.HasPrefix(name, legacyPrefix) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	for _, w := range withoutMeaning {
		names = append(names, w.name)
	}
	return names
}

// legacyReaches tells whether the names of existing deployments are meant for the setting: of sinks only those called by their kind.
func (l *loader) legacyReaches(path string) bool {
	return !strings.HasPrefix(path, "sinks.") || l.kindOfPath(path) == strings.Split(path, ".")[1]
}

// legacyValue turns a value as existing deployments write it into ours: durations are seconds, METRICS_PORT is a port alone, and levels are
// Python's.
func legacyValue(s leaf, value string) string {
	switch {
	case s.path == "http.addr":
		return ":" + value
	case s.path == "log.level":
		return legacyLevel(value)
	case s.path == "monitor.interval":
		return legacyMonitor(s, value)
	case s.kind == kindDuration:
		if _, err := strconv.ParseFloat(value, 64); err == nil {
			return value + "s"
		}
	}
	return value
}

// legacyMonitor is the interval of a monitor that is switched on or off.
func legacyMonitor(s leaf, value string) string {
	switch strings.ToLower(value) {
	case "true", "1", "yes", "on":
		return s.tag.Get("default")
	case "false", "0", "no", "off":
		return "0s"
	}
	return value
}

func legacyLevel(s string) string {
	switch s = strings.ToLower(s); s {
	case "warning":
		return "warn"
	case "critical", "fatal":
		return "error"
	}
	return s
}
