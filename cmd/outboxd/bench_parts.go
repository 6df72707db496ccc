package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/bench"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/wal"
)

// bencher is everything that one bench is made of.
type bencher struct {
	app *app // with the settings of outboxd
	o   benchOptions
	id  string // in the names of all that it makes
	dir string // outboxd's log
	own bool   // whether the servers are

	settled []string // settings of the servers that were started
	given   []string // settings of outboxd that were given with --set and may be shown

	cfg      *config.Config
	parts    []*config.Config // of cfg, one for each shard
	sink     string
	conn     *pgx.Conn
	schema   string // of the outbox table; outboxd's own has _own behind it
	template string // of the destinations
	broker   *broker
	server   interruptible // of the broker; nil for one of the user's
	backlog  *bench.Backlog
	end      string // log position behind it
	result   bench.Result

	cleanups cleanups
}

func newBencher(a *app, o benchOptions, own bool) (*bencher, error) {
	b := &bencher{app: a, o: o, own: own, id: strings.ToLower(rand.Text()[:8]), given: shown(a.settings)}
	b.schema = "outboxd_bench_" + b.id
	var err error
	if b.dir, err = os.MkdirTemp("", "outboxd-bench-"); err != nil {
		return nil, fmt.Errorf("make a folder for the log: %w", err)
	}
	return b, nil
}

// shown are the settings that make a difference to the figures. None of them can hold a secret.
func shown(settings []string) (all []string) {
	for _, s := range settings {
		name, _, _ := strings.Cut(s, "=")
		part, _, _ := strings.Cut(name, ".")
		if slices.Contains([]string{"batch", "memory", "concurrency", "poll", "delivery", "format", "status_interval", "checkpoint_interval"}, part) {
			all = append(all, s)
		}
	}
	return all
}

// say tells on standard error what happens.
func (b *bencher) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.app.err, format+"\n", args...) // nobody reads it where this fails
}

func (b *bencher) logFile() string { return filepath.Join(b.dir, "outboxd.log") }

// cleanUp takes away everything, the latest first. After a failure outboxd's log stays.
func (b *bencher) cleanUp(ctx context.Context, failure error) error {
	ctx, cancel := context.WithTimeout(ctx, benchCleanUp)
	defer cancel()
	failed := b.cleanups.run(ctx)
	if info, err := os.Stat(b.logFile()); failure != nil && err == nil && info.Size() > 0 {
		b.say("outboxd's log is kept: %s", b.logFile())
		return failed
	}
	return errors.Join(failed, os.RemoveAll(b.dir))
}

// prepare makes everything ready for a backlog: servers, tables, and a slot that outboxd knows.
func (b *bencher) prepare(ctx context.Context, cmd *cobra.Command) error {
	if err := b.configure(ctx, cmd); err != nil {
		return err
	}
	if err := b.openDatabase(ctx); err != nil {
		return err
	}
	logging.Disable() // the client would write over the progress
	b.backlog = &bench.Backlog{
		Table: pgx.Identifier{b.schema, "outbox"}, Status: b.cfg.Database.Statuses.New, Rows: b.o.rows, Transaction: b.o.transaction,
		Payload: b.o.payload, Tenants: b.o.tenants, Topics: b.o.topics, Keys: b.o.keys, Shards: b.o.shards, Failing: b.o.failing,
	}
	if err := b.openBroker(ctx); err != nil {
		return err
	}
	if err := b.describe(ctx); err != nil {
		return err
	}
	if err := b.fillTable(ctx); err != nil {
		return err
	}
	if err := b.makeSlot(ctx); err != nil {
		return err
	}
	return b.fillParked(ctx)
}

