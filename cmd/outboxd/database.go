package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/doctor"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/wal"
)

// withDatabase reads the configuration, connects to its database, calls do, and disconnects. Where the configuration is for several shards, it calls do
// for each of them. pgx leaves passwords out of its errors.
func (a *app) withDatabase(cmd *cobra.Command, do func(context.Context, *pgx.Conn, *config.Config) error) error {
	return a.connected(cmd, config.NeedDatabase, wal.TextFormat, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
		return a.eachShard(cmd, cfg, func(part *config.Config) error { return do(ctx, conn, part) })
	})
}

// withRows is withDatabase for commands that read events from a table as the log carries them, those of one shard; need says what they want
// configured.
func (a *app) withRows(cmd *cobra.Command, need config.Need, do func(context.Context, *pgx.Conn, *config.Config) error) error {
	return a.connected(cmd, need, wal.TextFormat, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
		parts := cfg.Split()
		if len(parts) > 1 {
			return usage(cmd, "%s looks at one shard at a time: name it with --set shards.number=K, 0 to %d", cmd.Name(), cfg.Shards.Count-1)
		}
		return do(ctx, conn, parts[0])
	})
}

// eachShard calls do for each shard, with its number before what it prints as text. Those behind one that fails have their turn too, unless the command
// was told to stop.
func (a *app) eachShard(cmd *cobra.Command, cfg *config.Config, do func(*config.Config) error) error {
	var failed []error
	parts := cfg.Split()
	output := cmd.Flags().Lookup("output")
	for _, part := range parts {
		if len(parts) > 1 && (output == nil || output.Value.String() != "json") {
			if err := a.print("shard %d of %d (%s)\n", part.Shards.Number, part.Shards.Count, part.Database.Slot); err != nil {
				return err
			}
		}
		if err := do(part); err != nil {
			if len(parts) > 1 {
				err = fmt.Errorf("shard %d: %w", part.Shards.Number, err)
			}
			failed = append(failed, err)
		}
		if cmd.Context().Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

func (a *app) connected(
	cmd *cobra.Command, need config.Need, parameters map[string]string, do func(context.Context, *pgx.Conn, *config.Config) error,
) error {
	cfg, _, err := a.load(cmd, need)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	conn, err := connect(ctx, cfg, parameters)
	if err != nil {
		return noConnection(ctx, err)
	}
	return errors.Join(do(ctx, conn, cfg), wal.CloseConn(ctx, conn))
}

// connect opens a connection to the configured database, with runtime parameters of the session.
func connect(ctx context.Context, cfg *config.Config, parameters map[string]string) (*pgx.Conn, error) {
	parsed, err := walConfig(cfg, false).ConnConfig()
	if err != nil {
		return nil, err
	}
	wal.SetParameters(parsed.RuntimeParams, parameters)
	return dial(ctx, cfg, parsed)
}

func dial(ctx context.Context, cfg *config.Config, parsed *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, parsed)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg.Database.URL, wal.ThroughPooler(err))
	}
	return conn, nil
}

// noConnection adds what mends it to an error of connecting, unless it says so itself or the command was told to stop.
func noConnection(ctx context.Context, err error) error {
	if ctx.Err() != nil || len(wal.CheckErrors(err)) > 0 {
		return err
	}
	return connectionError(err)
}

func connectionError(err error) error {
	return fmt.Errorf("no connection to PostgreSQL: %s: %w", doctor.MendConnection(err), err)
}

// tableName takes the outbox table's name apart.
func tableName(cfg *config.Config) (schema, table string) {
	schema, table, err := outbox.ParseName(cfg.Database.Table)
	if err != nil {
		panic(err) // the configuration has read it
	}
	return schema, table
}

// dropSlot ends the slot's walsender, which may outlive outboxd for a moment, and drops the slot.
func dropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	for {
		var slots int
		err := conn.QueryRow(ctx, `SELECT count(*) + count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE slot_name = $1`,
			name).Scan(&slots)
		if err != nil || slots == 0 {
			return err
		}
		err = wal.DropSlot(ctx, conn, name)
		switch {
		case errors.Is(err, wal.ErrSlotActive) && ctx.Err() == nil:
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		default:
			return err
		}
	}
}
