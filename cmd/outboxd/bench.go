package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/bench"
	"github.com/outboxd/outboxd/shard"
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
	spilled                    bool
	waiting, old               int // keys, rows
	tenants, topics, keys      int
	shards                     int

	rate     float64       // 0: a backlog
	failing  int           // tenants, with rate
	duration time.Duration // of rate
	scenario *choice

	against  []string // rivals
	debezium string   // folder

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
  outboxd bench --on-sent mark --spilled
  outboxd bench --shards 4
  outboxd bench --rate 1000 --for 1m --against direct
  outboxd bench --rate 1000 --tenants 100 --failing 1
  outboxd bench --scenario 5000
  outboxd bench --against pg_recvlogical,polling --output markdown
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
	f.IntVar(&o.shards, "shards", 1, "`NUMBER` of shards that share the table out by key, each with a slot and with destinations of its own (PostgreSQL 15 and later)")
	f.BoolVar(&o.spilled, "spilled", false, "drain such a backlog once more that was parked while the broker was away, and compare")
	f.IntVar(&o.waiting, "waiting", 0, "`NUMBER` of other keys that wait at the destinations meanwhile, each with a parked event")
	f.IntVar(&o.old, "table", 0, "`NUMBER` of old, delivered rows that the table holds before")
	f.Float64Var(&o.rate, "rate", 0, "measure how soon events arrive that are written at this rate, `EVENTS` a second, in place of a backlog")
	f.DurationVar(&o.duration, "for", 30*time.Second, "write at --rate for this `TIME`")
	f.IntVar(&o.failing, "failing", 0, "with --rate: measure once more while the destinations of this `NUMBER` of the tenants refuse everything, and compare the others' latency")
	o.scenario = choiceFlag(cmd, "scenario", "", "the load of an existing deployment of so many events a second: sets --rate, --transaction, --tenants and --topics", "none", "1000", "5000", "10000")
	f.StringVar(&o.sink, "sink", "", "`NAME` of the sink; redis or pulsar for servers of its own (default redis, or your only sink)")
	f.StringSliceVar(&o.against, "against", nil, "let these `TOOLS` deliver the same log: pg_recvlogical (which reads it and no more), polling, debezium, debezium-128m, or update (which marks as many rows and no more); with --rate, whose latency is measured: direct (the broker's own client, without an outbox), debezium, debezium-128m")
	f.StringVar(&o.debezium, "debezium", "", "`DIR` of Debezium Server, for --against; it needs Java 21 or later in JAVA_HOME")
	f.StringVar(&o.profile, "profile", "", "write outboxd's profiles into `DIR`, for \"go tool pprof\"; they cost some speed")
	completes(cmd, "sink", "redis", "pulsar")
	completes(cmd, "against", "pg_recvlogical", "polling", "debezium", "debezium-128m", "update", "direct")
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

// scenarios are loads of existing deployments: many tenants, and larger transactions where there is more to write.
var scenarios = map[string]benchOptions{
	"1000":  {rate: 1000, transaction: 1, tenants: 10, topics: 3},
	"5000":  {rate: 5000, transaction: 5, tenants: 20, topics: 3},
	"10000": {rate: 10_000, transaction: 10, tenants: 50, topics: 3},
}

// check refuses flags that make no sense.
func (o *benchOptions) check(cmd *cobra.Command) error {
	if s, ok := scenarios[o.scenario.value]; ok {
		o.rate, o.transaction, o.tenants, o.topics = s.rate, s.transaction, s.tenants, s.topics
	}
	for _, name := range o.against {
		_, drains := bench.Rivals[name]
		_, races := bench.LatencyTools[name]
		switch {
		case o.rate > 0 && !races:
			return usage(cmd, "--against %s: choose of direct, debezium and debezium-128m with --rate", name)
		case o.rate <= 0 && !drains:
			return usage(cmd, "--against %s: choose of pg_recvlogical, polling, debezium, debezium-128m and update", name)
		case strings.HasPrefix(name, "debezium"):
			if err := bench.CheckDebezium(o.debezium); err != nil {
				return usage(cmd, "--debezium: %v", err)
			}
		}
	}
	switch {
	case o.rate < 0 || o.rate > 0 && o.rate*o.duration.Seconds() < 1 || o.rate*o.duration.Seconds() > 1<<30:
		return usage(cmd, "--rate %g --for %s: that is no number of events between 1 and 1073741824", o.rate, o.duration)
	case len(o.against) > 0 && !ownServers(cmd):
		return usage(cmd, "--against compares on servers of the bench's own")
	case slices.Contains(o.against, "polling") && (o.onSent.value != "keep" || o.sink == "pulsar"):
		return usage(cmd, "--against polling marks the rows itself, so outboxd has to keep them, and publishes to Redis")
	case o.rate == 0 && cmd.Flags().Changed("for"):
		return usage(cmd, "--for goes with --rate")
	case o.rate > 0 && cmd.Flags().Changed("rows"):
		return usage(cmd, "--rows is of a backlog: with --rate say --for")
	case o.failing != 0 && (o.rate == 0 || o.failing < 0 || o.failing >= o.tenants || o.keys < o.tenants):
		return usage(cmd, "--failing %d goes with --rate, with more --tenants than fail, and with as many --keys at least", o.failing)
	case o.failing > 0 && len(o.against) > 0:
		return usage(cmd, "--failing compares outboxd with itself: leave out --against")
	case o.spilled && (o.rate > 0 || !ownServers(cmd)):
		return usage(cmd, "--spilled stops the broker, so it has to be the bench's own, and drains a backlog, so leave out --rate")
	case o.shards < 1 || o.shards > shard.Most:
		return usage(cmd, "--shards %d: choose 1 to %d", o.shards, shard.Most)
	case o.shards > 1 && (len(o.against) > 0 || o.spilled || o.waiting > 0 || o.failing > 0):
		return usage(cmd, "--shards goes with none of --against, --spilled, --waiting and --failing")
	case o.waiting < 0 || o.old < 0 || o.waiting > 1<<31 || o.old > 1<<31:
		return usage(cmd, "--waiting %d, --table %d: choose 0 to 2147483648", o.waiting, o.old)
	case o.rows < 1 || o.rows > 1<<31:
		return usage(cmd, "--rows %d: choose 1 to 2147483648", o.rows)
	case o.transaction < 1 || o.payload < 1 || o.keys < 1:
		return usage(cmd, "--transaction, --payload and --keys are at least 1")
	case o.tenants < 1 || o.tenants > 10_000 || o.topics < 1 || o.topics > 10_000 || o.tenants*o.topics*o.shards > 100_000:
		return usage(cmd, "--tenants %d, --topics %d, --shards %d: choose 1 to 10000 of the first two, and 100000 destinations at most", o.tenants, o.topics, o.shards)
	}
	return nil
}

// ownServers tells whether no flag names servers.
func ownServers(cmd *cobra.Command) bool {
	return !slices.ContainsFunc([]string{"config", "env-file", "database-url"}, cmd.Flags().Changed)
}

// bench runs one. Whatever happens, it takes away what it made.
func (a *app) bench(cmd *cobra.Command, o benchOptions) (err error) {
	ctx := cmd.Context()
	b, err := newBencher(a, o, ownServers(cmd))
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
	measure := b.drain
	if o.rate > 0 {
		measure = b.pace
	}
	if err := measure(ctx); err != nil {
		return err
	}
	return b.print()
}

// benchCleanUp is how long removing everything may take.
const benchCleanUp = 2 * time.Minute
