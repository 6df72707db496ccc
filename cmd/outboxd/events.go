package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/outboxd/outboxd/park"
)

const eventsLong = `Look at the events that could not be delivered at once, and decide about them.

Such events are parked in a table of outboxd's own, one row for each destination: a delivery. It waits for its time, is dead and
waits for a person, or was skipped or done and is about to leave the table.`

func newEventsCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "events",
		Short: "List, show, retry, skip or replay events",
		Long:  eventsLong,
		Example: `  outboxd events list --status dead --config outboxd.yaml
  outboxd events show 0198c1f2-7a51-7bcd-8f0e-3d5a9c1b2e4f --config outboxd.yaml
  outboxd events retry --reason "max_message_bytes" --config outboxd.yaml
  outboxd events replay --topic 'order.created' --since 2026-11-24 --dry-run --config outboxd.yaml`,
	})
	cmd.AddCommand(
		newEventsListCommand(a),
		newEventsShowCommand(a),
		newEventsRetryCommand(a),
		newEventsSkipCommand(a),
		newEventsReplayCommand(a),
	)
	return cmd
}

// choices is a flag with few values that can be given several times.
type choices struct {
	given  []string
	values []string
}

// String returns the values that were given.
func (c *choices) String() string { return strings.Join(c.given, ",") }

// Set adds a value, or several with commas between, and refuses what is not one of the values.
func (c *choices) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		if !slices.Contains(c.values, one) {
			return errors.New("choose " + strings.Join(c.values, " or "))
		}
		c.given = append(c.given, one)
	}
	return nil
}

// Type is how the help calls the value.
func (c *choices) Type() string { return strings.Join(c.values, "|") }

// choicesFlag adds a flag with few values to cmd that can be repeated, and completes them in the shell.
func choicesFlag(cmd *cobra.Command, name, help string, values ...string) *choices {
	c := &choices{values: values}
	cmd.Flags().Var(c, name, help+"; repeatable")
	completes(cmd, name, values...)
	return c
}

// eventFlags are the filters that parked events and rows of the outbox have in common.
type eventFlags struct {
	tenant, topic, aggregate string
}

func (f *eventFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.tenant, "tenant", "", "events of this `TENANT`")
	flags.StringVar(&f.topic, "topic", "", "events of this `TOPIC`")
	flags.StringVar(&f.aggregate, "aggregate", "", "events of this aggregate, `TYPE/ID`; TYPE/ means all of a type")
}

// aggregateOf takes --aggregate apart.
func (f *eventFlags) aggregateOf(cmd *cobra.Command) (kind, id string, err error) {
	kind, id, ok := strings.Cut(f.aggregate, "/")
	if f.aggregate != "" && (!ok || kind+id == "") {
		return "", "", usage(cmd, "--aggregate %s is not TYPE/ID, such as order/4711", f.aggregate)
	}
	return kind, id, nil
}

// parkedFlags are the filters of parked events.
type parkedFlags struct {
	eventFlags
	states                    *choices
	sink, destination, reason string
	olderThan, newerThan      time.Duration
}

func addParkedFlags(cmd *cobra.Command, states ...park.State) *parkedFlags {
	f := &parkedFlags{}
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = string(s)
	}
	f.states = choicesFlag(cmd, "status", "deliveries in this state", names...)
	flags := cmd.Flags()
	f.add(flags)
	flags.StringVar(&f.sink, "sink", "", "deliveries to the sink of this `NAME`")
	flags.StringVar(&f.destination, "destination", "", "deliveries to the destination of this `NAME`, of one partition where there are several")
	flags.DurationVar(&f.olderThan, "older-than", 0, "deliveries parked longer ago than this `DURATION`, such as 90m or 72h")
	flags.DurationVar(&f.newerThan, "newer-than", 0, "deliveries parked more recently than this `DURATION`")
	flags.StringVar(&f.reason, "reason", "", "deliveries whose reason contains this `TEXT`, in whatever case")
	return f
}

