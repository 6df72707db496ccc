package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/shard"
	"github.com/outboxd/outboxd/wal"
)

const reshardLong = `Split the outbox table into another number of shards, or by the other of tenant and key. Applications go on writing.

Stop all instances first, the standbys too, and leave the configuration as it is: it is that of the layout until now. The command

  1. makes schemas, publications and slots of the new layout, which waits for the transactions that are open,
  2. takes a position of the log, and delivers everything that was committed before it, and nothing else, as the old layout,
  3. records that position as the beginning of every new slot, in one transaction,
  4. drops the old slots.

Then set shards.count and shards.by (and routes that keep the new shards apart) and start outboxd. What is committed meanwhile
waits in the log. There is no /readyz meanwhile, and there are no metrics.

Where it fails, or is stopped by SIGINT or SIGTERM, before step 3, the slots it has made are removed, and the old layout can go on.
Where it was killed, run it again. It does not begin, and gives up before step 3, while events are parked or dead.

Schemas and publications of the old layout stay. "outboxd migrate down" with the old configuration, and DROP PUBLICATION, remove them;
the first has to be before you go back to that layout.`

func newReshardCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reshard",
		Short: "Split the table into another number of shards, at one position of the log",
		Long:  reshardLong,
		Example: `  outboxd reshard --config outboxd.yaml --count 4
  outboxd reshard --config outboxd.yaml --count 4 --by key --yes
  outboxd reshard --config outboxd.yaml --count 1`,
		Args: noArguments,
	}
	count := cmd.Flags().Int("count", 0, fmt.Sprintf("`NUMBER` of shards to come, 1 to %d; 1: the table is not split", shard.Most))
	by := choiceFlag(cmd, "by", "", "what decides to which shard a row belongs; as it is, where this is not given", string(shard.Tenant), string(shard.Key))
	by.value, cmd.Flags().Lookup("by").DefValue = "", ""
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("count") {
			return usage(cmd, "--count is missing: how many shards are to come")
		}
		if *count < 1 || *count > shard.Most {
			return usage(cmd, "--count %d: want 1 to %d shards", *count, shard.Most)
		}
		cfg, _, err := a.load(cmd, config.NeedAll)
		if err != nil {
			return err
		}
		next, err := cfg.Resharded(*count, by.value)
		if err != nil {
			return err
		}
		if !*yes {
			question := fmt.Sprintf("this takes %s from (%s) to (%s) and drops the old slots", cfg.Database.Table, cfg.Shard().Layout(), next.Shard().Layout())
			if err := a.confirm(question, cfg.Database.Table); err != nil {
				return err
			}
		}
		report, err := a.reshard(cmd.Context(), cfg, next)
		if err != nil {
			return err
		}
		if output.value == "json" {
			return a.printJSON(report)
		}
		return a.printResharded(report, cfg, next)
	}
	return cmd
}

// reshardReport is what a resharding has done.
type reshardReport struct {
	Count    int      `json:"count"`
	By       string   `json:"by"`
	Position string   `json:"position,omitempty"` // where the new layout begins; "" where an earlier run has recorded it
	Slots    []string `json:"slots"`

	DroppedSlots     []string `json:"dropped_slots"`
	LeftSchemas      []string `json:"left_schemas"`
	LeftPublications []string `json:"left_publications"`
}

func (a *app) reshard(ctx context.Context, cfg, next *config.Config) (report reshardReport, err error) {
	r := &resharding{out: a.out, log: a.newLogger(cfg.Log), cfg: cfg, old: cfg.Split(), next: next.Split()}
	a.logWarnings(r.log)
	if r.conn, err = r.connect(ctx); err != nil {
		return report, noConnection(ctx, err)
	}
	defer func() { err = errors.Join(err, wal.CloseConn(ctx, r.conn)) }()
	report = reshardReport{Count: next.Shards.Count, By: next.Shards.By, DroppedSlots: []string{}}
	position, dropped, err := r.run(ctx)
	if err != nil {
		return report, err
	}
	report.DroppedSlots = append(report.DroppedSlots, dropped...)
	if position > 0 {
		report.Position = position.String()
	}
	for _, part := range r.next {
		report.Slots = append(report.Slots, part.Database.Slot)
	}
	for _, part := range r.old {
		d := &part.Database
		report.LeftSchemas = append(report.LeftSchemas, d.Schema)
		report.LeftPublications = append(report.LeftPublications, d.Publication)
	}
	return report, nil
}

func (a *app) printResharded(r reshardReport, cfg, next *config.Config) error {
	if r.Position == "" && len(r.DroppedSlots) == 0 {
		return a.print("nothing to do: the slots of %s are there, and none of %s, which the configuration says\n", next.Shard().Layout(), cfg.Shard().Layout())
	}
	at, routes := "", ""
	if r.Position != "" {
		at = " at " + r.Position
	}
	if next.Shard().Split() && next.Shard().By == shard.Key {
		routes = ", with {shard} in each destination"
	}
	return a.print("the new layout begins%s; dropped slots: %s\nnow set %s%s, and start outboxd\nleft of the old layout: schemas %s; publications %s\n",
		at, strings.Join(r.DroppedSlots, ", "), next.Shard().Layout(), routes, strings.Join(r.LeftSchemas, ", "), strings.Join(r.LeftPublications, ", "))
}
