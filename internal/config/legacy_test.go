package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// explained returns the settings by path.
func explained(cfg *Config, sources Sources) map[string]Explanation {
	all := map[string]Explanation{}
	for _, e := range cfg.Explain(sources) {
		all[e.Setting] = e
	}
	return all
}

// loadEnvironment loads an environment alone, and returns the warnings.
func loadEnvironment(t *testing.T, o Options) (settings map[string]Explanation, warnings []string) {
	t.Helper()
	o.Warn = func(p Problem) { warnings = append(warnings, p.String()) }
	cfg, sources, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return explained(cfg, sources), warnings
}

var bare = []string{"DATABASE_URL=postgres://localhost/shop", "REDIS_URL=redis://cache:6379/0"}

func TestEachVariableOfAProjectorSetsItsSettings(t *testing.T) {
	cases := []struct {
		variable, value string
		want            map[string]any
	}{
		{"DATABASE_URL", "postgres://localhost/other", map[string]any{"database.url": "postgres://localhost/other"}},
		{"REDIS_URL", "redis://other:1/0", map[string]any{"sinks.redis.url": "redis://other:1/0"}},
		{"PULSAR_SERVICE_URL", "pulsar://p:6650", map[string]any{"sinks.pulsar.url": "pulsar://p:6650"}},
		{"METRICS_PORT", "8000", map[string]any{"http.addr": ":8000"}},
		{"LOG_LEVEL", "WARNING", map[string]any{"log.level": "warn"}},
		{"LOG_LEVEL", "CRITICAL", map[string]any{"log.level": "error"}},
		{"BENTO_OUTBOX_BATCH_SIZE", "300", map[string]any{"batch.max_messages": 300, "poll.batch_size": 300}},
		{"BENTO_OUTBOX_MAX_CONCURRENT_PROJECTORS", "7", map[string]any{"concurrency": 7, "poll.max_concurrent": 7}},
		{"BENTO_OUTBOX_MAX_RETRY_ATTEMPTS", "9", map[string]any{"poll.max_attempts": 9}},
		{"BENTO_OUTBOX_ERROR_RETRY_DELAY", "1.5", map[string]any{"retry.base": "1.5s"}},
		{"BENTO_OUTBOX_BACKOFF_MULTIPLIER", "1.5", map[string]any{"poll.backoff.multiplier": 1.5}},
		{"BENTO_OUTBOX_BACKOFF_BASE_SECONDS", "10", map[string]any{"poll.backoff.base": "10s"}},
		{"BENTO_OUTBOX_BACKOFF_MAX_EXPONENT", "6", map[string]any{"poll.backoff.max_exponent": 6}},
		{"BENTO_OUTBOX_QUERY_TIMEOUT_SECONDS", "30", map[string]any{"database.statement_timeout": "30s"}},
		{"BENTO_OUTBOX_ENABLE_PERFORMANCE_MONITORING", "False", map[string]any{"monitor.interval": "0s"}},
		{"BENTO_OUTBOX_ENABLE_PERFORMANCE_MONITORING", "true", map[string]any{"monitor.interval": "1m"}},
		{"BENTO_OUTBOX_DEFAULT_TENANT_ID", "acme", map[string]any{"database.default_tenant": "acme"}},
		{"BENTO_OUTBOX_STATUS_NEW", "OPEN", map[string]any{"database.statuses.new": "OPEN"}},
		{"BENTO_OUTBOX_NEW_STATUS", "OPEN", map[string]any{"database.statuses.new": "OPEN"}},
		{"BENTO_OUTBOX_STATUS_SENT", "PUBLISHED", map[string]any{"database.statuses.sent": "PUBLISHED"}},
		{"BENTO_OUTBOX_SENT_STATUS", "DONE", map[string]any{"database.statuses.sent": "DONE"}},
		{"BENTO_OUTBOX_STATUS_FAILED", "ERROR", map[string]any{"database.statuses.failed": "ERROR"}},
		{"BENTO_OUTBOX_FAILED_STATUS", "ERROR", map[string]any{"database.statuses.failed": "ERROR"}},
		{"BENTO_OUTBOX_STATUS_DEAD", "BURIED", map[string]any{"database.statuses.dead": "BURIED"}},
		{"BENTO_OUTBOX_DEAD_STATUS", "BURIED", map[string]any{"database.statuses.dead": "BURIED"}},
		{"BENTO_OUTBOX_STATUS_PUBLISHING", "TAKEN", map[string]any{"database.statuses.publishing": "TAKEN"}},
		{"BENTO_OUTBOX_PUBLISHING_STATUS", "TAKEN", map[string]any{"database.statuses.publishing": "TAKEN"}},
		{"BENTO_OUTBOX_STATUS_PUBLISHED", "OUT", map[string]any{"database.statuses.published": "OUT"}},
		{"BENTO_OUTBOX_PUBLISHED_STATUS", "OUT", map[string]any{"database.statuses.published": "OUT"}},
	}
	tried := map[string]bool{}
	for _, c := range cases {
		tried[c.variable] = true
		environ := append(slices.DeleteFunc(slices.Clone(bare), func(pair string) bool { return strings.HasPrefix(pair, c.variable+"=") }), c.variable+"="+c.value)
		settings, warnings := loadEnvironment(t, Options{Environ: environ})
		for path, want := range c.want {
			if got := settings[path]; got.Value != want || got.Source != "variable "+c.variable {
				t.Errorf("%s=%s: %s is %v from %s, want %v", c.variable, c.value, path, got.Value, got.Source, want)
			}
		}
		if warnings != nil {
			t.Errorf("%s: warned of %q", c.variable, warnings)
		}
	}
	for _, w := range withoutMeaning {
		tried[w.name] = true
		_, warnings := loadEnvironment(t, Options{Environ: append(bare, w.name+"=1")})
		if want := []string{w.name + ": has no meaning here and is ignored, because " + w.why}; !reflect.DeepEqual(warnings, want) {
			t.Errorf("got  %q\nwant %q", warnings, want)
		}
	}
	for _, name := range legacyVariables() {
		if !tried[name] {
			t.Errorf("%s has no case here", name)
		}
	}
}

