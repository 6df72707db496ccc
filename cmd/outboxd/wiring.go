package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/decode"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/format"
	"github.com/outboxd/outboxd/wal"
)

// relayConfig translates the configuration for the relay; the caller adds Log, Registry, SkipBacklog and Until. create lets it make a
// missing publication and slot. name is what the sinks go by, and is learned at the beginning of each session.
func relayConfig(cfg *config.Config, sinks map[string]sink.Sink, name *outboxName, create bool) (relay.Config, error) {
	router, err := cfg.Router()
	if err != nil {
		return relay.Config{}, err
	}
	newEncoder, err := newEncoders(cfg)
	if err != nil {
		return relay.Config{}, err
	}
	return relay.Config{
		WAL:     walConfig(cfg, create),
		Schema:  cfg.Database.Schema,
		Outbox:  outboxConfig(cfg),
		Columns: columns(cfg),
		Holder:  holder(),

		StatementTimeout: cfg.Database.StatementTimeout.Std(),
		JIT:              cfg.Database.JIT,

		Admit: func(ctx context.Context, conn *pgx.Conn) error {
			if err := name.learn(ctx, conn, cfg.Database.Slot); err != nil {
				return err
			}
			return migrations.Verify(ctx, conn, migrationOptions(cfg, ""))
		},

		Router:       router,
		Routes:       cfg.RoutesText(),
		DropUnrouted: cfg.Unrouted == "drop",
		Sinks:        sinks,
		NewEncoder:   newEncoder,
		AtLeastOnce:  cfg.Delivery == "at_least_once",

		BatchMessages:  cfg.Batch.MaxMessages,
		BatchBytes:     int(cfg.Batch.MaxBytes),
		Concurrency:    cfg.Concurrency,
		PublishTimeout: publishTimeout(cfg),
		RetryBase:      cfg.Retry.Base.Std(),
		RetryMax:       cfg.Retry.Max.Std(),

		Table: relay.TableConfig{
			BatchSize: cfg.Poll.BatchSize, MaxConcurrent: cfg.Poll.MaxConcurrent,
			MaxAttempts: cfg.Poll.MaxAttempts, DeadAtOnce: cfg.Poll.DeadAtOnce,
			BackoffBase: cfg.Poll.Backoff.Base.Std(), Multiplier: cfg.Poll.Backoff.Multiplier, MaxExponent: cfg.Poll.Backoff.MaxExponent,
			Sweep: cfg.Poll.Sweep.Std(), FullSweep: cfg.Poll.FullSweep.Std(),
		},
		MaxRetainedWAL: int64(cfg.Outage.MaxRetainedWAL),
		StopWhenLost:   cfg.Slot.OnLost == "stop",

		MemoryBudget:       int64(cfg.Memory.Budget),
		StatusInterval:     cfg.StatusInterval.Std(),
		CheckpointInterval: cfg.CheckpointInterval.Std(),
		ShutdownTimeout:    cfg.ShutdownTimeout.Std(),

		MeasureInterval: measureInterval(cfg),
		MaxTenants:      cfg.Metrics.MaxTenants,
	}, nil
}

// measureInterval is monitor.interval. Without the monitor the slot is measured as by default: alerts go by it.
func measureInterval(cfg *config.Config) time.Duration {
	return cmp.Or(cfg.Monitor.Interval, config.Default().Monitor.Interval).Std()
}

// walConfig says what the replication connection reads. cfg is that of one shard.
func walConfig(cfg *config.Config, create bool) wal.Config {
	schema, table := tableName(cfg)
	return wal.Config{
		URL: cfg.Database.URL.Reveal(),
		Client: wal.Client{
			ApplicationName: cfg.Database.ApplicationName,
			ConnectTimeout:  cfg.Database.ConnectTimeout.Std(),
			Keepalive:       cfg.Database.Keepalive.Std(),
		},
		Schema: schema, Table: table,
		Columns: columns(cfg).Names(),
		Slot:    cfg.Database.Slot, Publication: cfg.Database.Publication,
		Rows: shardRows(cfg, ""), Others: otherLayouts(cfg),
		Create: create, Failover: cfg.Database.Failover,
		StatusInterval: cfg.StatusInterval.Std(),
	}
}

// columns names the outbox table's columns for the decoder.
func columns(cfg *config.Config) decode.Columns {
	c := cfg.Database.Columns
	return decode.Columns{
		ID: c.ID, TenantID: c.TenantID, Topic: c.Topic, AggregateType: c.AggregateType, AggregateID: c.AggregateID, OccurredAt: c.OccurredAt,
		SchemaID: c.SchemaID, SchemaVersion: c.SchemaVersion, Payload: c.Payload, Metadata: c.Metadata, Status: c.Status,
		DefaultTenant: cfg.Database.DefaultTenant,
	}
}

// outboxConfig says how delivered rows are settled.
func outboxConfig(cfg *config.Config) outbox.Config {
	schema, table := tableName(cfg)
	d := &cfg.Database
	return outbox.Config{
		Schema: schema, Table: table,
		Columns:  outbox.Columns(d.Columns),
		Statuses: outbox.Statuses(d.Statuses),
		OnSent:   cfg.OnSent,
		Rows:     shardRows(cfg, "o."),

		DefaultTenant: d.DefaultTenant,
	}
}

// shardRows is the condition that a row belongs to the shard, with a prefix before each column.
func shardRows(cfg *config.Config, prefix string) string {
	condition, err := cfg.Shard().Rows(cfg.Database.ShardColumns(), prefix)
	if err != nil {
		panic(err) // the configuration was checked
	}
	return condition
}

// otherLayouts names the instances that would share out the same table in another way.
func otherLayouts(cfg *config.Config) []wal.Names {
	slot, publication, schema := cfg.Unsplit()
	var all []wal.Names
	for _, s := range cfg.Shard().OfOtherLayouts() {
		all = append(all, wal.Names{Slot: s.Name(slot), Publication: s.Name(publication), Schema: s.Name(schema), Layout: s.Layout()})
	}
	return all
}

// newEncoders returns what makes an encoder for each goroutine, after making one to see that it can be made.
func newEncoders(cfg *config.Config) (func() *format.Encoder, error) {
	options := format.Options{Source: cfg.Source}
	encrypter, err := newEncrypter(cfg)
	if err != nil {
		return nil, err
	}
	if encrypter != nil {
		options.Payload = encrypter.Append
	}
	encoder := func() (*format.Encoder, error) { return format.New(cfg.Format, options) }
	if _, err := encoder(); err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	return func() *format.Encoder {
		e, err := encoder()
		if err != nil {
			panic(fmt.Sprintf("format %s could be made before: %v", cfg.Format, err))
		}
		return e
	}, nil
}
