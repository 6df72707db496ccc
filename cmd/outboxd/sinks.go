package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/tracing"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/pulsar"
	"github.com/outboxd/outboxd/sink/redis"
	"github.com/outboxd/outboxd/sink/stdout"
)

// openSinks opens the sinks that a route names; when one fails the others are closed again.
func openSinks(cfg *config.Config, name func() string, out io.Writer, log zerolog.Logger) (map[string]sink.Sink, error) {
	sinks := map[string]sink.Sink{}
	for _, r := range cfg.Routes {
		for _, to := range r.To {
			if sinks[to.Sink] != nil {
				continue
			}
			s, err := openSink(cfg.Sinks[to.Sink], name, out, log.With().Str("sink", to.Sink).Logger())
			if err != nil {
				err = fmt.Errorf("open sink %s: %w", to.Sink, err)
				return nil, errors.Join(err, closeSinks(context.Background(), sinks, log))
			}
			sinks[to.Sink] = s
		}
	}
	return sinks, nil
}

// redisLog takes what the Redis client says on its own. What matters of it is in the errors that it returns too.
type redisLog struct{ log zerolog.Logger }

// Printf writes one line at level debug.
func (l redisLog) Printf(_ context.Context, format string, args ...any) {
	l.log.Debug().Str("line", fmt.Sprintf(format, args...)).Msg("redis client")
}

// traceSinks lets the publishes of the sinks leave spans, where tracing is configured. stop sends what waits, for traceLimit.
func traceSinks(ctx context.Context, cfg *config.Config, sinks map[string]sink.Sink, log zerolog.Logger) (stop func(), err error) {
	if cfg.Tracing.Endpoint.Empty() {
		return func() {}, nil
	}
	tracer, err := tracing.New(ctx, tracing.Config{
		Endpoint: cfg.Tracing.Endpoint.Reveal(), Share: float64(cfg.Tracing.Sample) / 100, Version: version, Log: log,
	})
	if err != nil {
		return nil, err
	}
	for name, s := range sinks {
		sinks[name] = tracer.Sink(s, name, system(cfg.Sinks[name]))
	}
	return func() {
		ctx, cancel := context.WithTimeout(ctx, traceLimit)
		defer cancel()
		if err := tracer.Close(ctx); err != nil {
			log.Warn().Err(err).Msg("the last traces are lost")
		}
	}, nil
}

// traceLimit is how long the last spans may take.
const traceLimit = 3 * time.Second

// system is what OpenTelemetry calls the sink's broker.
func system(c config.Sink) string {
	switch {
	case c.Redis != nil:
		return config.KindRedis
	case c.Pulsar != nil:
		return config.KindPulsar
	default:
		return config.KindStdout
	}
}

func openSink(c config.Sink, name func() string, out io.Writer, log zerolog.Logger) (sink.Sink, error) {
	switch {
	case c.Redis != nil:
		return redis.New(redisConfig(c.Redis))
	case c.Pulsar != nil:
		return pulsar.New(pulsarConfig(c.Pulsar, name), log)
	default:
		return stdout.New(out), nil
	}
}

// closeLimit is how long the sinks may take to close. The end of the process closes the connections of one that takes longer, and
// the broker then frees what they held; nothing is in flight any more.
const closeLimit = 5 * time.Second

// closeSinks closes them all at once and returns the first error. One that takes longer than closeLimit is only logged.
func closeSinks(ctx context.Context, sinks map[string]sink.Sink, log zerolog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	var all errgroup.Group
	for name, s := range sinks {
		all.Go(func() error {
			err := s.Close(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				log.Warn().Str("sink", name).Err(err).Msg("sink was not closed in time; its connections end with the process")
				return nil
			}
			if err != nil {
				return fmt.Errorf("close sink %s: %w", name, err)
			}
			return nil
		})
	}
	return all.Wait()
}

// outboxName is what the instances of one outbox have in common and those of others have not: on Pulsar one of them may cut off another
// of the same name that was killed, but never a stranger. The server's own identity is in it, because instances may reach the same server
// at different addresses. A session learns it before it speaks to a broker.
type outboxName struct{ name atomic.Pointer[string] }

// get returns the name, or that of nobody until it was learned.
func (n *outboxName) get() string {
	if name := n.name.Load(); name != nil {
		return *name
	}
	return pulsar.DefaultName
}

// learn asks the database for its part of the name.
func (n *outboxName) learn(ctx context.Context, conn *pgx.Conn, slot string) error {
	const identity = `SELECT format('outboxd-%s-%s-%s', $1::text, to_hex(system_identifier), d.oid)
		FROM pg_control_system(), pg_database d WHERE d.datname = current_database()`
	var name string
	if err := conn.QueryRow(ctx, identity, slot).Scan(&name); err != nil {
		return fmt.Errorf("ask which server this is: %w", err)
	}
	n.name.Store(&name)
	return nil
}

// publishTimeout is the longest that a configured sink may take for one call; each sink keeps its own beneath it.
func publishTimeout(cfg *config.Config) time.Duration {
	longest := time.Second
	for _, s := range cfg.Sinks {
		switch {
		case s.Redis != nil:
			longest = max(longest, s.Redis.Timeout.Std())
		case s.Pulsar != nil:
			longest = max(longest, s.Pulsar.Timeout.Std())
		}
	}
	return longest
}

func redisConfig(c *config.Redis) redis.Config {
	return redis.Config{
		URL: c.URL.Reveal(), Username: c.Username, Password: c.Password.Reveal(), PasswordFile: c.PasswordFile, TLS: sink.TLS(c.TLS),
		Unfenced: !c.Fenced, MaxLen: c.MaxLen, MaxMessageBytes: int(c.MaxMessageBytes), Timeout: c.Timeout.Std(),
	}
}

func pulsarConfig(c *config.Pulsar, name func() string) pulsar.Config {
	return pulsar.Config{
		Name: name,
		URL:  c.URL.Reveal(), Token: c.Token.Reveal(), TokenFile: c.TokenFile,
		Username: c.Username, Password: c.Password.Reveal(), TLS: sink.TLS(c.TLS),
		Compression: c.Compression, MaxProducers: c.MaxProducers, MaxMessageBytes: int64(c.MaxMessageBytes), EntryPerKey: c.EntryPerKey,
		PendingBytes: int64(c.PendingBytes), AckStall: c.AckStall.Std(), Timeout: c.Timeout.Std(),
		AdminURL: c.AdminURL.Reveal(), Create: c.Create,
	}
}
