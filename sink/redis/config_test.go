package redis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/redis"
)

func TestURLsThatAreRead(t *testing.T) {
	for _, url := range []string{
		"redis://localhost", "redis://", "redis://:pw@h:6379/3", "redis://user:p%40w@[::1]:6379/0", "rediss://h", "redis://[::1]",
		"unix:///run/redis.sock?db=2", "unix://user:pw@/run/redis.sock",
		"redis+sentinel://:pw@h1:26379,h2,h3:1/orders/2?sentinel_username=s&sentinel_password=pw", "rediss+sentinel://h/orders",
		"redis+cluster://user:pw@h1:6379,h2:6380", "rediss+cluster://h1,h2/0",
	} {
		if err := (redis.Config{URL: url}).WithDefaults().Validate(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	for url, says := range map[string]string{
		"":                                     "want redis://",
		"http://h":                             "want redis://",
		"redis:h:6379":                         "want redis://",
		"redis://h/x":                          "database",
		"redis://h/-1":                         "database",
		"redis://h1,h2":                        "several hosts",
		"redis://h?ssl_cert_reqs=none":         `unknown parameter "ssl_cert_reqs"`,
		"redis+cluster://h/1":                  "database 0 only",
		"redis+sentinel://h":                   "master's name",
		"redis+sentinel://h/":                  "master's name",
		"unix://h/run/redis.sock":              "no host",
		"unix://":                              "path of a socket",
		"redis://user:hush/hush@h":             "percent-encode",
		"redis://user:hush?hush@h":             "percent-encode",
		"redis://user:12#hush@h":               "percent-encode",
		"redis://user:hush%zzhush@h":           "percent-encode",
		"redis://user:hu sh\x7f@h":             "percent-encode",
		"redis+sentinel://:hush@h/m?pass=hush": "unknown parameter",
	} {
		err := (redis.Config{URL: url}).WithDefaults().Validate()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", url, err, says)
			continue
		}
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the error shows the password: %v", url, err)
		}
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	cfg := redis.Config{
		URL: "ftp://h", TLS: sink.TLS{CertFile: "c.pem"}, MaxLen: 10, MaxMessageBytes: 1 << 40, Timeout: time.Microsecond,
		MaxStreams: -1, PoolSize: -1,
	}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, problem := range []string{"url:", "key_file", "maxlen is 10", "max_message_bytes", "timeout", "pool size"} {
		if !strings.Contains(err.Error(), problem) {
			t.Errorf("no %q in: %v", problem, err)
		}
	}
	if err := (redis.Config{URL: "redis://h", TLS: sink.TLS{Insecure: true}}).WithDefaults().Validate(); err == nil {
		t.Error("TLS settings without TLS were accepted")
	}
	if _, err := redis.New(redis.Config{URL: "redis://h", MaxLen: -1}); err == nil {
		t.Error("New accepted what Validate refuses")
	}
}
