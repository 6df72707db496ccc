package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
)

// askBeyond is how much a command changes without asking.
const askBeyond = 1000

// action is what a person can do to deliveries that wait or are dead.
type action struct {
	verb, did, does string
	do              func(ctx context.Context, conn *pgx.Conn, schema, slot string, f park.Filter, note string) (int, error)
}

func newEventsRetryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry [ID...]",
		Short: "Try dead or waiting events again, at once",
		Long: `Make deliveries that are dead or wait due at once, with all their attempts before them. Name the events by
their ids or by filters; each destination of an event counts as one delivery.

The running instance is told and goes on by itself. What was done stays in the audit table, see events show.`,
		Example: `  outboxd events retry 0198c1f2-7a51-7bcd-8f0e-3d5a9c1b2e4f --note "limit raised" --config outboxd.yaml
  outboxd events retry --status dead --tenant acme --reason "max_message_bytes" --dry-run --config outboxd.yaml
  outboxd events retry --status dead --all --yes --config outboxd.yaml`,
	}
	return a.newActCommand(cmd, action{"retry", "retried", "retries", park.Retry})
}

func newEventsSkipCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "skip [ID...]",
		Short: "Decide that dead or waiting events are not delivered",
		Long: `Decide that deliveries which are dead or wait are never made. Name the events by their ids or by filters; each
destination of an event counts as one delivery. Later events of the same key no longer wait for them.

An event of which nothing waits any more counts as settled: its row in the outbox table becomes what on_sent says.
What was done stays in the audit table.`,
		Example: `  outboxd events skip 0198c1f2-7a51-7bcd-8f0e-3d5a9c1b2e4f --note "test data" --config outboxd.yaml
  outboxd events skip --status dead --topic 'metrics.raw' --older-than 72h --dry-run --config outboxd.yaml`,
	}
	return a.newActCommand(cmd, action{"skip", "skipped", "skips", park.Skip})
}

// actFlags are the flags of a command that changes deliveries.
type actFlags struct {
	*parkedFlags
	all, dryRun, yes bool
	note             string
	output           *choice
}

func (a *app) newActCommand(cmd *cobra.Command, act action) *cobra.Command {
	f := &actFlags{parkedFlags: addParkedFlags(cmd, park.Waiting, park.Dead)}
	flags := cmd.Flags()
	flags.BoolVar(&f.all, "all", false, act.verb+" everything that waits or is dead, when nothing narrows it")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only count")
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	flags.StringVar(&f.note, "note", "", "`TEXT` for the audit table: why")
	f.output = outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		filter, everything, err := f.filter(cmd, ids)
		if err != nil {
			return err
		}
		if everything && !f.all {
			return usage(cmd, "name events by their ids or by filters, or everything by --all")
		}
		if len(filter.States) == 0 {
			filter.States = []park.State{park.Waiting, park.Dead}
		}
		return a.withRows(cmd, config.NeedDatabase, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			return a.act(ctx, conn, cfg, act, f, filter)
		})
	}
	return cmd
}

func (a *app) act(ctx context.Context, conn *pgx.Conn, cfg *config.Config, act action, f *actFlags, filter park.Filter) error {
	schema, slot := cfg.Database.Schema, cfg.Database.Slot
	if len(filter.IDs) > 0 {
		if t, err := outbox.Describe(ctx, conn, outboxConfig(cfg)); err == nil { // who may not read the table still acts on what is parked
			if filter.IDs, err = spelled(ctx, conn, t, filter.IDs); err != nil {
				return err
			}
		}
	}
	if err := checkIDs(ctx, conn, cfg, filter); err != nil {
		return err
	}
	n, err := park.Matching(ctx, conn, schema, slot, filter)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.printActed(f.output.value, act, n, true)
	}
	if n > askBeyond && !f.yes {
		if err := a.confirm("this "+act.does+" "+deliveries(n), strconv.Itoa(n)); err != nil {
			return err
		}
	}
	err = again(ctx, func() (err error) {
		n, err = act.do(ctx, conn, schema, slot, filter, f.note)
		return err
	})
	if _, refused := errors.AsType[*pgconn.PgError](err); refused {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if err != nil {
		return err
	}
	return a.printActed(f.output.value, act, n, false)
}

// checkIDs makes sure that each of the ids names something that matches, before anything is changed.
func checkIDs(ctx context.Context, conn *pgx.Conn, cfg *config.Config, filter park.Filter) error {
	var missing []string
	for _, id := range filter.IDs {
		one := filter
		one.IDs = []string{id}
		n, err := park.Matching(ctx, conn, cfg.Database.Schema, cfg.Database.Slot, one)
		if err != nil {
			return err
		}
		if n == 0 && !slices.Contains(missing, id) {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("nothing of event %s waits or is dead here, so nothing was changed: see outboxd events show %s",
		strings.Join(missing, ", "), missing[0])
}

func (a *app) printActed(output string, act action, n int, dryRun bool) error {
	if output == "json" {
		return a.printJSON(map[string]any{act.did: n, "dry_run": dryRun})
	}
	if dryRun {
		return a.print("would %s %s\n", act.verb, deliveries(n))
	}
	return a.print("%s %s\n", act.did, deliveries(n))
}
