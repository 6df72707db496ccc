package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const demoLong = `Start PostgreSQL, a broker, an application that writes orders of several tenants in real transactions, and
outboxd; and show events as they arrive.

Without URLs the demo starts servers of its own and removes them with all they held. Where no redis-server is
installed it uses an embedded one. With --pg, --redis or --pulsar it uses yours: it works in a database outboxd_demo_ID that
it creates (in schemas of that name, where the role may not create databases), with a slot of that name, and
in streams or topics whose names begin with outboxd-demo-ID. All of them are removed at the end.

outboxd itself runs as a process of its own, as under a supervisor: kill it, and it is started again.

On a terminal the screen shows counts, rates, latencies and the last events until Ctrl-C. With --for, or without a
terminal, lines of progress and a summary are printed. The exit code is 0 when every committed event arrived
once and in order, and 1 when one is missing, doubled or out of order.`

// defaultDemoTime is how long the demo runs where nobody can end it.
const defaultDemoTime = 20 * time.Second

// demoOptions are the demo's flags.
type demoOptions struct {
	sink        *choice
	output      *choice
	rate        float64
	tenants     int
	duration    time.Duration // 0 for until Ctrl-C
	postgres    string        // URL; empty for a server of the demo's own, as the others
	redis       string
	pulsar      string
	pulsarAdmin string
	http        string
}

func newDemoCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work, with servers of its own",
		Long:  demoLong,
		Example: `  outboxd demo
  outboxd demo --sink pulsar --rate 1000 --tenants 5
  outboxd demo --for 20s --output json
  outboxd demo --pg postgres://postgres@localhost/postgres --redis redis://localhost:6379/0`,
		Args: noArguments,
	}
	var o demoOptions
	o.sink = choiceFlag(cmd, "sink", "", "broker to publish to", "redis", "pulsar")
	o.output = outputFlag(cmd)
	f := cmd.Flags()
	f.Float64Var(&o.rate, "rate", 200, "`EVENTS` written a second; 0 for as many as possible")
	f.IntVar(&o.tenants, "tenants", 3, "`NUMBER` of tenants")
	f.DurationVar(&o.duration, "for", 0, "end after this `TIME`, such as 20s, and print a summary")
	f.StringVar(&o.postgres, "pg", "", "`URL` of your PostgreSQL, of a role that may create databases and replicate")
	f.StringVar(&o.redis, "redis", "", "`URL` of your Redis")
	f.StringVar(&o.pulsar, "pulsar", "", "`URL` of your Pulsar, pulsar://host:6650; topics are made in public/default")
	f.StringVar(&o.pulsarAdmin, "pulsar-admin", "", "`URL` of your Pulsar's admin API, with which the topics are deleted afterwards")
	f.StringVar(&o.http, "http", "127.0.0.1:0", "`ADDR` of outboxd's /status, /readyz and /metrics; port 0 takes a free one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd, a); err != nil {
			return err
		}
		return a.demo(cmd.Context(), o)
	}
	return cmd
}

// check refuses flags that contradict each other or the demo.
func (o *demoOptions) check(cmd *cobra.Command, a *app) error {
	if o.pulsar != "" && !cmd.Flags().Changed("sink") {
		o.sink.value = "pulsar"
	}
	switch {
	case cmd.Flags().Changed("config"):
		return usage(cmd, "the demo makes its own configuration: pass single settings with --set")
	case a.database != "":
		return usage(cmd, "the demo takes the database with --pg")
	case o.redis != "" && o.sink.value != "redis", o.pulsar != "" && o.sink.value != "pulsar":
		return usage(cmd, "the URL is not one of the sink %s", o.sink.value)
	case o.pulsarAdmin != "" && o.pulsar == "":
		return usage(cmd, "--pulsar-admin goes with --pulsar")
	case o.postgres != "" && !strings.HasPrefix(o.postgres, "postgres://") && !strings.HasPrefix(o.postgres, "postgresql://"):
		return usage(cmd, "--pg wants a URL, postgres://user@host/database")
	case o.tenants < 1 || o.tenants > 1000:
		return usage(cmd, "--tenants %d: choose 1 to 1000", o.tenants)
	case o.rate < 0 || o.duration < 0:
		return usage(cmd, "--rate and --for are not negative")
	}
	return nil
}

// demo runs the demo. Whatever happens, it takes away what it made; only outboxd's log stays when something went wrong.
func (a *app) demo(ctx context.Context, o demoOptions) (err error) {
	screen := terminal(a.out) && o.duration == 0 && o.output.value == "text"
	if !screen && o.duration == 0 {
		o.duration = defaultDemoTime
	}
	d, err := newDemo(a, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp(context.WithoutCancel(ctx), err)) }()
	if err := d.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err() // not what it interrupted
		}
		return err
	}
	began := time.Now()
	if err := d.stream(ctx, screen); err != nil {
		return err
	}
	took := time.Since(began)
	report, err := d.verify(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	if err := d.printSummary(took, report); err != nil {
		return err
	}
	if !report.OK() {
		return reported{errors.New("events are missing, doubled, out of order or wrong")}
	}
	return nil
}
