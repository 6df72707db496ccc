package config

import (
	"net/url"
	"reflect"
	"testing"
)

func TestAnAddressOfAsyncpgIsOneOfPostgreSQL(t *testing.T) {
	for given, want := range map[string]string{
		"postgresql+asyncpg://app:pw@db/shop":                                              "postgresql://app:pw@db/shop",
		"postgresql+asyncpg://app@db/shop?ssl=require":                                     "postgresql://app@db/shop?sslmode=require",
		"postgresql+asyncpg://app@db/shop?ssl=true&target_session_attrs=primary":           "postgresql://app@db/shop?sslmode=require&target_session_attrs=primary",
		"postgresql+asyncpg://app@db/shop?ssl=verify-full&sslrootcert=/ca.pem":             "postgresql://app@db/shop?sslmode=verify-full&sslrootcert=/ca.pem",
		"postgresql+asyncpg://app@db/shop?s%73l=require&pool%5Fsize=5":                     "postgresql://app@db/shop?sslmode=require",
		"postgres+psycopg2://app@db/shop?sslmode=disable":                                  "postgres://app@db/shop?sslmode=disable",
		"postgresql+asyncpg://app@db/shop?server_settings=%7B%22search_path%22:%22a%22%7D": "postgresql://app@db/shop?search_path=a",
		"postgresql://app@db/shop?ssl=require":                                             "postgresql://app@db/shop?ssl=require",
		"postgresql+asyncpg://app@/shop?host=/run/postgresql":                              "postgresql://app@/shop?host=/run/postgresql",
	} {
		cfg, _, err := Load(Options{Environ: []string{"REDIS_URL=redis://h", "DATABASE_URL=" + given}})
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Database.URL.Reveal(); got != want {
			t.Errorf("%s is read as %s, want %s", given, got, want)
		}
	}
}

func TestParametersOfTheAddressAreSettings(t *testing.T) {
	for query, want := range map[string]map[string]any{
		"application_name=shop&jit=on":             {"database.application_name": "shop", "database.jit": true},
		"connect_timeout=5&statement_timeout=1500": {"database.connect_timeout": "5s", "database.statement_timeout": "1.5s"},
		"application%5Fname=shop&%6Ait=on":         {"database.application_name": "shop", "database.jit": true},
		"statement_timeout=2min":                   {"database.statement_timeout": "2m"},
		"timeout=2.5&command_timeout=20":           {"database.connect_timeout": "2.5s", "database.statement_timeout": "20s"},
		"keepalives_idle=60":                       {"database.keepalive": "1m"},
		"server_settings=%7B%22jit%22:%22on%22,%22application_name%22:%22a%26b%22%7D": {"database.jit": true, "database.application_name": "a&b"},
	} {
		settings, warnings := loadEnvironment(t, Options{Environ: []string{"REDIS_URL=redis://h", "DATABASE_URL=postgresql+asyncpg://localhost/shop?" + query}})
		for path, value := range want {
			if got := settings[path]; got.Value != value || got.Source != "variable DATABASE_URL" {
				t.Errorf("%s: %s is %v from %s, want %v", query, path, got.Value, got.Source, value)
			}
		}
		if settings["database.url"].Value != "postgresql://localhost/shop" || warnings != nil {
			t.Errorf("%s: %v is left, warned of %q", query, settings["database.url"].Value, warnings)
		}
	}
}

func TestParametersOfTheAddressWithoutMeaningAreTold(t *testing.T) {
	settings, warnings := loadEnvironment(t, Options{Environ: []string{
		"REDIS_URL=redis://h", "DATABASE_URL=postgresql+asyncpg://localhost/shop?prepared_statement_cache_size=0&server_settings=x",
	}})
	want := []string{
		"DATABASE_URL: database.url: its parameter prepared_statement_cache_size has no meaning here and is ignored",
		"DATABASE_URL: database.url: its parameter server_settings is ignored: write it as a JSON object of texts, or its parts as parameters of their own",
	}
	if !reflect.DeepEqual(warnings, want) || settings["database.url"].Value != "postgresql://localhost/shop" {
		t.Errorf("got %q, %v", warnings, settings["database.url"])
	}
}

