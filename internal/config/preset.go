package config

import (
	"slices"
	"strings"
)

// preset is a named set of values over the defaults. The file, the environment and flags win over it.
type preset struct {
	name, purpose string
	values        []presetValue
}

// presetValue is one value of a preset, as it would be written, and the wish that it serves.
type presetValue struct{ path, value, wish string }

var presets = []preset{
	{"development", "one person's machine: talkative, small, quick to give up", []presetValue{
		{"log.level", "debug", "every event in the log"},
		{"concurrency", "2", "few connections"},
		{"poll.max_concurrent", "2", "few connections"},
		{"poll.max_attempts", "3", "a fault is seen soon"},
		{"poll.backoff.base", "1s", "a fault is seen soon"},
		{"shutdown_timeout", "5s", "quick restarts"},
	}},
	{"testing", "automatic tests: quiet, short waits, nothing removed behind the tests' back", []presetValue{
		{"log.level", "warn", "quiet"},
		{"poll.max_attempts", "2", "dead events soon"},
		{"poll.backoff.base", "100ms", "short waits"},
		{"poll.backoff.max_exponent", "2", "short waits"},
		{"poll.sweep", "1s", "rows that others changed are seen soon"},
		{"retry.base", "50ms", "short waits"},
		{"retry.max", "1s", "short waits"},
		{"checkpoint_interval", "100ms", "the slot follows soon"},
		{"shutdown_timeout", "5s", "quick restarts"},
		{"cleanup.schedule", "", "rows stay"},
	}},
	{"production", "the defaults, which are made for it, and what machines want to read", []presetValue{
		{"log.level", "info", "sessions and whatever needs a person"},
		{"log.format", "json", "also on a terminal"},
		{"memory.budget", "64MiB", "room for a load that comes in waves"},
	}},
	{"high_throughput", "many events a second", []presetValue{
		{"batch.max_messages", "1000", "batch 1000"},
		{"poll.batch_size", "1000", "batch 1000"},
		{"concurrency", "8", "8 concurrent"},
		{"poll.max_concurrent", "8", "8 concurrent; the pool of 20 connections becomes these and 5 more"},
		{"poll.max_attempts", "5", "5 attempts"},
		{"retry.base", "2s", "2 s delay after an error"},
		{"database.statement_timeout", "30s", "query timeout 30 s"},
		{"database.default_tenant", "production", "tenant \"production\""},
		{"memory.budget", "64MiB", "commit batch 2000: as many events under way that one statement marks"},
	}},
	{"low_latency", "each event soon", []presetValue{
		{"batch.max_messages", "100", "batch 100"},
		{"poll.batch_size", "100", "batch 100"},
		{"concurrency", "15", "15 concurrent"},
		{"poll.max_concurrent", "15", "15 concurrent"},
		{"poll.max_attempts", "3", "3 attempts"},
		{"retry.base", "100ms", "sleep 0.1 s: the pause after a fault, there is none otherwise"},
		{"poll.sweep", "5s", "sleep 0.1 s: rows that others changed are seen sooner"},
	}},
}

// readPreset returns the values of the preset that the highest layer names.
func (l *loader) readPreset(given []tree) tree {
	t := tree{}
	var name string
	for _, layer := range given {
		if chosen, ok := layer.get("preset").(string); ok {
			name = chosen
		}
	}
	i := slices.IndexFunc(presets, func(p preset) bool { return p.name == name })
	if i < 0 {
		return t
	}
	for _, v := range presets[i].values {
		l.below(t, v.path, Source{Layer: LayerPreset, Name: "preset " + name}, v.value)
	}
	return t
}

// below reads one setting into t, a layer above the presets and below all others, which were read before.
func (l *loader) below(t tree, path string, source Source, text string) {
	if above, given := l.sources[path]; given && above.Layer != LayerPreset {
		return
	}
	n := schema
	for part := range strings.SplitSeq(path, ".") {
		n = n.child(part)
	}
	l.value(t, n, path, source, text)
}
