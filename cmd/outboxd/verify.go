package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
)

const verifyLong = `Write events of known content into the outbox, while outboxd runs elsewhere, and read the destinations: is
anything lost, doubled, out of order, from a transaction that was rolled back, corrupted, or in a wrong place?

The load has transactions of one event to some hundred, rollbacks, savepoints that are rolled back in part, prepared
transactions (where max_prepared_transactions allows them), events with and without an aggregate, and payloads of
several sizes, each with a checksum. Events of one aggregate carry rising numbers.

It goes through the configured table, routes and brokers, with tenants and topics of its own: routes have to match
them, or it says so before anything is written. It needs the format raw, the right to insert into the table and to
delete from it, and to read the brokers. --database-url names another role than outboxd's.

When all is well it removes what it made: its own rows, by id, and the streams and topics that bear its id. When
something is wrong, or with --keep, all of that stays, and the command says what and where.

The exit code is 0 when every committed event arrived once, in order, unchanged and in its place, and 1 when not.`

// verifyOptions are the flags.
type verifyOptions struct {
	duration time.Duration // 0: until all events are written
	events   int           // 0: until duration is over
	rate     float64
	tenants  []string
	topics   []string // empty: topics of its own
	wait     time.Duration
	seed     uint64 // 0: a random one
	keep     bool
	output   *choice
}

func newVerifyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove on your own servers that nothing is lost, doubled or out of order",
		Long:  verifyLong,
		Example: `  outboxd verify --config outboxd.yaml
  outboxd verify --events 100000 --rate 0 --config outboxd.yaml
  outboxd verify --for 1h --rate 50 --tenants acme,globex --output json --config outboxd.yaml`,
		Args: noArguments,
	}
	var o verifyOptions
	f := cmd.Flags()
	f.DurationVar(&o.duration, "for", 30*time.Second, "write for this `TIME`")
	f.IntVar(&o.events, "events", 0, "write this `NUMBER` of events, those that are rolled back included; without --for however long it takes")
	f.Float64Var(&o.rate, "rate", 200, "`EVENTS` written a second; 0 for as many as possible")
	f.StringSliceVar(&o.tenants, "tenants", []string{"outboxd-verify-1", "outboxd-verify-2", "outboxd-verify-3"}, "`NAMES` of the tenants, separated by commas")
	f.StringSliceVar(&o.topics, "topic", nil, "`NAMES` of topics, separated by commas (default three of its own, outboxd-verify-ID-1 and so on)")
	f.DurationVar(&o.wait, "wait", time.Minute, "`TIME` that the last event may take to arrive")
	f.Uint64Var(&o.seed, "seed", 0, "`NUMBER` that the load is drawn from, to have the same again (default a random one)")
	f.BoolVar(&o.keep, "keep", false, "leave rows, streams and topics")
	o.output = outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		cfg, _, err := a.load(cmd, config.NeedAll)
		if err != nil {
			return err
		}
		return a.verify(cmd.Context(), o, cfg)
	}
	return cmd
}

// check refuses flags that make no sense.
func (o *verifyOptions) check(cmd *cobra.Command) error {
	if o.events != 0 && !cmd.Flags().Changed("for") {
		o.duration = 0
	}
	switch {
	case o.duration < 0 || o.events < 0 || o.rate < 0 || o.wait < 0:
		return usage(cmd, "--for, --events, --rate and --wait are not negative")
	case o.duration == 0 && o.events == 0:
		return usage(cmd, "give a --for above 0, or --events")
	case len(o.tenants) == 0 || len(o.tenants) > 1000:
		return usage(cmd, "--tenants: name 1 to 1000")
	case len(o.topics) > 64:
		return usage(cmd, "--topic: name 64 at most")
	}
	return nil
}

// verify runs the whole of it.
func (a *app) verify(ctx context.Context, o verifyOptions, cfg *config.Config) (err error) {
	v, err := newVerifier(a, o, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close(context.WithoutCancel(ctx))) }()
	if err := v.open(ctx); err != nil {
		return err
	}
	v.announce()
	if err := v.stream(ctx); err != nil {
		v.leave()
		return err
	}
	finishing := context.WithoutCancel(ctx)
	s, err := v.judge(finishing)
	if err != nil {
		v.leave()
		return err
	}
	v.cleanUp(finishing, &s)
	if err := v.print(&s); err != nil {
		return err
	}
	if !s.OK {
		return reported{errors.New("events are missing, doubled, out of order or wrong")}
	}
	return nil
}
