package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/park"
)

const migrateLong = `Make, describe or remove outboxd's own tables, and make the outbox table where there is none.

A table that stands under the outbox's name is never touched. All of it may be run again, and from two
places at once.`

func newMigrateCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "migrate",
		Short: "Make outboxd's own tables, and the outbox table where it is absent",
		Long:  migrateLong,
		Example: `  outboxd migrate up --config outboxd.yaml
  outboxd migrate status --database-url postgres://localhost/shop
  outboxd migrate sql --role outboxd > outboxd.sql`,
	})
	cmd.AddCommand(newMigrateUpCommand(a), newMigrateDownCommand(a), newMigrateStatusCommand(a), newMigrateSQLCommand(a))
	return cmd
}

// indexesFlag adds --indexes.
func indexesFlag(cmd *cobra.Command) *choice {
	return choiceFlag(cmd, "indexes", "", "indexes of an outbox table that is made: lean is fast, full has those that existing dashboards query",
		string(migrations.Lean), string(migrations.Full))
}

func newMigrateUpCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Apply the steps that are pending",
		Example: `  outboxd migrate up --config outboxd.yaml
  outboxd migrate up --indexes full --database-url postgres://localhost/shop`,
		Args: noArguments,
	}
	indexes, output := indexesFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withDatabase(cmd, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			o := migrationOptions(cfg, indexes.value)
			r, err := migrations.Up(ctx, conn, o)
			if err != nil {
				return err
			}
			if output.value == "json" {
				return a.printJSON(r)
			}
			if r.OutboxCreated {
				if err := a.print("made table %s.%s (%s indexes)\n", o.TableSchema, o.Table, o.Indexes); err != nil {
					return err
				}
			}
			return a.printSteps("applied", "nothing to apply", r.Steps)
		})
	}
	return cmd
}

func newMigrateDownCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove outboxd's own tables, never the outbox table",
		Long: `Remove outboxd's own tables with everything in them, and their schema when nothing else is in it.

Stop outboxd first: while an instance is active that uses them, on whatever slot, nothing is removed. The outbox table, publications, slots and
roles stay.`,
		Example: `  outboxd migrate down --config outboxd.yaml --yes`,
		Args:    noArguments,
	}
	output := outputFlag(cmd)
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withDatabase(cmd, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			if !*yes {
				if err := a.confirm("this removes the tables in schema "+cfg.Database.Schema, cfg.Database.Schema); err != nil {
					return err
				}
			}
			if err := takeFromInstances(ctx, conn, cfg); err != nil {
				return err
			}
			r, err := migrations.Down(ctx, conn, migrationOptions(cfg, ""))
			if err != nil {
				return err
			}
			if output.value == "json" {
				return a.printJSON(r)
			}
			nothing := "nothing to remove"
			if r.SchemaDropped {
				nothing = "removed what was left of schema " + cfg.Database.Schema
			}
			return a.printSteps("removed", nothing, r.Steps)
		})
	}
	return cmd
}

// takeFromInstances takes the locks of all instances that use the schema and keeps them until conn is closed, so that none streams while its tables go.
func takeFromInstances(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
	slots, err := park.Slots(ctx, conn, cfg.Database.Schema)
	if err != nil && !errors.Is(err, lease.ErrNotMigrated) {
		return err
	}
	for _, slot := range append(slots, cfg.Database.Slot) {
		free, err := park.TryLock(ctx, conn, cfg.Database.Schema, slot)
		if err != nil {
			return err
		}
		if !free {
			return fmt.Errorf("an instance of outboxd is active on slot %q, so nothing was removed: stop all instances first", slot)
		}
	}
	return nil
}

func (a *app) printSteps(did, nothing string, steps []migrations.Step) error {
	if len(steps) == 0 {
		return a.print("%s\n", nothing)
	}
	var rows [][]string
	for _, s := range steps {
		rows = append(rows, []string{did, strconv.Itoa(int(s.Version)), s.Name})
	}
	return table(a.out, rows)
}

func newMigrateStatusCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show which steps are applied",
		Example: `  outboxd migrate status --config outboxd.yaml
  outboxd migrate status --config outboxd.yaml --output json`,
		Args: noArguments,
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withDatabase(cmd, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			o := migrationOptions(cfg, "")
			s, err := migrations.ReadStatus(ctx, conn, o)
			if err != nil {
				return err
			}
			if output.value == "json" {
				return a.printJSON(s)
			}
			return a.printStatus(s, o)
		})
	}
	return cmd
}

func (a *app) printStatus(s migrations.Status, o migrations.Options) error {
	rows := [][]string{{"STEP", "NAME", "APPLIED AT", "STATE"}}
	for _, step := range s.Applied {
		at := "unknown"
		if !step.AppliedAt.IsZero() {
			at = step.AppliedAt.UTC().Format("2006-01-02 15:04:05Z")
		}
		rows = append(rows, []string{strconv.Itoa(int(step.Version)), step.Name, at, a.paint(green, "applied")})
	}
	for _, step := range s.Pending {
		rows = append(rows, []string{strconv.Itoa(int(step.Version)), step.Name, "-", a.paint(yellow, "pending")})
	}
	state := a.paint(green, "there")
	if !s.Outbox {
		state = a.paint(yellow, "absent")
	}
	return table(a.out, append(rows, []string{"-", o.TableSchema + "." + o.Table, "-", state}))
}

func newMigrateSQLCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sql",
		Short: "Print the SQL that a DBA would run by hand",
		Long: `Print what "migrate up" does as a script for psql, without connecting to anything. With --role the
script also makes the publication and gives that role the least rights that "run" needs.`,
		Example: `  outboxd migrate sql --config outboxd.yaml > outboxd.sql
  outboxd migrate sql --indexes full --role outboxd > outboxd.sql`,
		Args: noArguments,
	}
	indexes := indexesFlag(cmd)
	role := cmd.Flags().String("role", "", "`NAME` of the role that outboxd will run as")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, _, err := a.load(cmd, config.NeedNothing)
		if err != nil {
			return err
		}
		for _, part := range cfg.Split() {
			o := migrationOptions(part, indexes.value)
			err = errors.Join(err, migrations.WriteSQL(a.out, o))
			if *role != "" {
				err = errors.Join(err, migrations.WriteRoleSQL(a.out, o, roleOptions(part, *role)))
			}
		}
		return err
	}
	return cmd
}

// roleOptions says what the running role needs with this configuration.
func roleOptions(cfg *config.Config, name string) migrations.Role {
	d := cfg.Database
	c := &d.Columns
	return migrations.Role{
		Name: name, OnSent: string(cfg.OnSent), Publication: d.Publication, Rows: shardRows(cfg, ""),
		StatusColumn: c.Status, RetryCountColumn: c.RetryCount, RetryAfterColumn: c.RetryAfter, ErrorMessageColumn: c.ErrorMessage,
	}
}

// migrationOptions names the schema and the table. An empty indexes stands for the default.
func migrationOptions(cfg *config.Config, indexes string) migrations.Options {
	schema, name := tableName(cfg)
	return migrations.Options{
		Schema: cfg.Database.Schema, TableSchema: schema, Table: name,
		Indexes: migrations.Indexes(cmp.Or(indexes, string(migrations.Lean))),
	}
}
