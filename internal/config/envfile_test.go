package config

import (
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// loadEnvFile loads an environment with the text as .env, which is how messages name it.
func loadEnvFile(t *testing.T, text string, environ ...string) (*Config, Sources, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile(".env", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(Options{EnvFile: ".env", Environ: environ})
}

const envText = `# the projector's
export DATABASE_URL="postgresql+asyncpg://app:pa$$word@db/shop" # here too
REDIS_URL='redis://:hun$ter2@cache:6379/0'

BENTO_OUTBOX_BATCH_SIZE=300   # rows
BENTO_OUTBOX_DEFAULT_TENANT_ID=a#b
PATH_TO_OTHERS=${HOME}/x
`

func TestVariablesOfAFileAreOfTheEnvironment(t *testing.T) {
	cfg, sources, err := loadEnvFile(t, envText, "BENTO_OUTBOX_DEFAULT_TENANT_ID=real", "OUTBOXD_SOURCE=")
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Database.URL.Reveal(); got != "postgresql://app:pa$$word@db/shop" {
		t.Errorf("database.url is %s", got)
	}
	if got := cfg.Sinks["redis"].Redis.URL.Reveal(); got != "redis://:hun$ter2@cache:6379/0" {
		t.Errorf("sinks.redis.url is %s", got)
	}
	if cfg.Database.DefaultTenant != "real" || sources.Of("database.default_tenant").String() != "BENTO_OUTBOX_DEFAULT_TENANT_ID" {
		t.Errorf("the environment's own variable does not win: %v from %v", cfg.Database.DefaultTenant, sources.Of("database.default_tenant"))
	}
	if got := sources.Of("batch.max_messages").String(); cfg.Batch.MaxMessages != 300 || got != "BENTO_OUTBOX_BATCH_SIZE in .env" {
		t.Errorf("batch.max_messages is %d from %s", cfg.Batch.MaxMessages, got)
	}
}

func TestAnEmptyVariableOfTheEnvironmentWinsOverTheFile(t *testing.T) {
	cfg, _, err := loadEnvFile(t, envText, "BENTO_OUTBOX_BATCH_SIZE=")
	if err != nil || cfg.Batch.MaxMessages != 500 {
		t.Errorf("got %v, %v", cfg, err)
	}
}

func TestTheFileOfVariablesMayNameTheConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	_, _, err := loadEnvFile(t, "OUTBOXD_CONFIG=there.yaml\n")
	if err == nil || !strings.Contains(err.Error(), "there.yaml: cannot be read") {
		t.Errorf("got %v", err)
	}
}

func TestFaultsOfAFileOfVariablesHaveTheirPlace(t *testing.T) {
	for text, want := range map[string]string{
		"A=1\nhunter2\nB=2\n":        ".env:2: is not NAME=VALUE: put a value with spaces, quotes or # into quotes, and close them",
		"A=1\n\nPW=\"hunter2\nB=2\n": ".env:3: is not NAME=VALUE: put a value with spaces, quotes or # into quotes, and close them",
		"A=\"1\n2\"\nhunter-2=3\n":   ".env:3: is not NAME=VALUE: put a value with spaces, quotes or # into quotes, and close them",
		"OUTBOXD_CONCURRENCY=many\n": `OUTBOXD_CONCURRENCY in .env: concurrency: "many" is not a whole number`,
		"OUTBOXD_CONCURENCY=4\n":     "OUTBOXD_CONCURENCY in .env: is not a setting (did you mean OUTBOXD_CONCURRENCY?)",
		"OUTBOXD_SOURCE=/${HOST}\n":  "OUTBOXD_SOURCE in .env: refers to another variable, which is not put in: write the value out",
	} {
		_, _, err := loadEnvFile(t, text, bare...)
		if err == nil || err.Error() != "configuration: "+want {
			t.Errorf("%q: got  %v\nwant %s", text, err, want)
		}
	}
	_, _, err := Load(Options{EnvFile: "/nowhere/.env", Environ: bare})
	if err == nil || err.Error() != "configuration: /nowhere/.env: cannot be read: no such file or directory" {
		t.Errorf("got %v", err)
	}
}

// The library tells no line, and the search for it must end at one of the file's.
func TestAFaultOfAFileOfVariablesIsOnOneOfItsLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([A-Z ]{0,3}[="'#$\\]{0,3}(hunter2)?[\n ]{0,2}){1,6}`).Draw(t, "text")
		if _, err := parseEnv([]byte(text)); err == nil {
			return
		}
		if line := faultyLine([]byte(text)); line < 1 || line > strings.Count(text, "\n")+1 {
			t.Errorf("line %d of %q", line, text)
		}
	})
}
