package config

import (
	"fmt"
	"os"
	"strings"

	"github.com/outboxd/outboxd/internal/encrypt"
	"github.com/outboxd/outboxd/outbox"
)

// Config is the whole configuration. The tags of each field are its documentation: yaml is its name, default, min, max,
// enum and doc say the rest; see schema.go.
type Config struct {
	Preset             string          `yaml:"preset" enum:"development,testing,production,high_throughput,low_latency" doc:"A named set of values that is laid over the defaults; what is given anywhere else wins over it. See Presets."`
	Database           Database        `yaml:"database" doc:"The PostgreSQL database that holds the outbox table."`
	Sinks              map[string]Sink `yaml:"sinks" doc:"The brokers, by a name of your choice. The kind is taken from the name (redis, redis-eu, pulsar_2, stdout) or from type."`
	Routes             []Route         `yaml:"routes" doc:"Which events go where; the first route that matches wins. Without routes everything goes to the only sink, or to both where there is one of Redis and one of Pulsar: to the stream outbox:{tenant}:{topic} on Redis, the topic persistent://{tenant}/outbox/{topic} on Pulsar, the name {tenant}/{topic} on stdout."`
	Unrouted           string          `yaml:"unrouted" default:"park" enum:"park,drop" doc:"What becomes of an event that no route matches: park keeps it for a person to decide, drop forgets it and counts it: its row becomes that of a delivered event (on_sent)."`
	Shards             Shards          `yaml:"shards" doc:"The sharing out of one outbox table among several instances (PostgreSQL 15 and later). See docs/scaling.md."`
	Delivery           string          `yaml:"delivery" default:"effectively_once" enum:"effectively_once,at_least_once" doc:"effectively_once reads each destination's end before publishing after a restart or a failure, so that nothing lands twice; at_least_once does not."`
	OnSent             outbox.OnSent   `yaml:"on_sent" default:"mark" enum:"mark,delete,keep" doc:"What becomes of a delivered row: mark sets its status to statuses.sent, delete removes it, keep leaves it untouched, until the cleanup deletes it: by default when it is older than cleanup.retention; an empty cleanup.schedule keeps it for ever."`
	Format             string          `yaml:"format" default:"raw" enum:"raw,bento,cloudevents,cloudevents_structured" doc:"The form of a message: raw is the payload as it is with metadata beside it, bento a JSON envelope, cloudevents the binary and cloudevents_structured the JSON form of CloudEvents 1.0."`
	Source             string          `yaml:"source" doc:"The source of an event whose metadata names none, an absolute path or URI. Empty means /outboxd in CloudEvents and null in bento."`
	Encrypt            Encrypt         `yaml:"encrypt" doc:"The encryption of fields of the payload. Where there is a key, these fields are published as Fernet tokens, in all formats; outboxd decrypt and Python's cryptography.fernet read them."`
	Batch              Batch           `yaml:"batch" doc:"How much goes to a destination at once. A batch takes what is waiting; it never waits to become full."`
	Concurrency        int             `yaml:"concurrency" env:"BENTO_OUTBOX_MAX_CONCURRENT_PROJECTORS" default:"4" min:"1" max:"64" doc:"Batches that may be on their way to one sink at the same time, each of other destinations."`
	Memory             Memory          `yaml:"memory" doc:"The limit of what is held in memory."`
	StatusInterval     Duration        `yaml:"status_interval" default:"1s" min:"100ms" max:"20s" doc:"How often PostgreSQL is told how far outboxd has come. Keep it well below the server's wal_sender_timeout."`
	CheckpointInterval Duration        `yaml:"checkpoint_interval" default:"1s" min:"100ms" max:"1m" doc:"How often the confirmed position is written to the checkpoint table while events flow."`
	ShutdownTimeout    Duration        `yaml:"shutdown_timeout" default:"30s" min:"0s" max:"10m" doc:"How long SIGTERM lets batches that are on their way finish. What is unfinished then is delivered after the next start."`
	Slot               SlotPolicy      `yaml:"slot" doc:"What becomes of a lost replication slot. Its name is database.slot."`
	Poll               Poll            `yaml:"poll" doc:"How events are delivered that could not be at once: they are parked in a table of outboxd's own, and tried again."`
	Outage             Outage          `yaml:"outage" doc:"What becomes of the events of a broker that is down."`
	Cleanup            Cleanup         `yaml:"cleanup" doc:"The removal of old rows from the outbox table."`
	Retry              Retry           `yaml:"retry" doc:"The pauses between attempts to reach a database or broker that does not answer or refuses."`
	Metrics            Metrics         `yaml:"metrics" doc:"The metrics at /metrics."`
	Monitor            Monitor         `yaml:"monitor" doc:"The performance monitor: a line in the log on how delivery goes, and what holds it up."`
	Tracing            Tracing         `yaml:"tracing" doc:"Spans of what is published, for an OpenTelemetry collector."`
	HTTP               HTTP            `yaml:"http" doc:"The HTTP server of /metrics, /healthz, /readyz and /status."`
	Log                Log             `yaml:"log" doc:"The log, on standard error."`

	whole *Config // of which Split has made this one, with the names of a shard; nil: none
}

