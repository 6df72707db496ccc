package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/shard"
)

const reshardLong = `Split the outbox table into another number of shards, or by the other of tenant and key. Applications go on writing.

Stop all instances first, the standbys too, and leave the configuration as it is: it is that of the layout until now. The command

  1. makes schemas, publications and slots of the new layout, which waits for the transactions that are open,
  2. takes a position of the log, and delivers everything that was committed before it, and nothing else, as the old layout,
  3. records that position as the beginning of every new slot, in one transaction,
  4. drops the old slots.

Then set shards.count and shards.by (and routes that keep the new shards apart) and start outboxd. What is committed meanwhile
waits in the log. Where the command fails before step 3 the slots it has made are removed, and the old layout can go on; where it was
killed, run it again. It refuses to begin, and gives up before step 3, while events are parked or dead.

Schemas and publications of the old layout stay. "outboxd migrate down" with the old configuration, and DROP PUBLICATION, remove them.`

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
	count := cmd.Flags().Int("count", 0, "`NUMBER` of shards to come, 1 to 16; 1: the table is not split")
	by := choiceFlag(cmd, "by", "", "what decides to which shard a row belongs (default as it is)", string(shard.Tenant), string(shard.Key))
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("count") {
			return usage(cmd, "--count is missing: how many shards are to come")
		}
		cfg, _, err := a.load(cmd, config.NeedAll)
		if err != nil {
			return err
		}
		decides := ""
		if cmd.Flags().Changed("by") {
			decides = by.value
		}
		next, err := cfg.Resharded(*count, decides)
		if err != nil {
			return fmt.Errorf("reshard: %w", err)
		}
		if !*yes {
			question := fmt.Sprintf("this takes the table from %s to %s", cfg.Shard().Layout(), next.Shard().Layout())
			if err := a.confirm(question, cfg.Database.Slot); err != nil {
				return err
			}
		}
		r, err := a.reshard(cmd.Context(), cfg, next)
		if err != nil {
			return err
		}
		return a.printResharded(output.value, r)
	}
	return cmd
}

// resharded is what a resharding has done.
type resharded struct {
	Layout   string   `json:"layout"`
	Position string   `json:"position"` // where the old layout ended and the new one begins
	Slots    []string `json:"slots"`
	Dropped  []string `json:"dropped"`
	Left     []string `json:"left"` // schemas of the old layout
}

func (a *app) reshard(ctx context.Context, cfg, next *config.Config) (done resharded, err error) {
	conn, err := connect(ctx, cfg, nil)
	if err != nil {
		return done, noConnection(ctx, err)
	}
	r := &resharding{app: a, log: a.newLogger(cfg.Log), conn: conn, cfg: cfg, old: cfg.Split(), next: next.Split()}
	defer func() { err = errors.Join(err, closeConn(ctx, r.conn)) }()
	position, err := r.run(ctx)
	if err != nil {
		return done, err
	}
	done = resharded{Layout: next.Shard().Layout(), Position: position.String()}
	for _, part := range r.next {
		done.Slots = append(done.Slots, part.Database.Slot)
	}
	for _, part := range r.old {
		done.Dropped, done.Left = append(done.Dropped, part.Database.Slot), append(done.Left, part.Database.Schema)
	}
	return done, nil
}

func (a *app) printResharded(output string, r resharded) error {
	if output == "json" {
		return a.printJSON(r)
	}
	return a.print("the new layout begins at %s: set %s, and start outboxd\n", r.Position, r.Layout)
}
