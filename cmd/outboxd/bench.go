package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
)

const benchLong = `Measure how fast a backlog is drained, and with --rate how soon an event arrives.

The backlog is written while outboxd does not run. Then "outboxd run" is started as a process of its own, and the time
runs from its start to the last entry in the broker. Everything is read back afterwards: each row has to be there
once, and the rows of a key in their order.

Without --config, --env-file or --database-url it starts servers of its own and removes them with all they held. With one
of them it uses yours, as "run" does, in schemas, with a slot and in streams or topics of its own, whose names have
outboxd_bench_ID or outboxd-bench-ID in them, and which it removes at the end. Figures are worth something only on a
machine that does nothing else.`

// benchOptions are the flags.
type benchOptions struct {
	rows, transaction, payload int
	tenants, topics, keys      int

	sink            string
	profile         string // folder
	onSent, indexes *choice
	output          *choice
}

func newBenchCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast events are delivered",
		Long:  benchLong,
		Example: `  outboxd bench
  outboxd bench --sink pulsar --rows 1000000 --transaction 100 --output markdown
  outboxd bench --on-sent mark --indexes full
  outboxd bench --env-file .env --sink redis`,
		Args: noArguments,
	}
	var o benchOptions
	f := cmd.Flags()
	f.IntVar(&o.rows, "rows", 300_000, "`NUMBER` of rows of the backlog")
	f.IntVar(&o.transaction, "transaction", 10, "`ROWS` in each transaction")
	f.IntVar(&o.payload, "payload", 480, "`BYTES` of each payload")
	f.IntVar(&o.tenants, "tenants", 1, "`NUMBER` of tenants")
	f.IntVar(&o.topics, "topics", 1, "`NUMBER` of topics of each tenant; each is a stream or topic of its own")
	f.IntVar(&o.keys, "keys", 10_000, "`NUMBER` of aggregates")
	f.StringVar(&o.sink, "sink", "", "`NAME` of the sink; redis or pulsar for servers of its own (default redis, or your only sink)")
	f.StringVar(&o.profile, "profile", "", "write outboxd's profiles into `DIR`, for \"go tool pprof\"; they cost some speed")
	o.onSent = choiceFlag(cmd, "on-sent", "", "what becomes of delivered rows", "keep", "mark", "delete")
	o.indexes = choiceFlag(cmd, "indexes", "", "of the outbox table: those that migrate makes, or the eight of older tables", "lean", "full")
	o.output = choiceFlag(cmd, "output", "o", "form of the output", "text", "json", "markdown")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		return a.bench(cmd, o)
	}
	return cmd
}

// check refuses flags that make no sense.
func (o *benchOptions) check(cmd *cobra.Command) error {
	switch {
	case o.rows < 1 || o.rows > 1<<31:
		return usage(cmd, "--rows %d: choose 1 to 2147483648", o.rows)
	case o.transaction < 1 || o.payload < 1 || o.keys < 1:
		return usage(cmd, "--transaction, --payload and --keys are at least 1")
	case o.tenants < 1 || o.tenants > 10_000 || o.topics < 1 || o.topics > 10_000 || o.tenants*o.topics > 100_000:
		return usage(cmd, "--tenants %d, --topics %d: choose 1 to 10000 of each, and 100000 destinations at most", o.tenants, o.topics)
	}
	return nil
}

// bench runs one. Whatever happens, it takes away what it made.
func (a *app) bench(cmd *cobra.Command, o benchOptions) (err error) {
	ctx := cmd.Context()
	b, err := newBencher(a, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.cleanUp(context.WithoutCancel(ctx), err)) }()
	if err := b.prepare(ctx, cmd); err != nil {
		if ctx.Err() != nil {
			return ctx.Err() // not what it interrupted
		}
		return err
	}
	if err := b.drain(ctx); err != nil {
		return err
	}
	return b.print()
}

// benchCleanUp is how long removing everything may take.
const benchCleanUp = 2 * time.Minute