// Database says where the outbox is and what it looks like.
type Database struct {
	URL           URL    `yaml:"url" env:"DATABASE_URL" required:"true" doc:"Connection URL, postgres://user:password@host:port/database?sslmode=verify-full. postgresql:// and postgresql+asyncpg:// mean the same."`
	Slot          string `yaml:"slot" default:"outboxd" doc:"Name of the logical replication slot: lower-case letters, digits and underscores, at most 63."`
	Publication   string `yaml:"publication" default:"outboxd" doc:"Name of the publication, for INSERT only."`
	Table         string `yaml:"table" default:"public.outbox" doc:"The outbox table, as schema.table."`
	Schema        string `yaml:"schema" default:"outboxd" doc:"The schema of outboxd's own tables."`
	Failover      bool   `yaml:"failover" default:"false" doc:"Make the slot one that is synchronised to standbys (PostgreSQL 17 and later)."`
	DefaultTenant string `yaml:"default_tenant" env:"BENTO_OUTBOX_DEFAULT_TENANT_ID" doc:"Tenant of the rows whose tenant is NULL, and of all rows of a table without such a column. Empty: there is none, and a row without a tenant is parked as dead, for a person to decide."`

	ApplicationName  string   `yaml:"application_name" default:"outboxd" doc:"How PostgreSQL names the connections, in pg_stat_activity and its log."`
	ConnectTimeout   Duration `yaml:"connect_timeout" default:"10s" min:"100ms" max:"10m" doc:"How long connecting to one address may take."`
	Keepalive        Duration `yaml:"keepalive" default:"30s" min:"0s" max:"2h" doc:"A connection that is silent for so long is probed by TCP, every 10 s and three times, from both ends; then it counts as broken. 0s leaves that to the two systems."`
	StatementTimeout Duration `yaml:"statement_timeout" env:"BENTO_OUTBOX_QUERY_TIMEOUT_SECONDS" default:"1m" min:"0s" max:"1h" doc:"PostgreSQL ends a statement of run that takes longer, and run tries it again. What reads whole tables (the sweep, the first start) and waiting for the lock have limits of their own. 0s: the server's own."`
	JIT              bool     `yaml:"jit" default:"false" doc:"Let PostgreSQL compile run's queries just in time. They are short, so that it costs more than it gains."`

	Columns  Columns  `yaml:"columns" doc:"The names of the outbox table's columns. An empty name says that the table has no such column."`
	Statuses Statuses `yaml:"statuses" doc:"The values of the status column."`
}