// configure finds or starts the servers, and settles what outboxd is told.
func (b *bencher) configure(ctx context.Context, cmd *cobra.Command) (err error) {
	if b.own {
		err = b.startServers(ctx)
	} else {
		err = b.chooseSink(cmd)
	}
	if err != nil {
		return err
	}
	names := []string{"outboxd-bench-" + b.id, "{tenant}", "{topic}"}
	if b.o.shards > 1 {
		names = append(names, "{shard}")
	}
	b.template = strings.Join(names, ":")
	if b.cfg == nil && b.sink == "pulsar" || b.cfg != nil && b.cfg.Sinks[b.sink].Pulsar != nil {
		b.template = "persistent://public/default/" + strings.Join(names, "_") // names of tenants have a -
	}
	shared := *b.app
	shared.settings = slices.Concat(shared.settings, b.settings())
	b.app = &shared
	if b.cfg, _, err = b.app.load(cmd, config.NeedAll); err != nil {
		return err
	}
	b.parts = b.cfg.Split()
	if b.cfg.Format != "raw" {
		return fmt.Errorf("format is %s, and bench reads raw alone: add --set format=raw", b.cfg.Format)
	}
	return nil
}

// schemas are all that the bench makes: of the outbox table, and of outboxd's own, one for each shard.
func (b *bencher) schemas() []string {
	all := []string{b.schema}
	for _, part := range b.parts {
		all = append(all, part.Database.Schema)
	}
	return all
}

// settings are those of outboxd that the bench decides.
func (b *bencher) settings() []string {
	s := []string{
		"database.slot=" + b.schema, "database.publication=" + b.schema, "database.table=" + b.schema + ".outbox", "database.schema=" + b.schema + "_own",
		"database.application_name=" + b.schema, "on_sent=" + b.o.onSent.value, "cleanup.schedule=",
		"shards.count=" + strconv.Itoa(b.o.shards), "shards.by=key", "shards.number=-1",
		"routes=[{to: [{sink: " + quoteYAML(b.sink) + ", destination: " + quoteYAML(b.template) + "}]}]",
	}
	for _, column := range []string{
		"id", "tenant_id", "topic", "aggregate_type", "aggregate_id", "occurred_at", "schema_id", "schema_version", "payload",
		"status", "retry_count", "retry_after", "error_message", "created_at",
	} {
		s = append(s, "database.columns."+column+"="+column)
	}
	return append(s, "database.columns.metadata=event_metadata")
}

// chooseSink reads the user's configuration.
func (b *bencher) chooseSink(cmd *cobra.Command) (err error) {
	if b.cfg, _, err = b.app.load(cmd, config.NeedAll); err != nil {
		return err
	}
	b.sink = b.o.sink
	if b.sink == "" && len(b.cfg.Sinks) == 1 {
		for name := range b.cfg.Sinks {
			b.sink = name
		}
	}
	sink, ok := b.cfg.Sinks[b.sink]
	switch {
	case b.sink == "":
		return usage(cmd, "there are several sinks: choose one with --sink")
	case !ok || sink.Stdout != nil:
		return usage(cmd, "--sink %s: that is no sink of Redis or Pulsar in the configuration", b.sink)
	case sink.Pulsar != nil && sink.Pulsar.AdminURL.Empty():
		return fmt.Errorf("sinks.%s.admin_url is needed: entries are counted, and topics removed, by the admin API", b.sink)
	case sink.Redis != nil && sink.Redis.MaxLen > 0:
		b.app.settings = append(b.app.settings, "sinks."+b.sink+".maxlen=0")
	}
	return nil
}