func TestAnUnknownVariableOfAProjectorIsAWarningWithTheNearest(t *testing.T) {
	_, warnings := loadEnvironment(t, Options{Environ: append(bare, "BENTO_OUTBOX_BATCHSIZE=5", "BENTO_OUTBOX_ZZZ=5", "BENTO_OTHER=1")})
	want := []string{
		"BENTO_OUTBOX_BATCHSIZE: is not known and is ignored (did you mean BENTO_OUTBOX_BATCH_SIZE?)",
		"BENTO_OUTBOX_ZZZ: is not known and is ignored",
	}
	if !reflect.DeepEqual(warnings, want) {
		t.Errorf("got  %q\nwant %q", warnings, want)
	}
}

func TestOwnVariablesWinOverThoseOfAProjector(t *testing.T) {
	settings, _ := loadEnvironment(t, Options{Environ: append(bare, "OUTBOXD_POLL_BATCH_SIZE=1", "BENTO_OUTBOX_BATCH_SIZE=2")})
	if settings["poll.batch_size"].Value != 1 || settings["batch.max_messages"].Value != 2 {
		t.Errorf("got %v, %v", settings["poll.batch_size"], settings["batch.max_messages"])
	}
}

func TestEnvironmentAloneIsEnough(t *testing.T) {
	const database = "DATABASE_URL=postgresql+asyncpg://app:pw@db/shop"
	toRedis := Target{"redis", "outbox:{tenant}:{topic}"}
	toPulsar := Target{"pulsar", "persistent://{tenant}/outbox/{topic}"}
	for _, c := range []struct {
		environ []string
		want    []Target
	}{
		{[]string{"REDIS_URL=redis://cache:6379/0"}, []Target{toRedis}},
		{[]string{"PULSAR_SERVICE_URL=pulsar://broker:6650"}, []Target{toPulsar}},
		{[]string{"REDIS_URL=redis://cache:6379/0", "PULSAR_SERVICE_URL=pulsar://broker:6650"}, []Target{toPulsar, toRedis}},
	} {
		cfg, _, err := Load(Options{Environ: append(c.environ, database)})
		if err != nil {
			t.Fatal(err)
		}
		if want := []Route{{Match{"*", "*"}, c.want, "pass"}}; !reflect.DeepEqual(cfg.Routes, want) {
			t.Errorf("got  %+v\nwant %+v", cfg.Routes, want)
		}
	}
}
