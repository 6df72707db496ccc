package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/relay"
	"github.com/outboxd/outboxd/wal"
)

// janitor cleans up at the scheduled times while the relay is active. Its goroutine is the only one that uses it. Whatever goes wrong is
// logged, and the next time comes.
type janitor struct {
	cfg      *config.Config
	schedule cron.Schedule
	active   func() bool
	log      zerolog.Logger
}

// startJanitor starts the janitor unless the schedule is empty. stop breaks off what it does and waits for its end.
func startJanitor(ctx context.Context, cfg *config.Config, r reporter, log zerolog.Logger) (stop func(), err error) {
	if cfg.Cleanup.Schedule == "" {
		return func() {}, nil
	}
	schedule, err := cron.ParseStandard(cfg.Cleanup.Schedule)
	if err != nil {
		return nil, fmt.Errorf("read cleanup.schedule: %w", err)
	}
	j := &janitor{cfg, schedule, func() bool { return r.Status().State == relay.StateActive }, log}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}, nil
}

func (j *janitor) run(ctx context.Context) {
	for {
		next := j.schedule.Next(time.Now())
		if next.IsZero() {
			j.log.Warn().Str("schedule", j.cfg.Cleanup.Schedule).Msg("cleanup.schedule names no time that ever comes")
			return
		}
		if pause(ctx, time.Until(next)) != nil {
			return
		}
		if j.active() {
			j.runOnce(ctx)
		}
	}
}

// errInactive ends a cleanup because another instance is active, or none.
var errInactive = errors.New("this instance is no longer active")

// runOnce cleans up and logs what came of it.
func (j *janitor) runOnce(ctx context.Context) {
	s, err := j.clean(ctx)
	log := j.log.With().Err(err).Str("note", s.Note).Int("deleted", s.Deleted).Int("batches", s.Batches).Stringer("duration", s.Duration).Logger()
	switch {
	case err == nil:
		log.Info().Msg("cleaned up old rows")
	case ctx.Err() != nil, errors.Is(err, errInactive), errors.Is(err, errCleanupRuns):
		log.Info().Msg("cleanup of old rows ended early")
	default:
		log.Warn().Msg("cleanup of old rows failed; it begins again at its next time")
	}
}

func (j *janitor) clean(ctx context.Context) (s cleanupStats, err error) {
	conn, err := connect(ctx, j.cfg, wal.TextFormat)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, wal.CloseConn(ctx, conn)) }()
	return cleanUp(ctx, conn, j.cfg, false, func(cleanupStats) error {
		if !j.active() {
			return errInactive
		}
		return nil
	})
}
