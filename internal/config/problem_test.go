package config

import (
	"errors"
	"strings"
	"testing"
)

const pulsar = `
database: {url: postgres://localhost/shop}
sinks: {pulsar: {url: pulsar://localhost:6650}}
`

// fault is a configuration with one fault, and the line that a person reads.
type fault struct {
	text    string
	environ []string
	flags   []Flag
	want    string
}

func inFile(text, want string) fault { return fault{text: text, want: want} }

func inVariables(text string, environ []string, want string) fault {
	return fault{text: text, environ: environ, want: want}
}

func inFlag(text string, flag Flag, want string) fault {
	return fault{text: text, flags: []Flag{flag}, want: want}
}

// Each case is one fault in an otherwise good configuration, with the exact line that a person reads.
func TestEachFaultIsNamedWithItsPlaceAndMend(t *testing.T) {
	for name, c := range map[string]fault{
		"unknown key": inFile(minimal+"batch: {max_mesages: 1}\n",
			"outboxd.yaml:4:9: batch.max_mesages: is not a setting (did you mean batch.max_messages?)"),
		"swapped letters": inFile(minimal+"memroy: {}\n",
			"outboxd.yaml:4:1: memroy: is not a setting (did you mean memory?)"),
		"key of another section": inFile(minimal+"publication: x\n",
			"outboxd.yaml:4:1: publication: is not a setting (did you mean database.publication?)"),
		"key like no other": inFile(minimal+"http: {zzzzzz: 1}\n",
			"outboxd.yaml:4:8: http.zzzzzz: is not a setting: known here are addr"),
		"unknown key of a sink": inFlag(minimal, Flag{"--set", "sinks.redis.tokn", "x"},
			"--set: sinks.redis.tokn: is not a setting (did you mean sinks.redis.type?)"),
		"unknown key of a list item": inFile(minimal+"routes:\n  - match: {tenent: a}\n    to: [{sink: redis, destination: x}]\n",
			"outboxd.yaml:5:13: routes[0].match.tenent: is not a setting (did you mean routes[0].match.tenant?)"),
		"duplicate key": inFile(minimal+"log:\n  level: info\n  level: warn\n",
			"outboxd.yaml:6:3: log.level: is given twice, first at line 5: remove one"),
		"duplicate section": inFile(minimal+"database: {slot: x}\n",
			"outboxd.yaml:4:1: database: is given twice, first at line 2: remove one"),
		"text for a number": inFile(minimal+"concurrency: four\n",
			`outboxd.yaml:4:14: concurrency: wants a whole number, got the text "four"`),
		"quoted number": inFile(minimal+"concurrency: \"4\"\n",
			`outboxd.yaml:4:14: concurrency: wants a whole number, got the text "4": remove the quotes`),
		"fraction": inFile(minimal+"concurrency: 1.5\n",
			"outboxd.yaml:4:14: concurrency: wants a whole number, got the number 1.5"),
		"number for text": inFile(minimal+"source: 5\n",
			"outboxd.yaml:4:9: source: wants text, got the number 5: put it in quotes"),
		"number for a secret": inFile("database: {url: 12345}\n",
			"outboxd.yaml:1:17: database.url: wants an address, got something else: put it in quotes"),
		"yes for true": inVariables(minimal, []string{"OUTBOXD_DATABASE_FAILOVER=yes"},
			`OUTBOXD_DATABASE_FAILOVER: database.failover: "yes" is neither true nor false`),
		"value for a section": inFile(minimal+"memory: 5\n",
			"outboxd.yaml:4:9: memory: wants a section, got the number 5"),
		"section for a value": inFile(minimal+"format: {a: b}\n",
			"outboxd.yaml:4:9: format: wants text, got a section"),
		"value for a list": inFile(minimal+"routes: x\n",
			"outboxd.yaml:4:9: routes: wants a list, got text"),
		"empty list item": inFile(minimal+"routes: [null]\n",
			"outboxd.yaml:4:9: routes[0]: is empty: remove it"),
		"duration without unit": inFile(minimal+"status_interval: 5\n",
			`outboxd.yaml:4:18: status_interval: "5" has no unit: write 5s for seconds`),
		"no duration": inFile(minimal+"status_interval: soon\n",
			`outboxd.yaml:4:18: status_interval: "soon" is not a duration: write it like 500ms, 5s, 10m or 24h`),
		"no size": inFile(minimal+"memory: {budget: 32 apples}\n",
			`outboxd.yaml:4:18: memory.budget: "32 apples" is not a size: write it like 512KiB, 32MiB, 1GB or in plain bytes`),
		"size beyond 64 bits": inFile(minimal+"memory: {budget: 99999999TiB}\n",
			`outboxd.yaml:4:18: memory.budget: "99999999TiB" is too large a size`),
		"monitor that never rests": inFile(minimal+"monitor: {interval: 10ms}\n",
			"outboxd.yaml:4:21: monitor.interval: 10ms is too short: choose 1s to 1h, or 0s to switch its line off"),
		"collector without a scheme": inVariables(minimal, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318"},
			"OTEL_EXPORTER_OTLP_ENDPOINT: tracing.endpoint: has the wrong scheme: begin it with http:// or https://"),
		"collector with a password": inFile(minimal+"tracing: {endpoint: \"http://u:hunter2@collector:4318\"}\n",
			"outboxd.yaml:4:21: tracing.endpoint: holds more than an address: give credentials in OTEL_EXPORTER_OTLP_HEADERS (Authorization=Basic%20...)"),
		"share of the traces as a fraction": inFile(minimal+"tracing: {sample: 0.5}\n",
			"outboxd.yaml:4:19: tracing.sample: wants a whole number, got the number 0.5"),
		"above the range": inFile(minimal+"batch: {max_messages: 1001}\n",
			"outboxd.yaml:4:23: batch.max_messages: 1001 is too large: choose 1 to 1000"),
		"below the range": inFlag(minimal, Flag{"--set", "batch.max_messages", "0"},
			"--set: batch.max_messages: 0 is too small: choose 1 to 1000"),
		"unknown value": inFile(minimal+"on_sent: markk\n",
			`outboxd.yaml:4:10: on_sent: "markk" is not known (did you mean mark?): choose one of mark, delete, keep`),
		"key that is none": inVariables(minimal, []string{"ENCRYPTION_KEY=cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=,hunter2"},
			"ENCRYPTION_KEY: encrypt.keys: key 2 of the list is no Fernet key: it must be 32 bytes in URL-safe base64 (44 characters)"),
		"file of keys that is not there": inFile(minimal+"encrypt: {keys_file: /nowhere}\n",
			"outboxd.yaml:4:22: encrypt.keys_file: /nowhere cannot be read: no such file or directory: name a file that is there"),
		"keys and their file": inFile(minimal+"encrypt:\n  keys: cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=\n  keys_file: /nowhere\n",
			"outboxd.yaml:6:14: encrypt.keys_file: is given beside keys: keep one"),
		"fields without a key": inFile(minimal+"encrypt: {fields: [a]}\n",
			"outboxd.yaml:4:11: encrypt.fields: is given, but there is no key, and they would be published in clear: set encrypt.keys or encrypt.keys_file"),
		"field that is no path": inFlag(minimal, Flag{"--set", "encrypt.fields", "a..b"},
			`--set: encrypt.fields: "a..b" is neither a name nor a path like customer.card.number or items[].secret`),
		"field that is no name": inFile(minimal+"encrypt: {fields: [a, {b: c}]}\n",
			"outboxd.yaml:4:23: encrypt.fields: wants a list of names, got something else in it: put each name in quotes"),
		"unknown variable": inVariables(minimal, []string{"OUTBOXD_BATCH_MAX_MESAGES=5"},
			"OUTBOXD_BATCH_MAX_MESAGES: is not a setting (did you mean OUTBOXD_BATCH_MAX_MESSAGES?)"),
		"unknown flag path": inFlag(minimal, Flag{"--set", "batch.max_mesages", "5"},
			"--set: batch.max_mesages: is not a setting (did you mean batch.max_messages?)"),
		"flag names a section": inFlag(minimal, Flag{"--set", "batch", "5"},
			"--set: batch: wants a section, got the number 5"),
		"port out of range": inVariables(minimal, []string{"METRICS_PORT=99999"},
			`METRICS_PORT: http.addr: ":99999" is not host:port with a port up to 65535: write it like :9090 or 127.0.0.1:9090`),
		"list in a variable": inVariables(minimal, []string{"OUTBOXD_ROUTES=[{to: 5}]"},
			"OUTBOXD_ROUTES: routes[0].to: wants a list, got the number 5"),
		"not YAML": inFile("database: [\n",
			"outboxd.yaml:1:11: is not valid YAML: sequence end token ']' not found"),
		"two documents": inFile(minimal+"---\nlog: {level: info}\n",
			"outboxd.yaml:5:4: holds more than one YAML document: keep one"),
		"merge key": inFile(minimal+"memory:\n  <<: {budget: 5MiB}\n",
			"outboxd.yaml:5:3: memory: merge keys (<<) are not supported: write the settings out"),
		"slot name": inVariables(minimal, []string{"OUTBOXD_DATABASE_SLOT=My-Slot"},
			`OUTBOXD_DATABASE_SLOT: database.slot: "My-Slot" cannot be a slot's name: use lower-case letters, digits and underscores, 1 to 63`),
		"table name": inVariables(minimal, []string{"OUTBOXD_DATABASE_TABLE=a.b.c"},
			`OUTBOXD_DATABASE_TABLE: database.table: parse table name "a.b.c": want SCHEMA.TABLE: write it like public.outbox`),
		"no id column": inVariables(minimal, []string{"OUTBOXD_DATABASE_COLUMNS_ID="},
			"OUTBOXD_DATABASE_COLUMNS_ID: database.columns.id: must not be empty: every event needs its id"),
		"one status twice": inVariables(minimal, []string{"OUTBOXD_DATABASE_STATUSES_SENT=NEW"},
			`OUTBOXD_DATABASE_STATUSES_SENT: database.statuses.sent: "NEW" is also database.statuses.new: each status needs a value of its own`),
		"mark without status": inVariables(minimal, []string{"OUTBOXD_DATABASE_COLUMNS_STATUS="},
			"on_sent: mark needs a status column, and database.columns.status is empty: choose delete or keep"),
		"batch above budget": inVariables(minimal, []string{"OUTBOXD_BATCH_MAX_BYTES=64MiB"},
			"OUTBOXD_BATCH_MAX_BYTES: batch.max_bytes: 64MiB is more than memory.budget (32MiB): lower it or raise the budget"),
		"pauses upside down": inFile(minimal+"retry: {base: 1m, max: 1s}\n",
			"outboxd.yaml:4:15: retry.base: 1m is more than retry.max (1s): lower it or raise retry.max"),
		"status of a parked row twice": inVariables(minimal, []string{"OUTBOXD_DATABASE_STATUSES_DEAD=FAILED"},
			`OUTBOXD_DATABASE_STATUSES_DEAD: database.statuses.dead: "FAILED" is also database.statuses.failed: each status needs a value of its own`),
		"status of a projector twice": inVariables(minimal, []string{"OUTBOXD_DATABASE_STATUSES_PUBLISHED=NEW"},
			`OUTBOXD_DATABASE_STATUSES_PUBLISHED: database.statuses.published: "NEW" is also database.statuses.new: each status needs a value of its own`),
		"reason written over the topic": inVariables(minimal, []string{"OUTBOXD_DATABASE_COLUMNS_ERROR_MESSAGE=topic"},
			`OUTBOXD_DATABASE_COLUMNS_ERROR_MESSAGE: database.columns.error_message: "topic" is also database.columns.topic, and is written to: name a column of its own, or leave it empty`),
		"two written columns in one": inVariables(minimal, []string{"OUTBOXD_DATABASE_COLUMNS_ERROR_MESSAGE=status"},
			`OUTBOXD_DATABASE_COLUMNS_ERROR_MESSAGE: database.columns.error_message: "status" is also database.columns.status, and is written to: name a column of its own, or leave it empty`),
		"sweeps upside down": inFile(minimal+"poll: {sweep: 10m, full_sweep: 5m}\n",
			"outboxd.yaml:4:15: poll.sweep: 10m is more than poll.full_sweep (5m): lower it or raise poll.full_sweep"),
		"attempts below the range": inFile(minimal+"poll: {max_attempts: 0}\n",
			"outboxd.yaml:4:22: poll.max_attempts: 0 is too small: choose 1 to 1000"),
		"wait without end": inFile(minimal+"poll: {backoff: {multiplier: 10, max_exponent: 20}}\n",
			"outboxd.yaml:4:48: poll.backoff.max_exponent: base * multiplier^20 (5s * 10^20) is more than a year: lower one of them"),
		"text for a multiplier": inFile(minimal+"poll: {backoff: {multiplier: \"1.5\"}}\n",
			`outboxd.yaml:4:30: poll.backoff.multiplier: wants a number, got the text "1.5": remove the quotes`),
		"multiplier below the range": inVariables(minimal, []string{"BENTO_OUTBOX_BACKOFF_MULTIPLIER=0.5"},
			"BENTO_OUTBOX_BACKOFF_MULTIPLIER: poll.backoff.multiplier: 0.5 is too small: choose 1 to 10"),
		"multiplier without a value": inVariables(minimal, []string{"OUTBOXD_POLL_BACKOFF_MULTIPLIER=NaN"},
			`OUTBOXD_POLL_BACKOFF_MULTIPLIER: poll.backoff.multiplier: "NaN" is not a number`),
		"variable of a projector out of range": inVariables(minimal, []string{"BENTO_OUTBOX_BATCH_SIZE=5000"},
			"BENTO_OUTBOX_BATCH_SIZE: batch.max_messages: 5000 is too large: choose 1 to 1000"),
		"variable of a projector of a wrong type": inVariables(minimal, []string{"BENTO_OUTBOX_QUERY_TIMEOUT_SECONDS=soon"},
			`BENTO_OUTBOX_QUERY_TIMEOUT_SECONDS: database.statement_timeout: "soon" is not a duration: write it like 500ms, 5s, 10m or 24h`),
		"statements without time": inVariables(minimal, []string{"OUTBOXD_DATABASE_STATEMENT_TIMEOUT=10ms"},
			"OUTBOXD_DATABASE_STATEMENT_TIMEOUT: database.statement_timeout: 10ms is too short to work with: choose 1s to 1h, or 0s for the server's own"),
		"parameter of the address": inVariables(minimal, []string{"DATABASE_URL=postgres://h/d?connect_timeout=soon"},
			`DATABASE_URL: database.connect_timeout: "soon" is not a duration: write it like 500ms, 5s, 10m or 24h`),
		"preset": inFile(minimal+"preset: productionn\n",
			`outboxd.yaml:4:9: preset: "productionn" is not known (did you mean production?): choose one of development, testing, production, high_throughput, low_latency`),
		"preset against a setting": inVariables(minimal, []string{"OUTBOXD_PRESET=high_throughput", "OUTBOXD_RETRY_MAX=1s"},
			"preset high_throughput: retry.base: 2s is more than retry.max (1s): lower it or raise retry.max"),
		"log that holds too little": inFile(minimal+"outage: {max_retained_wal: 1MiB}\n",
			"outboxd.yaml:4:28: outage.max_retained_wal: 1MiB is too small: choose 16MiB to 16TiB"),
		"lost slot": inFile(minimal+"slot: {on_lost: recovr}\n",
			`outboxd.yaml:4:17: slot.on_lost: "recovr" is not known (did you mean recover?): choose one of recover, stop`),
		"dead event": inFile(minimal+"routes: [{on_dead: wait, to: [{sink: redis, destination: x}]}]\n",
			`outboxd.yaml:4:20: routes[0].on_dead: "wait" is not known: choose one of pass, block`),
		"schedule of six fields": inFile(minimal+"cleanup: {schedule: \"0 0 2 * * *\"}\n",
			`outboxd.yaml:4:21: cleanup.schedule: "0 0 2 * * *" is not five fields of cron (expected exactly 5 fields, found 6: [0 0 2 * * *]): write it like "0 2 * * *", or leave it empty`),
		"schedule of a time zone alone": inFile(minimal+"cleanup: {schedule: TZ=UTC}\n",
			`outboxd.yaml:4:21: cleanup.schedule: "TZ=UTC" is not five fields of cron (a time zone alone): write it like "0 2 * * *", or leave it empty`),
		"schedule that never comes": inFile(minimal+"cleanup: {schedule: 0 0 31 2 *}\n",
			`outboxd.yaml:4:21: cleanup.schedule: "0 0 31 2 *" names no time that ever comes: write it like "0 2 * * *", or leave it empty`),
		"wrong scheme": inFlag(minimal, Flag{"--database-url", "database.url", "mysql://x/y"},
			"--database-url: database.url: has the wrong scheme: begin it with postgres:// or postgresql://"),
		"connection string": inVariables(minimal, []string{"DATABASE_URL=host=db password=hunter2"},
			"DATABASE_URL: database.url: has the wrong scheme: begin it with postgres:// or postgresql://"),
		"unescaped password": inVariables(minimal, []string{"DATABASE_URL=postgres://a:hun%ter2@h/d"},
			"DATABASE_URL: database.url: is not an address: write postgres://host:port, and characters like @ / # ? % in a password as %40 %2F %23 %3F %25"),
		"password with an @ and a slash": inVariables(minimal, []string{"DATABASE_URL=postgres://a:hun@ter/2@h/d"},
			"DATABASE_URL: database.url: is not an address: write postgres://host:port, and characters like @ / # ? % in a password as %40 %2F %23 %3F %25"),
		"password with an @ and a hash": inVariables(minimal, []string{"REDIS_URL=redis://a:hun@ter#2@h/0"},
			"REDIS_URL: sinks.redis.url: is not an address: write redis://host:port, and characters like @ / # ? % in a password as %40 %2F %23 %3F %25"),
		"password and its file": inVariables(minimal, []string{"OUTBOXD_SINKS_REDIS_PASSWORD=x", "OUTBOXD_SINKS_REDIS_PASSWORD_FILE=f"},
			"OUTBOXD_SINKS_REDIS_PASSWORD_FILE: sinks.redis.password_file: is given beside password: keep one"),
		"one half of a certificate": inVariables(minimal, []string{"OUTBOXD_SINKS_REDIS_TLS_CERT_FILE=a.pem", "REDIS_URL=rediss://h"},
			"outboxd.yaml:3:9: sinks.redis.tls: has only one of cert_file and key_file: give both or none"),
		"TLS without effect": inVariables(minimal, []string{"OUTBOXD_SINKS_REDIS_TLS_INSECURE=true"},
			"outboxd.yaml:3:9: sinks.redis.tls: is given, but the connection is not secured: begin the url with rediss"),
		"stream shorter than a batch": inVariables(minimal, []string{"OUTBOXD_SINKS_REDIS_MAXLEN=999"},
			"OUTBOXD_SINKS_REDIS_MAXLEN: sinks.redis.maxlen: 999 would cut off the batch that a restart goes by: choose 0, or 1000 and more"),
		"password in Pulsar's address": inVariables(pulsar, []string{"PULSAR_SERVICE_URL=pulsar://u:p@h:1"},
			"PULSAR_SERVICE_URL: sinks.pulsar.url: must hold no credentials: use token, token_file, or username and password"),
		"two tokens": inVariables(pulsar, []string{"OUTBOXD_SINKS_PULSAR_TOKEN=a", "OUTBOXD_SINKS_PULSAR_TOKEN_FILE=b"},
			"OUTBOXD_SINKS_PULSAR_TOKEN_FILE: sinks.pulsar.token_file: is given beside token: keep one"),
		"token and user": inVariables(pulsar, []string{"OUTBOXD_SINKS_PULSAR_TOKEN=a", "OUTBOXD_SINKS_PULSAR_USERNAME=b", "OUTBOXD_SINKS_PULSAR_PASSWORD=b"},
			"OUTBOXD_SINKS_PULSAR_USERNAME: sinks.pulsar.username: is given beside a token: keep one way to authenticate"),
		"user without password": inVariables(pulsar, []string{"OUTBOXD_SINKS_PULSAR_USERNAME=b"},
			"OUTBOXD_SINKS_PULSAR_USERNAME: sinks.pulsar.username: needs password, and password needs username: give both or none"),
		"timeout below stall": inVariables(pulsar, []string{"OUTBOXD_SINKS_PULSAR_TIMEOUT=1s"},
			"OUTBOXD_SINKS_PULSAR_TIMEOUT: sinks.pulsar.timeout: 1s is not longer than ack_stall (1s): raise it"),
		"create without admin": inVariables(minimal+"routes: [{to: [{sink: redis, destination: x}]}]\n", []string{"PULSAR_SERVICE_URL=pulsar://h:1", "OUTBOXD_SINKS_PULSAR_CREATE=true"},
			"OUTBOXD_SINKS_PULSAR_CREATE: sinks.pulsar.create: needs sinks.pulsar.admin_url: set it, or create tenants and namespaces yourself"),
		"sink of no kind": inFile("database: {url: postgres://h/d}\nsinks: {kafka: {}}\nroutes: [{to: [{sink: kafka, destination: x}]}]\n",
			"outboxd.yaml:2:9: sinks.kafka: does not say its kind: add type (redis, pulsar, stdout), or begin the name with it"),
		"sink of an unknown kind": inFlag(minimal+"routes: [{to: [{sink: redis, destination: x}]}]\n", Flag{"--set", "sinks.x.type", "plusar"},
			`--set: sinks.x.type: "plusar" is no kind of sink (did you mean pulsar?): choose one of redis, pulsar, stdout`),
		"sink name": inFile("database: {url: postgres://h/d}\nsinks: {Redis: {type: redis, url: redis://h}}\n",
			"outboxd.yaml:2:23: sinks.Redis: cannot be a sink's name: use lower-case letters, digits, - and _"),
		"two sinks in one variable": inVariables("database: {url: postgres://h/d}\nsinks:\n  redis-a: {url: redis://h}\n  redis_a: {url: redis://h}\nroutes: [{to: [{sink: redis_a, destination: x}]}]\n", []string{"OUTBOXD_SINKS_REDIS_A_MAXLEN=5"},
			"OUTBOXD_SINKS_REDIS_A_MAXLEN: may mean sinks.redis-a.maxlen or sinks.redis_a.maxlen: rename one of the sinks"),
		"sink without address": inFile("database: {url: postgres://h/d}\nsinks: {redis: {}}\n",
			"outboxd.yaml:2:9: sinks.redis.url: is missing: set it in the file, by --set, or by the variable OUTBOXD_SINKS_REDIS_URL or REDIS_URL"),
		"other sink without address": inFile("database: {url: postgres://h/d}\nsinks: {redis-b: {}}\n",
			"outboxd.yaml:2:9: sinks.redis-b.url: is missing: set it in the file, by --set, or by the variable OUTBOXD_SINKS_REDIS_B_URL"),
		"no sinks": inFile("database: {url: postgres://h/d}\n",
			"sinks: none is configured: add one, such as sinks: {redis: {url: redis://localhost:6379/0}}"),
		"two sinks and no routes": inVariables(minimal, []string{"OUTBOXD_SINKS_STDOUT_TYPE=stdout"},
			"routes: are missing: with more than one sink (redis, stdout) say which events go where"),
		"route to no sink": inFile(minimal+"routes:\n  - to:\n      - {sink: rediss, destination: x}\n",
			`outboxd.yaml:6:16: routes[0].to[0].sink: there is no sink "rediss" (did you mean redis?): configured are redis`),
		"route without destinations": inFile(minimal+"routes:\n  - match: {topic: a}\n",
			"outboxd.yaml:5:5: routes[0].to: is missing: add it"),
		"placeholder": inFile(minimal+"routes: [{to: [{sink: redis, destination: \"x:{tenannt}\"}]}]\n",
			`outboxd.yaml:4:43: routes[0].to[0].destination: "x:{tenannt}": {tenannt} is no placeholder: known are {tenant}, {topic}, {aggregate_type} and {shard}`),
		"route that is never reached": inFile(minimal+"routes:\n  - to: [{sink: redis, destination: x}]\n  - to: [{sink: redis, destination: y}]\n",
			"outboxd.yaml:6:5: routes[1]: it is never reached, because routes[0] matches all that it matches: put it before that one, or remove it"),
		"open brace": inFile(minimal+"routes: [{to: [{sink: redis, destination: \"x:{tenant\"}]}]\n",
			`outboxd.yaml:4:43: routes[0].to[0].destination: "x:{tenant": the brace before "tenant" is not closed: close it`),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := load(t, c.text, Options{Environ: c.environ, Flags: c.flags})
			problems, ok := errors.AsType[Problems](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			for _, p := range problems {
				if p.String() == c.want {
					return
				}
			}
			t.Errorf("got  %v\nwant %s", err, c.want)
		})
	}
}