// Nobody asks the server to prove that it is the right one, and nobody has said that this is meant.
func TestAddressOfAnotherMachineWithoutAnSSLModeIsTold(t *testing.T) {
	for address, told := range map[string]string{
		"postgres://app@db.internal:5432/shop":                 "db.internal",
		"postgres://app@db.internal/shop?connect_timeout=1":    "db.internal",
		"postgres://app@127.0.0.1:5432,10.0.0.1:5432/shop":     "10.0.0.1",
		"postgres:///shop?host=db.internal":                    "db.internal",
		"postgres://app@[2001:db8::1]:5432/shop":               "2001:db8::1",
		"postgres://app@db.internal:5432/shop?sslmode=disable": "",
		"postgres://app@db.internal/shop?sslmode=verify-full":  "",
		"postgres://app@localhost/shop":                        "",
		"postgres://app@[::1]:5432/shop":                       "",
		"postgres://app@127.0.0.1:5432/shop":                   "",
		"postgres:///shop?host=/run/postgresql":                "",
	} {
		_, warnings := loadEnvironment(t, Options{Environ: []string{"REDIS_URL=redis://localhost", "DATABASE_URL=" + address}})
		var want []string
		if told != "" {
			want = []string{"DATABASE_URL: database.url: whether " + told + " is the right server is not checked, and the connection may be a plain one: " +
				"add sslmode=verify-full, or the sslmode that is meant, such as disable"}
		}
		if !reflect.DeepEqual(warnings, want) {
			t.Errorf("%s: warned of %q, want %q", address, warnings, want)
		}
	}
}

// The address that counts is the one of the highest layer; a setting that is given wins over a parameter, and a parameter over a preset.
func TestParametersAreOfTheAddressInForceAndBelowTheSettingItself(t *testing.T) {
	text := "database: {url: \"postgres://db/file?application_name=file&connect_timeout=1\", keepalive: 7s}\nsinks: {redis: {url: redis://h}}\npreset: high_throughput\n"
	cfg, sources := mustLoad(t, text, Options{Environ: []string{"DATABASE_URL=postgres://db/env?application_name=env&statement_timeout=3s&keepalives_idle=9"}})
	settings := explained(cfg, sources)
	for path, want := range map[string]any{
		"database.url": "postgres://db/env", "database.application_name": "env", "database.connect_timeout": "10s",
		"database.statement_timeout": "3s", "database.keepalive": "7s",
	} {
		if settings[path].Value != want {
			t.Errorf("%s is %v from %s, want %v", path, settings[path].Value, settings[path].Source, want)
		}
	}
}

// FuzzDatabaseAddress takes what is said behind the scheme. What remains of an address in another program's form is one in PostgreSQL's, with the
// same user, host and database, and nothing of it becomes a setting that is not PostgreSQL's.
func FuzzDatabaseAddress(f *testing.F) {
	for _, rest := range []string{
		"app:pw@db/shop", "app@db/shop?ssl=require&timeout=2.5", "app@db/shop?server_settings=%7B%22jit%22:%22on%22,%22search_path%22:%22a%26b%22%7D", "app@/shop?host=/run",
		"h1:1,h2:2/d?connect_timeout=5", "db/shop?statement_timeout=2min&jit=off", "db?pool_size=5&&=", "db?timeout=NaN&command_timeout=1e308",
	} {
		f.Add(rest, true)
		f.Add(rest, false)
	}
	f.Fuzz(func(t *testing.T, rest string, driver bool) {
		given := "postgresql://" + rest
		if driver {
			given = "postgresql+asyncpg://" + rest
		}
		cfg, _, err := Load(Options{Environ: []string{"REDIS_URL=redis://h", "DATABASE_URL=" + given}})
		if err != nil {
			return
		}
		want, err := url.Parse("postgresql://" + rest)
		if err != nil {
			return // several hosts with ports, which net/url does not read
		}
		got, err := url.Parse(cfg.Database.URL.Reveal())
		if err != nil || got.Scheme != "postgresql" || got.User.String() != want.User.String() || got.Host != want.Host || got.Path != want.Path {
			t.Fatalf("%q is read as %q, %v", given, cfg.Database.URL.Reveal(), err)
		}
		for _, one := range lifted {
			if got.Query().Has(one.parameter) && !one.driver && cfg.Database.URL.Reveal() != given {
				t.Errorf("%q keeps %s, which is a setting: %q", given, one.parameter, got)
			}
		}
	})
}
