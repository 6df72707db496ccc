package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	goredis "github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/monitor"
	"github.com/outboxd/outboxd/relay"
)

const runLong = `Stream the outbox to the sinks until SIGTERM or SIGINT.

The publication and the slot are made when they are missing, unless --no-create. What is in flight when
the signal comes is finished for shutdown_timeout; a second signal ends the process at once. Either way
nothing is lost: what was not confirmed is found again at the next start.

The first start delivers the rows that are in the table already, unless --skip-backlog. At the times of
cleanup.schedule old rows are deleted, see "outboxd cleanup".

While another instance is active, this one waits for its lock in PostgreSQL and takes over when it ends.`

func newRunCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Stream the outbox to the sinks",
		Long:  runLong,
		Example: `  outboxd run --config outboxd.yaml
  DATABASE_URL=postgres://localhost/shop REDIS_URL=redis://localhost:6379/0 outboxd run
  outboxd run --env-file .env --preset high_throughput
  DATABASE_URL=postgres://localhost/shop outboxd run --set 'sinks.stdout={}' | jq .`,
		Args: noArguments,
	}
	noCreate := cmd.Flags().Bool("no-create", false, "make neither the publication nor the slot; fail when they are missing")
	profile := cmd.Flags().String("profile", "", "write cpu.pprof, heap.pprof and allocs.pprof into `DIR` at the end, for \"go tool pprof\"")
	skipBacklog := cmd.Flags().Bool("skip-backlog", false, "at the very first start, leave the rows alone that are in the table already")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, _, err := a.load(cmd, config.NeedAll)
		if err != nil {
			return err
		}
		return profiled(*profile, func() error { return a.run(cmd.Context(), cfg, !*noCreate, *skipBacklog) })
	}
	return cmd
}

// run streams until ctx ends, which it takes as the wish to stop, and not as the order.
func (a *app) run(ctx context.Context, cfg *config.Config, create, skipBacklog bool) (err error) {
	log := a.newLogger(cfg.Log)
	a.logWarnings(log)
	goredis.SetLogger(redisLog{log}) // the library knows one logger for the process
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	working := context.WithoutCancel(ctx)
	running := fleet{}
	defer func() { err = errors.Join(err, running.close()) }()
	parts := cfg.Split()
	out := a.out
	if cfg.Shard().Split() {
		tellShards(registry, cfg.Shards.Count)
	}
	if len(parts) > 1 {
		out = zerolog.SyncWriter(out) // sinks of several shards write to it
	}
	running, err = openFleet(working, parts, instanceOptions{create: create, skipBacklog: skipBacklog, registry: registry, out: out, log: log})
	if err != nil {
		return err
	}
	if cfg.HTTP.Addr != "" {
		stopHTTP, err := serveHTTP(working, cfg.HTTP.Addr, newHandler(running, registry, log), log)
		if err != nil {
			return err
		}
		defer stopHTTP()
	}
	defer a.notifySupervisor(ctx, running, log)()
	for _, i := range running {
		if err := i.startJanitor(working); err != nil {
			return err
		}
	}
	forget := context.AfterFunc(ctx, func() {
		log.Info().Stringer("shutdown_timeout", cfg.ShutdownTimeout).Msg("stopping: finishing what is in flight")
		running.stop()
	})
	defer forget()
	return running.run(working, stopped)
}

// logWarnings logs what the configuration says in vain.
func (a *app) logWarnings(log zerolog.Logger) {
	for _, w := range a.warnings {
		log.Warn().Stringer("source", w.Source).Str("setting", w.Setting).Str("problem", w.Text).Msg("a setting has no effect")
	}
}

// tellShards registers a metric of how many shards there are, so that an alert sees one that nobody runs.
func tellShards(registry prometheus.Registerer, n int) {
	shards := prometheus.NewGauge(prometheus.GaugeOpts{Name: "outboxd_shards", Help: "Shards of the table, of this process and of others."})
	shards.Set(float64(n))
	registry.MustRegister(shards)
}

// startMonitor starts the monitor unless its interval is 0. health is what it saw last, nil for nothing; stop waits for its end.
func startMonitor(ctx context.Context, cfg *config.Config, r reporter, log zerolog.Logger) (health func() *monitor.Health, stop func()) {
	if cfg.Monitor.Interval == 0 {
		return func() *monitor.Health { return nil }, func() {}
	}
	m := monitor.New(r.Status, cfg.Monitor.Interval.Std(), log)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { m.Run(ctx) })
	return m.Health, func() {
		cancel()
		running.Wait()
	}
}

// stopped says how the relay ended. Work that was not finished in time is no failure: it is done after the next start.
func stopped(log zerolog.Logger, err error) error {
	if unfinished, ok := errors.AsType[*relay.UnfinishedError](err); ok {
		log.Warn().Int("transactions", unfinished.Transactions).Msg("stopped; the rest is delivered after the next start")
		return nil
	}
	if err == nil {
		log.Info().Msg("stopped; everything received is delivered or parked, and confirmed")
	}
	if _, refused := errors.AsType[*pgconn.ConnectError](err); refused {
		return connectionError(err)
	}
	return err
}

// holder names this process for people who look at the lease.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s, process %d", host, os.Getpid())
}
