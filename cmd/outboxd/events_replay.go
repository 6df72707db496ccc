package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/outbox"
)

func newEventsReplayCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay [ID...]",
		Short: "Deliver events of the outbox table once more",
		Long: `Deliver events whose rows are still in the outbox table once more, to the destinations of the routes or to another one.
Name them by their ids or by filters, which look at the rows' own columns.

Replays are parked, and the running instance delivers them beside the live events, whose order they do not disturb. Each
carries a replay number in its metadata. Without --status only rows that were sent are taken (with on_sent: keep, rows of any status);
ids are taken whatever their status is. With --to, and unless on_sent is keep, rows that are not delivered yet are left out: the replay would
make them sent.`,
		Example: `  outboxd events replay --tenant acme --since 2026-11-24T09:00:00Z --until 2026-11-24T10:00:00Z --dry-run --config outboxd.yaml
  outboxd events replay --topic 'order.created' --since 2026-11-24 --to redis:replay:{tenant}:{topic} --config outboxd.yaml
  outboxd events replay 0198c1f2-7a51-7bcd-8f0e-3d5a9c1b2e4f --to "redis audit:orders" --note "lost by the consumer" --config outboxd.yaml`,
	}
	f := addReplayFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		filter, err := f.filter(cmd, ids)
		if err != nil {
			return err
		}
		to, err := f.targets(cmd)
		if err != nil {
			return err
		}
		return a.withRows(cmd, config.NeedAll, func(ctx context.Context, conn *pgx.Conn, cfg *config.Config) error {
			r, err := newReplayer(ctx, conn, cfg, f.chosen(cfg, filter), to, f.note)
			if err != nil {
				return err
			}
			return a.replay(ctx, r, f)
		})
	}
	return cmd
}

// replayFlags are the flags of events replay.
type replayFlags struct {
	eventFlags
	since, until, note string
	statuses, to       []string
	all, dryRun, yes   bool
	output             *choice
}

// replayFlagNames are the flags that narrow which rows are meant, and where they go.
var replayFlagNames = []string{"since", "until", "tenant", "topic", "aggregate", "status", "to"}

func addReplayFlags(cmd *cobra.Command) *replayFlags {
	f := &replayFlags{}
	flags := cmd.Flags()
	f.add(flags)
	flags.StringVar(&f.since, "since", "", "rows created at this `TIME` or later: 2026-11-24 (in UTC) or 2026-11-24T09:30:00Z")
	flags.StringVar(&f.until, "until", "", "rows created before this `TIME`")
	flags.StringSliceVar(&f.statuses, "status", nil, "rows with this `STATUS`, or any; repeatable (default that of sent rows)")
	flags.StringArrayVar(&f.to, "to", nil, "`SINK:DESTINATION` in the place of the routes' destinations; {tenant}, {topic}, {aggregate_type} and {shard} may stand in it; repeatable")
	flags.BoolVar(&f.all, "all", false, "replay every row, when nothing narrows it")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only count")
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	flags.StringVar(&f.note, "note", "", "`TEXT` for the audit table: why")
	f.output = outputFlag(cmd)
	return f
}

// filter returns what the flags and the ids mean, but for the statuses.
func (f *replayFlags) filter(cmd *cobra.Command, ids []string) (filter outbox.Filter, err error) {
	if err := noEmptyFlags(cmd); err != nil {
		return filter, err
	}
	filter = outbox.Filter{IDs: ids, Tenant: f.tenant, Topic: f.topic}
	if filter.AggregateType, filter.AggregateID, err = f.aggregateOf(cmd); err != nil {
		return filter, err
	}
	if filter.Since, err = parseMoment(cmd, "since", f.since); err != nil {
		return filter, err
	}
	if filter.Until, err = parseMoment(cmd, "until", f.until); err != nil {
		return filter, err
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, usage(cmd, "--since %s is not before --until %s", f.since, f.until)
	}
	if len(ids) == 0 && !f.all && !anyChanged(cmd, "since", "until", "tenant", "topic", "aggregate", "status") {
		return filter, usage(cmd, "name events by their ids or by filters, or every row by --all")
	}
	return filter, nil
}

