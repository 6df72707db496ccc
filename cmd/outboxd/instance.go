package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/monitor"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

// instance is all that delivers one shard of the table, or the whole of one that is not split: nothing of it is another one's.
type instance struct {
	cfg    *config.Config
	relay  *relay.Relay
	health func() *monitor.Health
	log    zerolog.Logger
	closes []func() error
}

// instanceOptions are what instances have in common.
type instanceOptions struct {
	create, skipBacklog bool
	registry            *prometheus.Registry
	out                 io.Writer
	log                 zerolog.Logger

	until  event.LSN // where they end; 0: they do not
	beside string    // a layout whose slots may be there beside theirs
}

// openInstance opens the sinks and makes the relay of one shard. The log and the metrics say which one it is, where there are several.
func openInstance(ctx context.Context, cfg *config.Config, o instanceOptions) (i *instance, err error) {
	i = &instance{cfg: cfg, log: o.log}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.close())
		}
	}()
	registry := prometheus.Registerer(o.registry)
	if cfg.Shard().Split() {
		i.log = o.log.With().Int("shard", cfg.Shards.Number).Logger()
		registry = prometheus.WrapRegistererWith(prometheus.Labels{"shard": strconv.Itoa(cfg.Shards.Number)}, registry)
	}
	var name outboxName
	sinks, err := openSinks(cfg, name.get, o.out, i.log)
	if err != nil {
		return i, err
	}
	i.closes = append(i.closes, func() error { return closeSinks(ctx, sinks, i.log) })
	stopTracing, err := traceSinks(ctx, cfg, sinks, i.log)
	if err != nil {
		return i, err
	}
	i.closesWith(stopTracing)
	parts, err := relayConfig(cfg, sinks, &name, o.create)
	if err != nil {
		return i, err
	}
	parts.Log, parts.Registry, parts.SkipBacklog, parts.Until = i.log, registry, o.skipBacklog, o.until
	parts.WAL.Others = slices.DeleteFunc(parts.WAL.Others, func(n wal.Names) bool { return n.Layout == o.beside })
	i.relay = relay.New(parts)
	health, stopMonitor := startMonitor(ctx, cfg, i.relay, i.log)
	i.health = health
	i.closesWith(stopMonitor)
	return i, nil
}

func (i *instance) startJanitor(ctx context.Context) error {
	stop, err := startJanitor(ctx, i.cfg, i.relay, i.log)
	if err == nil {
		i.closesWith(stop)
	}
	return err
}

func (i *instance) closesWith(stop func()) {
	i.closes = append(i.closes, func() error {
		stop()
		return nil
	})
}

// close ends what was opened, the last first.
func (i *instance) close() (err error) {
	for n := len(i.closes) - 1; n >= 0; n-- {
		err = errors.Join(err, i.closes[n]())
	}
	return err
}