// startServers starts PostgreSQL and a broker with settings of a server that is made for such a load, and keeps the environment's settings away.
func (b *bencher) startServers(ctx context.Context) error {
	shared := *b.app
	shared.environ = withoutSettings(b.app.environ)
	b.app = &shared
	b.sink = b.o.sink
	if b.sink == "" {
		b.sink = "redis"
	}
	settings := []string{"shared_buffers = 512MB", "max_wal_size = 16GB", "checkpoint_timeout = 1h"}
	database, err := testenv.StartPostgres(ctx, testenv.PostgresOptions{Fsync: true, Settings: settings, Progress: b.app.err})
	if err != nil {
		return fmt.Errorf("start PostgreSQL (or use yours with --env-file or --config): %w", err)
	}
	b.cleanups.add("stop PostgreSQL", database.Close)
	b.settled = append(b.settled, settings...)
	shared.settings = append(slices.Clip(shared.settings), "database.url="+database.URL)
	switch b.sink {
	case "redis":
		broker, err := testenv.StartRedis(ctx, testenv.RedisOptions{})
		if err != nil {
			return fmt.Errorf("start Redis (or use yours with --env-file or --config): %w", err)
		}
		b.server = broker
		b.cleanups.add("stop Redis", broker.Close)
		shared.settings = append(shared.settings, "sinks.redis.url="+broker.URL)
	case "pulsar":
		b.say("starting Pulsar (some 10 seconds; the first time it is downloaded)")
		broker, err := testenv.StartPulsar(ctx, testenv.PulsarOptions{Progress: b.app.err})
		if err != nil {
			return fmt.Errorf("start Pulsar (or use yours with --env-file or --config): %w", err)
		}
		b.server = broker
		b.cleanups.add("stop Pulsar", broker.Close)
		shared.settings = append(shared.settings, "sinks.pulsar.url="+broker.URL, "sinks.pulsar.admin_url="+broker.AdminURL)
	default:
		return usageError{"--sink " + b.sink + ": choose redis or pulsar, or name your servers with --config: see outboxd bench --help"}
	}
	return nil
}

// openDatabase makes the schemas and their tables.
func (b *bencher) openDatabase(ctx context.Context) (err error) {
	if b.conn, err = connect(ctx, b.cfg, nil); err != nil {
		return noConnection(ctx, err)
	}
	b.cleanups.add("disconnect from PostgreSQL", func(ctx context.Context) error { return wal.CloseConn(ctx, b.conn) })
	b.cleanups.add("remove schemas, slots and publications "+b.schema, b.dropAll)
	if _, err := b.conn.Exec(ctx, `CREATE SCHEMA `+b.schema); err != nil {
		return fmt.Errorf("create a schema for the bench: %w", err)
	}
	for _, part := range b.parts {
		o := migrations.Options{Schema: part.Database.Schema, TableSchema: b.schema, Indexes: migrations.Indexes(b.o.indexes.value)}
		if _, err := migrations.Up(ctx, b.conn, o); err != nil {
			return err
		}
	}
	return nil
}

// dropAll removes what the bench and outboxd made in the database.
func (b *bencher) dropAll(ctx context.Context) error {
	var failed []error
	for _, part := range b.parts {
		_, err := b.conn.Exec(ctx, `DROP PUBLICATION IF EXISTS `+part.Database.Publication)
		failed = append(failed, dropSlot(ctx, b.conn, part.Database.Slot), err)
	}
	_, err := b.conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+strings.Join(b.schemas(), ", ")+` CASCADE`)
	return errors.Join(append(failed, err)...)
}

// dial connects to the broker, for some of the destinations.
func (b *bencher) dial(names []string) (*broker, error) {
	return openBroker(b.sink, b.cfg.Sinks[b.sink], "outboxd-bench-"+b.id, names)
}

// openBroker connects to the broker, and sees to it that what arrives is removed.
func (b *bencher) openBroker(ctx context.Context) (err error) {
	if b.broker, err = b.dial(b.backlog.Destinations(b.template)); err != nil {
		return err
	}
	b.cleanups.add("disconnect from sink "+b.sink, func(ctx context.Context) error {
		return errors.Join(b.broker.reader.Close(), b.broker.hangUp(ctx))
	})
	b.cleanups.add("remove what the bench made at sink "+b.sink, func(ctx context.Context) error {
		if b.own {
			return nil // the server goes with all it holds
		}
		return b.empty(ctx)
	})
	if _, err := b.counter().Count(ctx); err != nil {
		return fmt.Errorf("reach sink %s: %w", b.sink, err)
	}
	return nil
}

// counter is the broker as bench wants it: both readers are.
func (b *bencher) counter() bench.Broker { return b.broker.reader.(bench.Broker) } //nolint:errcheck,forcetypeassert // openBroker makes no other

// empty removes all destinations.
func (b *bencher) empty(ctx context.Context) error {
	for _, name := range b.broker.names {
		if err := b.broker.remove(ctx, name); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil
}
