package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/outbox"
)

const closeTimeout = 2 * time.Second

// withDatabase reads the configuration, connects to its database, calls do, and disconnects. pgx leaves passwords out of its errors.
func (a *app) withDatabase(cmd *cobra.Command, do func(context.Context, *pgx.Conn, *config.Config) error) error {
	cfg, _, err := a.load(cmd, config.NeedDatabase)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	parsed, err := pgx.ParseConfig(cfg.Database.URL.Reveal())
	if err != nil {
		return fmt.Errorf("read database.url: %w", err)
	}
	if parsed.RuntimeParams["application_name"] == "" {
		parsed.RuntimeParams["application_name"] = "outboxd"
	}
	conn, err := pgx.ConnectConfig(ctx, parsed)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", cfg.Database.URL, err)
	}
	err = do(ctx, conn, cfg)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return errors.Join(err, conn.Close(closing))
}

// tableName takes the outbox table's name apart.
func tableName(cfg *config.Config) (schema, table string) {
	schema, table, err := outbox.ParseName(cfg.Database.Table)
	if err != nil {
		panic(err) // the configuration has read it
	}
	return schema, table
}