func TestAllFaultsAreReportedAtOnceInOrder(t *testing.T) {
	text := "log: {level: loud}\nbatch: {max_messages: x}\ndatabase: {url: 5}\nconcurrency: 0\n"
	_, _, err := load(t, text, Options{
		Environ: []string{"OUTBOXD_FORMAT=xml", "OUTBOXD_SOURCES=x"}, Flags: []Flag{{"--set", "a.b", "c"}},
	})
	problems, ok := errors.AsType[Problems](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	var settings []string
	for _, p := range problems {
		settings = append(settings, p.Setting+p.Source.Name)
	}
	want := "sinks log.leveloutboxd.yaml batch.max_messagesoutboxd.yaml database.urloutboxd.yaml concurrencyoutboxd.yaml " +
		"formatOUTBOXD_FORMAT OUTBOXD_SOURCES a.b--set"
	if got := strings.Join(settings, " "); got != want {
		t.Errorf("got  %s\nwant %s\n%v", got, want, err)
	}
}

func TestMissingFileIsNamed(t *testing.T) {
	t.Chdir(t.TempDir())
	_, _, err := Load(Options{File: "nowhere.yaml", Need: NeedNothing})
	if err == nil || err.Error() != "configuration: nowhere.yaml: cannot be read: no such file or directory" {
		t.Errorf("got %v", err)
	}
}