// Columns maps what outboxd needs to the columns of the table.
type Columns struct {
	ID            string `yaml:"id" default:"id" doc:"Primary key of the event; must not be empty. Events are told apart by it alone, so that an id must never be used twice, also not after a TRUNCATE: use UUIDs."`
	TenantID      string `yaml:"tenant_id" default:"tenant_id" doc:"Tenant, part of the key that order is kept for; may be empty where database.default_tenant is not."`
	Topic         string `yaml:"topic" default:"topic" doc:"Topic, what routes match; must not be empty."`
	AggregateType string `yaml:"aggregate_type" default:"aggregate_type" doc:"Type of the aggregate, part of the key."`
	AggregateID   string `yaml:"aggregate_id" default:"aggregate_id" doc:"Id of the aggregate, part of the key. An event without one is a key of its own."`
	OccurredAt    string `yaml:"occurred_at" default:"occurred_at" doc:"When the event happened; becomes the event time, in Pulsar for the years 1970 to 2262 (the header has any)."`
	SchemaID      string `yaml:"schema_id" default:"schema_id" doc:"Id of the payload's schema, passed on."`
	SchemaVersion string `yaml:"schema_version" default:"schema_version" doc:"Version of the payload's schema, passed on."`
	Payload       string `yaml:"payload" default:"payload" doc:"Body of the event; must not be empty."`
	Metadata      string `yaml:"metadata" default:"event_metadata" doc:"JSON object of metadata, passed on."`
	Status        string `yaml:"status" default:"status" doc:"Status of the row. Inserts whose status is not statuses.new are ignored."`
	RetryCount    string `yaml:"retry_count" default:"retry_count" doc:"How often the event was refused; shown to people. That a table lacks a column of the usual name is fine here and in the next three."`
	RetryAfter    string `yaml:"retry_after" default:"retry_after" doc:"When it is tried again."`
	ErrorMessage  string `yaml:"error_message" default:"error_message" doc:"Why it was refused."`
	CreatedAt     string `yaml:"created_at" default:"created_at" doc:"When the row was inserted: the order of rows that are older than the slot, and their age for cleanup."`
}

// Statuses are the values of the status column.
type Statuses struct {
	New  string `yaml:"new" env:"BENTO_OUTBOX_STATUS_NEW,BENTO_OUTBOX_NEW_STATUS" default:"NEW" doc:"A row that waits for delivery."`
	Sent string `yaml:"sent" env:"BENTO_OUTBOX_STATUS_SENT,BENTO_OUTBOX_SENT_STATUS" default:"SENT" doc:"A row that was delivered."`

	Failed     string `yaml:"failed" env:"BENTO_OUTBOX_STATUS_FAILED,BENTO_OUTBOX_FAILED_STATUS" default:"FAILED" doc:"A row whose event was refused and is tried again."`
	Dead       string `yaml:"dead" env:"BENTO_OUTBOX_STATUS_DEAD,BENTO_OUTBOX_DEAD_STATUS" default:"DEAD" doc:"A row whose event is not tried again until a person says so."`
	Publishing string `yaml:"publishing" env:"BENTO_OUTBOX_STATUS_PUBLISHING,BENTO_OUTBOX_PUBLISHING_STATUS" default:"PUBLISHING" doc:"A row that a polling projector has taken. At the first start it is delivered like a new one."`
	Published  string `yaml:"published" env:"BENTO_OUTBOX_STATUS_PUBLISHED,BENTO_OUTBOX_PUBLISHED_STATUS" default:"PUBLISHED" doc:"A row that a polling projector has delivered; cleaned up like a sent one. May be the same as sent."`
}

// Shards says how the rows of the table are shared out.
type Shards struct {
	Count  int    `yaml:"count" default:"1" min:"1" max:"16" doc:"How many shards the table has. Each has a slot, a publication and a schema of its own: database.slot, database.publication and database.schema with _COUNTt_NUMBER (by: tenant) or _COUNTk_NUMBER (by: key) behind them. 1: the table is not split, and the names are as they are. It is changed by outboxd reshard."`
	Number int    `yaml:"number" default:"-1" min:"-1" max:"15" doc:"Which shard this process is for, from 0 to count - 1. -1: all of them, each with everything of its own: connections, memory.budget and lease."`
	By     string `yaml:"by" default:"tenant" enum:"tenant,key" doc:"What decides to which shard a row belongs. tenant: each destination then has to hold {tenant}, or match.tenant to name one. key (tenant, aggregate type, aggregate id): each destination has to hold {shard}."`
}

// Encrypt is the encryption of fields of the payload.
type Encrypt struct {
	Fields   Names  `yaml:"fields" default:"password,token,secret,key" doc:"Members of the payload that are encrypted: a name is every member of exactly that name at any depth, a path such as customer.card.number that one alone, with * for any one name or element; arrays are looked through, so that items[].secret is items.secret. An empty list encrypts nothing. Write it out, also where it is the default: without a key that is an error then, and else nothing is encrypted."`
	Keys     Secret `yaml:"keys" env:"ENCRYPTION_KEY" doc:"Fernet keys, separated by commas: the first encrypts, all of them decrypt. Empty: nothing is encrypted."`
	KeysFile string `yaml:"keys_file" doc:"File that holds the keys, in the place of keys, one to a line; it is read at the start."`
}

