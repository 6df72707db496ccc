package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// load loads the text as outboxd.yaml, which is how errors name it.
func load(t *testing.T, text string, o Options) (*Config, Sources, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("outboxd.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.File = "outboxd.yaml"
	return Load(o)
}

func mustLoad(t *testing.T, text string, o Options) (*Config, Sources) {
	t.Helper()
	cfg, sources, err := load(t, text, o)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, sources
}

const minimal = `
database: {url: postgres://localhost/shop}
sinks: {redis: {url: redis://localhost:6379/0}}
`

func TestEachLayerWinsOverTheOneBefore(t *testing.T) {
	text := minimal + "batch: {max_messages: 10}\nconcurrency: 2\nlog: {level: warn}\n"
	cfg, sources := mustLoad(t, text, Options{
		Environ: []string{"OUTBOXD_BATCH_MAX_MESSAGES=20", "LOG_LEVEL=ERROR"},
		Flags:   []Flag{{"--set", "batch.max_messages", "30"}, {"--set", "batch.max_messages", "31"}},
	})
	for _, c := range []struct {
		path         string
		got, want    any
		source       string
		sourceIsFile bool
	}{
		{path: "batch.max_messages", got: cfg.Batch.MaxMessages, want: 31, source: "--set"},
		{path: "log.level", got: cfg.Log.Level, want: "error", source: "LOG_LEVEL"},
		{path: "concurrency", got: cfg.Concurrency, want: 2, source: "outboxd.yaml:5:14"},
		{path: "batch.max_bytes", got: cfg.Batch.MaxBytes, want: Size(1 << 20), source: "default"},
	} {
		if c.got != c.want || sources.Of(c.path).String() != c.source {
			t.Errorf("%s = %v from %v, want %v from %s", c.path, c.got, sources.Of(c.path), c.want, c.source)
		}
	}
}

func TestOwnVariableWinsOverForeignName(t *testing.T) {
	cfg, _ := mustLoad(t, minimal, Options{Environ: []string{
		"OUTBOXD_DATABASE_URL=postgres://own/db", "DATABASE_URL=postgres://foreign/db", "REDIS_URL=redis://foreign:1/0", "METRICS_PORT=8080",
	}})
	if got := cfg.Database.URL.Reveal(); got != "postgres://own/db" {
		t.Errorf("database.url = %s", got)
	}
	if got := cfg.Sinks["redis"].Redis.URL.Reveal(); got != "redis://foreign:1/0" {
		t.Errorf("sinks.redis.url = %s", got)
	}
	if cfg.HTTP.Addr != ":8080" {
		t.Errorf("http.addr = %s", cfg.HTTP.Addr)
	}
}

func TestEmptyForeignVariableCountsAsNotSet(t *testing.T) {
	cfg, _ := mustLoad(t, minimal, Options{Environ: []string{"DATABASE_URL=", "METRICS_PORT=", "PULSAR_SERVICE_URL=", "ENCRYPTION_KEY="}})
	if cfg.Database.URL.Empty() || cfg.HTTP.Addr != ":9090" || len(cfg.Sinks) != 1 {
		t.Errorf("got %v, %v, %d sinks", cfg.Database.URL, cfg.HTTP.Addr, len(cfg.Sinks))
	}
}

func TestEmptyOwnVariableIsTheEmptyValue(t *testing.T) {
	cfg, _ := mustLoad(t, minimal, Options{Environ: []string{"OUTBOXD_HTTP_ADDR="}})
	if cfg.HTTP.Addr != "" {
		t.Errorf("http.addr = %q", cfg.HTTP.Addr)
	}
}

func TestVariablesOfKubernetesServicesAreIgnored(t *testing.T) {
	mustLoad(t, minimal, Options{Environ: []string{
		"OUTBOXD_SERVICE_HOST=10.0.0.1", "OUTBOXD_SERVICE_PORT=9090", "OUTBOXD_SERVICE_PORT_METRICS=9090",
		"OUTBOXD_PORT=tcp://10.0.0.1:9090", "OUTBOXD_PORT_9090_TCP=tcp://10.0.0.1:9090", "OUTBOXD_PORT_9090_TCP_ADDR=10.0.0.1",
		"METRICS_PORT=tcp://10.0.0.2:80",
	}})
}

func TestVariableReachesSinkWhoseNameHasUnderscores(t *testing.T) {
	text := `
database: {url: postgres://localhost/shop}
sinks:
  redis-eu: {url: redis://eu:6379/0}
  back_up: {type: redis, url: rediss://b:6379/0}
routes: [{to: [{sink: redis-eu, destination: x}]}]
`
	cfg, _ := mustLoad(t, text, Options{Environ: []string{
		"OUTBOXD_SINKS_REDIS_EU_MAX_MESSAGE_BYTES=2MiB", "OUTBOXD_SINKS_BACK_UP_TLS_CA_FILE=/ca.pem", "OUTBOXD_SINKS_STDOUT_TYPE=stdout",
	}})
	if got := cfg.Sinks["redis-eu"].Redis.MaxMessageBytes; got != 2<<20 {
		t.Errorf("max_message_bytes = %v", got)
	}
	if got := cfg.Sinks["back_up"].Redis.TLS.CAFile; got != "/ca.pem" {
		t.Errorf("ca_file = %v", got)
	}
	if cfg.Sinks["stdout"].Stdout == nil {
		t.Error("the sink stdout is missing")
	}
}

func TestListInVariableReplacesTheFiles(t *testing.T) {
	text := minimal + "routes: [{to: [{sink: nowhere, destination: a}]}, {to: [{sink: nowhere, destination: a}]}]\n"
	cfg, sources := mustLoad(t, text, Options{Environ: []string{`OUTBOXD_ROUTES=[{match: {topic: "a.*"}, to: [{sink: redis, destination: "x:{topic}"}]}]`}})
	want := []Route{{Match{"*", "a.*"}, []Target{{"redis", "x:{topic}"}}, "pass"}}
	if got := cfg.Routes; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := sources.Of("routes[1].to[0].sink").String(); got != "OUTBOXD_ROUTES" {
		t.Errorf("source is %s", got)
	}
}

func TestFlagSetsWholeSection(t *testing.T) {
	cfg, sources := mustLoad(t, "database: {url: postgres://localhost/shop}\nbatch: {max_bytes: 2MiB}\n", Options{
		Flags: []Flag{{"--set", "sinks.stdout", "{}"}, {"--set", "batch", "{max_messages: 7}"}},
	})
	if cfg.Sinks["stdout"].Stdout == nil || cfg.Routes[0].To[0] != (Target{"stdout", "{tenant}/{topic}"}) {
		t.Errorf("got %+v", cfg)
	}
	if cfg.Batch != (Batch{7, 2 << 20}) || sources.Of("batch.max_messages").String() != "--set" {
		t.Errorf("got %+v from %v", cfg.Batch, sources.Of("batch.max_messages"))
	}
}

func TestAnchorsAreFollowed(t *testing.T) {
	text := `
database: {url: postgres://localhost/shop}
sinks:
  redis-a: &settings {url: "redis://localhost:6379/0", timeout: &t 7s}
  redis-b: *settings
shutdown_timeout: *t
routes: [{to: [{sink: redis-b, destination: x}]}]
`
	cfg, _ := mustLoad(t, text, Options{})
	if cfg.Sinks["redis-b"].Redis.Timeout.Std() != 7*time.Second || cfg.ShutdownTimeout.Std() != 7*time.Second {
		t.Errorf("got %+v, %v", cfg.Sinks["redis-b"].Redis, cfg.ShutdownTimeout)
	}
}

func TestDefaultIsTheConfigurationOfAnEmptyFile(t *testing.T) {
	cfg, _ := mustLoad(t, "", Options{Need: NeedNothing})
	if want, got := Default(), cfg; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCommandsOfTheDatabaseNeedNoSinks(t *testing.T) {
	mustLoad(t, "encrypt: {fields: [password]}\n", Options{Need: NeedNothing}) // without a key: it publishes nothing
	mustLoad(t, "database: {url: postgres://localhost/shop}\n", Options{Need: NeedDatabase})
	_, _, err := load(t, "log: {level: info}\n", Options{Need: NeedDatabase})
	if err == nil || !strings.Contains(err.Error(), "database.url: is missing") {
		t.Errorf("got %v", err)
	}
}

func TestExampleIsValid(t *testing.T) {
	mustLoad(t, Example, Options{})
}

// What `outboxd config` prints is a file that means the same.
func TestPrintedConfigurationLoadsAgain(t *testing.T) {
	cfg, sources := mustLoad(t, Example+"http: {addr: \"\"}\n", Options{Flags: []Flag{{"--set", "sinks.redis.maxlen", "5000"}}})
	text, err := cfg.YAML(sources)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := mustLoad(t, string(text), Options{})
	if want, got := cfg, again; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !strings.Contains(string(text), "maxlen: 5000 # --set") {
		t.Errorf("no source in:\n%s", text)
	}
}

func TestReferenceIsUpToDate(t *testing.T) {
	var want strings.Builder
	if err := WriteReference(&want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want.String() {
		t.Error("docs/configuration.md is stale: run go generate ./internal/config")
	}
}

// Every setting is documented, its default lies within its bounds, and no two share a variable.
func TestSchemaIsSound(t *testing.T) {
	seen := map[string]string{}
	check := func(all []leaf) {
		for _, s := range all {
			if s.tag.Get("doc") == "" {
				t.Errorf("%s has no doc", s.path)
			}
			if other, twice := seen[variable(s.path)]; twice {
				t.Errorf("%s and %s are both %s", s.path, other, variable(s.path))
			}
			seen[variable(s.path)] = s.path
			if text, given := s.tag.Lookup("default"); given {
				v, err := s.parse(text)
				if err == nil {
					err = s.checkRange(v)
				}
				if err != nil {
					t.Errorf("default of %s: %v", s.path, err)
				}
			}
			if (s.tag.Get("min") == "") != (s.tag.Get("max") == "") {
				t.Errorf("%s has only one bound", s.path)
			}
		}
	}
	check(leaves(schema, ""))
	for kind, n := range sinkSchemas {
		check(leaves(n, "sinks."+kind))
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(Example)
	f.Add(minimal + "a: &a {b: *a}\n<<: *a\n? [x]\n: y\n")
	f.Add("routes: [[], {to: [null]}, null]\nsinks: [a]\ndatabase: *x\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "outboxd.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, sources, err := Load(Options{File: path})
		if err != nil {
			return
		}
		if _, err := cfg.YAML(sources); err != nil {
			t.Fatal(err)
		}
	})
}
