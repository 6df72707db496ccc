package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rs/zerolog"
)

const planted = "hunter2"

func TestSecretsPrintMaskedInEveryForm(t *testing.T) {
	type holder struct {
		Password Secret
		Address  URL
		Nested   map[string]*Redis
		secret   Secret
		nested   *Redis
	}
	redis := &Redis{Password: NewSecret(planted), URL: NewURL("redis://:" + planted + "@h")}
	h := holder{NewSecret(planted), NewURL("redis://u:" + planted + "@h/0"), map[string]*Redis{"r": redis}, NewSecret(planted), redis}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%t"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", h, &h, h.Password, h.Address)
	}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	if text, err = yaml.Marshal(h); err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	log := zerolog.New(&out)
	log.Info().Interface("h", h).Stringer("p", h.Password).Any("a", h.Address).Msg("x")
	for _, leak := range []string{planted, fmt.Sprintf("%x", planted), fmt.Sprintf("%X", planted)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is in:\n%s", leak, out.String())
		}
	}
	if !strings.Contains(out.String(), masked) {
		t.Errorf("no mask in:\n%s", out.String())
	}
}

func TestAddressesAreMasked(t *testing.T) {
	for raw, want := range map[string]string{
		"":                           "",
		"postgres://h/d":             "postgres://h/d",
		"postgres://u@h:5/d":         "postgres://u@h:5/d",
		"postgres://u:hunter2@h:5/d": "postgres://u:******@h:5/d",
		"postgres://u:@h/d":          "postgres://u:******@h/d",
		"redis://:hunter2@h:1/0":     "redis://:******@h:1/0",
		"postgres://h/d?sslmode=x&password=hunter2&a=b": "postgres://h/d?sslmode=x&password=******&a=b",
		"postgres://h/d?sslpassword=hunter2":            "postgres://h/d?sslpassword=******",
		"postgres://h/d?sslkey=/key.pem":                "postgres://h/d?sslkey=/key.pem",
		"postgres://h/d?pass%77ord=hunter2":             "postgres://h/d?pass%77ord=******",
		"pulsar://h?token=hunter2":                      "pulsar://h?token=******",
		"postgres://u:hun#ter2@h/d":                     "postgres://******",
		"postgres://u:12#hunter2@h/d":                   "postgres://******",
		"postgres://u:12?hunter2@h/d":                   "postgres://******",
		"postgres://u:12/hunter2@h/d":                   "postgres://******",
		"postgres://u:hunter2@h1:1,h2:2/d":              "postgres://u:******@h1:1,h2:2/d",
		"postgres://u:hun%ter2@h/d":                     "postgres://******",
		"u:hunter2@h":                                   masked,
		"host=h password=hunter2":                       masked,
		"u:hunter2@://":                                 masked,
	} {
		if got := maskURL(raw); got != want {
			t.Errorf("maskURL(%q) = %s, want %s", raw, got, want)
		}
	}
}

// A secret may stand at the wrong place, in the wrong form or in broken YAML; no error and no printed configuration shows it.
func TestNoOutputHoldsASecret(t *testing.T) {
	for name, text := range map[string]string{
		"right places":       "database: {url: 'postgres://u:hunter2@h/d?password=hunter2'}\nsinks: {redis: {url: 'redis://:hunter2@h', password: hunter2}, pulsar: {url: 'pulsar://h', token: hunter2}}\nroutes: [{to: [{sink: redis, destination: x}]}]\n",
		"address as section": "database: postgres://u:hunter2@h/d\nsinks: {redis: 'redis://:hunter2@h', pulsar: hunter2}\n",
		"sinks as text":      "sinks: redis://:hunter2@h\nroutes: redis://:hunter2@h\n",
		"broken address":     "database: {url: 'postgres://u:hunter2%@h/d'}\nsinks: {redis: {url: 'hunter2'}, pulsar: {url: 'pulsar:hunter2'}}\n",
		"secret as a list":   "sinks: {redis: {url: [hunter2], password: {hunter2: 1}}}\n",
		"secret as a block":  "sinks: {redis: {url: 'redis://h'}}\ndatabase:\n  url: |\n    postgres://u:hunter2@h/d\n",
		"open quote":         "database:\n  url: \"postgres://u:hunter2@h/d\nsinks: {}\n",
		"colon in value":     "sinks:\n  redis:\n    password: hunter2: x\n",
		"tab":                "sinks:\n\tredis: hunter2\n",
		"bad anchor":         "sinks: {redis: {password: *hunter2}}\n",
		"bad indent":         "sinks:\n  redis:\n    password: a\n   hunter2\n",
		"two kinds of token": "sinks: {pulsar: {url: 'pulsar://h', token: hunter2, token_file: f, create: true}}\n",
		"tag":                "sinks: {redis: {password: !!int hunter2}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			cfg, sources, err := load(t, text, Options{})
			if err != nil {
				fmt.Fprintf(&out, "%v %+v %#v", err, err, err)
			} else {
				y, yErr := cfg.YAML(sources)
				j, jErr := cfg.JSON()
				fmt.Fprintf(&out, "%s%s%v%v%+v", y, j, yErr, jErr, cfg)
			}
			if strings.Contains(out.String(), planted) {
				t.Errorf("the secret is in:\n%s", out.String())
			}
		})
	}
}

// Whatever an address looks like, its password is not in what is printed of it.
func FuzzNoAddressShowsItsPassword(f *testing.F) {
	for _, seed := range [][2]string{
		{"postgres://u:", "@h:5/d?sslmode=x"},
		{"postgres://h/d?password=", "&a=b"},
		{"redis://:", "@h:1,h:2/0"},
		{"pulsar://h?token=", ""},
		{"u:", "@://"},
		{"postgres://u:12#", "@h/d"},
		{"postgresql+asyncpg://u:%", "@h/d?ssl=on"},
		{"host=h password=", " user=u"},
		{"redis+sentinel://h/m?sentinel_password=", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		raw := before + planted + after
		var out strings.Builder
		fmt.Fprintf(&out, "%v %+v %#v", NewURL(raw), NewURL(raw), NewURL(raw))
		o := Options{Environ: []string{"DATABASE_URL=" + raw, "REDIS_URL=" + raw}, Flags: []Flag{{Name: "--database-url", Path: "database.url", Value: raw}}}
		if cfg, sources, err := Load(o); err != nil {
			fmt.Fprintf(&out, "%v", err)
		} else if y, err := cfg.YAML(sources); err != nil {
			fmt.Fprintf(&out, "%v", err)
		} else {
			out.Write(y)
		}
		if isPassword(raw) && strings.Contains(out.String(), planted) {
			t.Errorf("%q prints\n%s", raw, out.String())
		}
	})
}

// isPassword reports whether the planted text of an address is a password, for those who read it: not its host, path, user or another parameter.
func isPassword(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return false
	}
	password, _ := u.User.Password()
	rest := *u
	rest.User = url.User(u.User.Username())
	return strings.Contains(password, planted) && !strings.Contains(rest.String(), planted)
}