// Keyring returns the keys, or none where nothing is encrypted. The error names what is wrong and shows no key.
func (e *Encrypt) Keyring() (encrypt.Keys, error) {
	list := e.Keys.Reveal()
	if e.KeysFile != "" {
		text, err := os.ReadFile(e.KeysFile)
		if err != nil {
			return nil, fmt.Errorf("%s %s", e.KeysFile, unreadable(err))
		}
		if list = string(text); strings.TrimSpace(list) == "" {
			return nil, fmt.Errorf("%s is empty: write a key into it", e.KeysFile)
		}
	}
	if list == "" {
		return nil, nil
	}
	return encrypt.ParseKeys(list)
}

// Batch bounds one publish to one destination.
type Batch struct {
	MaxMessages int  `yaml:"max_messages" env:"BENTO_OUTBOX_BATCH_SIZE" default:"500" min:"1" max:"1000" doc:"Messages of one destination in one batch."`
	MaxBytes    Size `yaml:"max_bytes" default:"1MiB" min:"1KiB" max:"64MiB" doc:"Bytes of one batch. A single larger message goes alone."`
}

// Memory bounds what is held.
type Memory struct {
	Budget Size `yaml:"budget" default:"32MiB" min:"1MiB" max:"64GiB" doc:"Bytes of events that are read and not yet delivered. At the limit reading stops; a single larger event passes alone. An eighth has to do while nothing fails or is slow and every destination has two batches in line."`
}

// SlotPolicy says what a lost slot means.
type SlotPolicy struct {
	OnLost string `yaml:"on_lost" default:"recover" enum:"recover,stop" doc:"When the slot was dropped, invalidated or moved: recover makes a new one and takes the rows that are still due from the table; stop ends the program with an error."`
}

// Poll is the delivery of parked events.
type Poll struct {
	BatchSize     int      `yaml:"batch_size" env:"BENTO_OUTBOX_BATCH_SIZE" default:"200" min:"1" max:"1000" doc:"Parked events of one destination that are loaded at once; of a backlog of a whole destination two batches of batch.max_messages are, 1000 at most."`
	MaxConcurrent int      `yaml:"max_concurrent" env:"BENTO_OUTBOX_MAX_CONCURRENT_PROJECTORS" default:"5" min:"1" max:"64" doc:"Destinations whose parked events are worked on at the same time; each takes a database connection."`
	MaxAttempts   int      `yaml:"max_attempts" env:"BENTO_OUTBOX_MAX_RETRY_ATTEMPTS" default:"5" min:"1" max:"1000" doc:"Refusals of an event after which it is dead. A destination that is unavailable costs none."`
	DeadAtOnce    bool     `yaml:"dead_at_once" default:"false" doc:"An event that the broker rejects as it is (too large, say) is dead at the first refusal."`
	Backoff       Backoff  `yaml:"backoff" doc:"The wait before a refused event is tried again: base * multiplier^refusals, give or take a fifth, to the next full tenth of base or half second."`
	Sweep         Duration `yaml:"sweep" default:"30s" min:"1s" max:"1h" doc:"How often the outbox table is looked at for rows that others have changed: FAILED ones that are due, rows set back to NEW or to SENT."`
	FullSweep     Duration `yaml:"full_sweep" default:"1h" min:"1m" max:"168h" doc:"The same for rows set back to NEW, where no index begins with the status and the whole table has to be read."`
}

// Backoff is the wait of a refused event.
type Backoff struct {
	Base        Duration `yaml:"base" env:"BENTO_OUTBOX_BACKOFF_BASE_SECONDS" default:"5s" min:"10ms" max:"1h" doc:"The first wait."`
	Multiplier  float64  `yaml:"multiplier" env:"BENTO_OUTBOX_BACKOFF_MULTIPLIER" default:"2" min:"1" max:"10" doc:"How much longer each further wait is."`
	MaxExponent int      `yaml:"max_exponent" env:"BENTO_OUTBOX_BACKOFF_MAX_EXPONENT" default:"5" min:"0" max:"20" doc:"After so many refusals the wait grows no more."`
}