// filter returns what the flags and the ids mean, and whether that is everything.
func (f *parkedFlags) filter(cmd *cobra.Command, ids []string) (filter park.Filter, all bool, err error) {
	if err := noEmptyFlags(cmd); err != nil {
		return filter, false, err
	}
	filter = park.Filter{
		IDs: ids, Tenant: f.tenant, Topic: f.topic, Sink: f.sink, Destination: f.destination, Reason: f.reason,
	}
	if filter.AggregateType, filter.AggregateID, err = f.aggregateOf(cmd); err != nil {
		return filter, false, err
	}
	for _, s := range f.states.given {
		filter.States = append(filter.States, park.State(s))
	}
	now := time.Now()
	if f.olderThan > 0 {
		filter.Before = now.Add(-f.olderThan)
	}
	if f.newerThan > 0 {
		filter.Since = now.Add(-f.newerThan)
	}
	return filter, len(ids) == 0 && !anyChanged(cmd, parkedFlagNames...), nil
}

// parkedFlagNames are the flags that narrow what is meant.
var parkedFlagNames = []string{
	"status", "tenant", "topic", "aggregate", "sink", "destination", "older-than", "newer-than", "reason",
}

// anyChanged tells whether one of the flags was given.
func anyChanged(cmd *cobra.Command, names ...string) bool {
	return slices.ContainsFunc(names, cmd.Flags().Changed)
}

// noEmptyFlags refuses flags that are given and say nothing: a variable of a script that is not set would mean everything. An empty note
// is fine.
func noEmptyFlags(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		narrows := slices.Contains(parkedFlagNames, f.Name) || slices.Contains(replayFlagNames, f.Name)
		switch {
		case err != nil || !narrows:
		case value == "" || value == "[]":
			err = usage(cmd, "--%s %q says nothing: leave it out or give it a value", f.Name, value)
		case f.Value.Type() == "duration" && (value == "0s" || value[0] == '-'):
			err = usage(cmd, "--%s %s is no time that has passed: write it like 90m or 72h", f.Name, value)
		}
	})
	return err
}

// delivery is the JSON form of a parked row.
type delivery struct {
	ID            string     `json:"id"`
	Replay        int        `json:"replay,omitempty"`
	State         park.State `json:"state"`
	Tenant        string     `json:"tenant"`
	Topic         string     `json:"topic"`
	AggregateType string     `json:"aggregate_type,omitempty"`
	AggregateID   string     `json:"aggregate_id,omitempty"`
	Sink          string     `json:"sink"`
	Destination   string     `json:"destination"`
	Attempts      int        `json:"attempts"`
	Due           *time.Time `json:"due,omitempty"` // of one that waits
	ParkedAt      time.Time  `json:"parked_at"`
	Reason        string     `json:"reason,omitempty"`
	HoldsBack     bool       `json:"holds_back,omitempty"` // dead, and later events of its key wait behind it
	Position      string     `json:"position"`
}

func newDelivery(r *park.Row) delivery {
	e := &r.Event
	d := delivery{
		ID: string(e.ID), Replay: r.Replay, State: r.State, Tenant: string(e.TenantID), Topic: string(e.Topic),
		AggregateType: string(e.AggregateType), AggregateID: string(e.AggregateID),
		Sink: r.Destination.Sink, Destination: r.Destination.Name, Attempts: r.Attempts, ParkedAt: r.ParkedAt.UTC(),
		Reason: r.Reason, HoldsBack: r.State == park.Dead && r.Blocks, Position: e.Position.String(),
	}
	if r.State == park.Waiting {
		due := r.Due.UTC()
		d.Due = &due
	}
	return d
}

// place is the destination as a person writes it, also behind --to.
func (d *delivery) place() string { return placeOf(d.Sink, d.Destination) }

func placeOf(sink, destination string) string {
	if sink == "" {
		return "-"
	}
	return cell(sink + " " + destination)
}

func (d *delivery) aggregate() string {
	if d.AggregateType+d.AggregateID == "" {
		return "-"
	}
	return cell(d.AggregateType + "/" + d.AggregateID)
}

// dueIn says when a delivery is tried again.
func (d *delivery) dueIn(now time.Time) string {
	switch {
	case d.Due == nil:
		return "-"
	case !d.Due.After(now):
		return "now"
	default:
		return "in " + span(d.Due.Sub(now))
	}
}

func (d *delivery) replayNumber() string {
	if d.Replay == 0 {
		return "-"
	}
	return fmt.Sprint(d.Replay)
}

func (d *delivery) reason() string {
	if d.Reason == "" {
		return "-"
	}
	return cell(d.Reason)
}