// chosen adds the statuses, which the configuration names.
func (f *replayFlags) chosen(cfg *config.Config, filter outbox.Filter) outbox.Filter {
	switch {
	case slices.ContainsFunc(f.statuses, func(s string) bool { return strings.EqualFold(s, "any") }):
	case len(f.statuses) > 0:
		filter.Statuses = f.statuses
	case len(filter.IDs) == 0 && cfg.OnSent != outbox.Keep && cfg.Database.Columns.Status != "":
		filter.Statuses = []string{outboxConfig(cfg).WithDefaults().Statuses.Sent}
	}
	return filter
}

// parseMoment reads a day or a point in time.
func parseMoment(cmd *cobra.Command, flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage(cmd, "--%s %s is no time: write it like 2026-11-24 or 2026-11-24T09:30:00Z", flag, text)
}

// targets reads --to: a sink and a destination with a colon or a space between.
func (f *replayFlags) targets(cmd *cobra.Command) (to []config.Target, err error) {
	for _, text := range f.to {
		at := strings.IndexAny(text, ": ")
		if at < 1 || strings.TrimSpace(text[at+1:]) == "" {
			return nil, usage(cmd, "--to %s does not name a sink and a destination: write it like redis:orders", text)
		}
		to = append(to, config.Target{Sink: text[:at], Destination: strings.TrimSpace(text[at+1:])})
	}
	return to, nil
}

// replay counts, asks and replays.
func (a *app) replay(ctx context.Context, r *replayer, f *replayFlags) error {
	total := 0
	if f.dryRun || !f.yes || len(r.filter.IDs) > 0 {
		counting := a.newProgress("counting", 0, f.output.value)
		counted, err := r.walk(ctx, true, counting.set)
		counting.end()
		if err != nil {
			return err
		}
		if len(counted.Missing) > 0 {
			return fmt.Errorf("no row of event %s is in %s, so nothing was replayed: only what is still there can be",
				strings.Join(counted.Missing, ", "), r.of)
		}
		if f.dryRun {
			return a.printReplayed(f.output.value, counted, true)
		}
		if total = counted.Events; total > askBeyond && !f.yes {
			if err := a.confirm("this replays "+count(total, "event", "events"), strconv.Itoa(total)); err != nil {
				return err
			}
		}
	}
	working := a.newProgress("replaying", total, f.output.value)
	done, err := r.walk(ctx, false, working.set)
	working.end()
	if err != nil {
		if done.Events > 0 {
			err = fmt.Errorf("after %s were parked for replay: %w", count(done.Events, "event", "events"), err)
		}
		return err
	}
	return a.printReplayed(f.output.value, done, false)
}

func (a *app) printReplayed(output string, r replayReport, dryRun bool) error {
	r.DryRun = dryRun
	if output == "json" {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else if err := a.print("%s %s, %s\n", map[bool]string{true: "would replay", false: "parked for replay:"}[dryRun],
		count(r.Events, "event", "events"), deliveries(r.Deliveries)); err != nil {
		return err
	}
	return r.fault()
}

// fault says what could not be replayed.
func (r *replayReport) fault() error {
	var unrouted, undelivered error
	if r.Unrouted > 0 {
		unrouted = fmt.Errorf("%s not replayed, because they have no destination: add a route, or name one for delivered events by --to; the first is %s: %s",
			count(r.Unrouted, "event was", "events were"), r.FirstUnrouted, r.UnroutedReason)
	}
	if r.Undelivered > 0 {
		undelivered = fmt.Errorf("%s not replayed to another destination, because not delivered yet: wait until they are, or retry those that wait or are dead by events retry; the first is %s",
			count(r.Undelivered, "event was", "events were"), r.FirstUndelivered)
	}
	return errors.Join(unrouted, undelivered)
}