// Outage is what a broker's outage may cost.
type Outage struct {
	MaxRetainedWAL Size `yaml:"max_retained_wal" default:"1GiB" min:"16MiB" max:"16TiB" doc:"While every broker is down events wait in the log. When PostgreSQL holds back more than this, or half of its max_slot_wal_keep_size, they are parked in the table instead, so that the slot moves on. While another broker works they are parked at once."`
}

// Cleanup is the removal of old rows.
type Cleanup struct {
	Retention     Duration `yaml:"retention" default:"168h" min:"1m" max:"87600h" doc:"Age at which delivered rows are deleted; with on_sent: keep all rows below the confirmed position, whatever their status."`
	DeadRetention Duration `yaml:"dead_retention" default:"0s" min:"0s" max:"87600h" doc:"Age at which dead rows are deleted of which nothing is parked; 0s never. What outboxd itself made dead stays parked until a person skips or retries it."`
	BatchSize     int      `yaml:"batch_size" default:"5000" min:"1" max:"100000" doc:"Rows that are looked at in one transaction."`
	Schedule      string   `yaml:"schedule" default:"0 2 * * *" doc:"When the active instance cleans up, as five fields of cron in the machine's time zone; empty: never by itself."`
}

// Retry is a doubling pause.
type Retry struct {
	Base Duration `yaml:"base" env:"BENTO_OUTBOX_ERROR_RETRY_DELAY" default:"250ms" min:"10ms" max:"1m" doc:"The first pause; each further one is twice as long."`
	Max  Duration `yaml:"max" default:"30s" min:"10ms" max:"1h" doc:"The longest pause. Where a whole broker is down, one destination asks for all, every 3 seconds at least."`
}

// Metrics says what /metrics shows.
type Metrics struct {
	MaxTenants int `yaml:"max_tenants" default:"100" min:"0" max:"10000" doc:"Tenants with time series of their own; those that come later are counted together as \"other\". 0 counts no events by tenant."`
}

// Monitor is the performance monitor.
type Monitor struct {
	Interval Duration `yaml:"interval" env:"BENTO_OUTBOX_ENABLE_PERFORMANCE_MONITORING" default:"1m" min:"0s" max:"1h" doc:"How often the monitor looks: one light statement on the server's views, one line in the log; at least 1s. 0s switches the line off, and health in /status; the server is asked each minute all the same, for the metrics that alerts go by."`
}

// Tracing says where spans go and which.
type Tracing struct {
	Endpoint URL `yaml:"endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" doc:"Address of a collector that takes OTLP over HTTP, http://host:4318 (spans are posted to its path /v1/traces); empty switches tracing off. Each attempt to publish an event whose traceparent is sampled becomes a span. OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and OTEL_BSP_* mean what they usually do."`
	Sample   int `yaml:"sample" default:"100" min:"0" max:"100" doc:"Percent of the sampled traces whose events get spans; always the same traces."`
}

// HTTP is the server for people and monitors.
type HTTP struct {
	Addr string `yaml:"addr" env:"METRICS_PORT" default:":9090" doc:"Address to listen on, host:port; empty switches the server off."`
}

// Log is what is logged and how.
type Log struct {
	Level  string `yaml:"level" env:"LOG_LEVEL" default:"info" enum:"trace,debug,info,warn,error" doc:"The least severe lines that are written."`
	Format string `yaml:"format" default:"auto" enum:"auto,json,console" doc:"json, console (for people), or auto: console on a terminal, else json."`
}

// Route sends the events that match to its destinations.
type Route struct {
	Match Match    `yaml:"match" doc:"Which events; without it, all."`
	To    []Target `yaml:"to" required:"true" doc:"Where they go; an event goes to each of them."`

	OnDead string `yaml:"on_dead" default:"pass" enum:"pass,block" doc:"Whether the later events of its key pass a dead event, or wait behind it until a person decides."`
}

// Match is a pair of globs.
type Match struct {
	Tenant string `yaml:"tenant" default:"*" doc:"Glob over the tenant id."`
	Topic  string `yaml:"topic" default:"*" doc:"Glob over the topic."`
}

// Target is one destination template of one sink.
type Target struct {
	Sink        string `yaml:"sink" required:"true" doc:"Name of a sink."`
	Destination string `yaml:"destination" required:"true" doc:"Name of the stream or topic, with the placeholders {tenant}, {topic}, {aggregate_type} and {shard} (shards.number, 0 where the table is not split)."`
}
