package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestEachPresetIsInForceWithItsSource(t *testing.T) {
	for _, p := range presets {
		settings, _ := loadEnvironment(t, Options{Environ: append(bare, "OUTBOXD_PRESET="+p.name)})
		for _, v := range p.values {
			if got := settings[v.path]; fmt.Sprint(got.Value) != v.value || got.Source != "preset "+p.name {
				t.Errorf("preset %s: %s is %v from %s, want %s", p.name, v.path, got.Value, got.Source, v.value)
			}
		}
	}
}

func TestEveryPresetMayBeNamed(t *testing.T) {
	var names []string
	for _, p := range presets {
		names = append(names, p.name)
	}
	if allowed := schema.child("preset").enum(); !slices.Equal(names, allowed) {
		t.Errorf("the setting allows %q, there are %q", allowed, names)
	}
}

func TestAPresetIsAboveDefaultsAndBelowEverythingElse(t *testing.T) {
	text := minimal + "preset: testing\nbatch: {max_messages: 10}\n"
	cfg, sources := mustLoad(t, text, Options{
		Environ: []string{"OUTBOXD_CONCURRENCY=3", "BENTO_OUTBOX_ERROR_RETRY_DELAY=3"},
		Flags:   []Flag{{"--preset", "preset", "low_latency"}, {"--set", "poll.max_attempts", "8"}},
	})
	settings := explained(cfg, sources)
	for path, want := range map[string]string{
		"preset": "low_latency flag --preset", "batch.max_messages": "10 outboxd.yaml:5:23", "concurrency": "3 variable OUTBOXD_CONCURRENCY",
		"retry.base": "3s variable BENTO_OUTBOX_ERROR_RETRY_DELAY", "poll.max_attempts": "8 flag --set", "poll.sweep": "5s preset low_latency",
		"log.level": "info default",
	} {
		if got := fmt.Sprint(settings[path].Value, " ", settings[path].Source); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

func TestEverySettingIsExplained(t *testing.T) {
	cfg, sources := mustLoad(t, Example, Options{})
	settings := explained(cfg, sources)
	paths := leafPaths(schema, "")
	for _, kind := range []string{KindRedis, KindPulsar} {
		paths = append(paths, leafPaths(sinkSchemas[kind], join("sinks", kind))...)
	}
	for _, path := range paths {
		if path == "routes" {
			path = "routes[1].to[0].destination"
		}
		if e, there := settings[path]; !there || e.Meaning == "" || e.Source == "" {
			t.Errorf("%s is explained as %+v", path, e)
		}
	}
	for path, want := range map[string]string{
		"routes[0].to[1].sink": "redis from outboxd.yaml:13:16", "routes[1].match.topic": "* from default",
		"sinks.redis.fenced": "true from default", "sinks.redis.type": "redis from default",
	} {
		if got := fmt.Sprint(settings[path].Value, " from ", settings[path].Source); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

func TestAListOfAVariableIsExplainedByIt(t *testing.T) {
	settings, _ := loadEnvironment(t, Options{Environ: append(bare, "OUTBOXD_ROUTES=[{to: [{sink: redis, destination: x}]}]")})
	if got := settings["routes[0].to[0].destination"]; got.Value != "x" || got.Source != "variable OUTBOXD_ROUTES" {
		t.Errorf("got %+v", got)
	}
}

func TestExplanationsHideSecrets(t *testing.T) {
	settings, _ := loadEnvironment(t, Options{Environ: append(bare,
		"DATABASE_URL=postgres://app:hunter2@db/shop", "OUTBOXD_SINKS_REDIS_PASSWORD=hunter2")})
	for _, e := range settings {
		if strings.Contains(fmt.Sprint(e), "hunter2") {
			t.Errorf("got %+v", e)
		}
	}
}
