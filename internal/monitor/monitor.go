package monitor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/relay"
)

// Health is what the monitor saw last, for /status.
type Health struct {
	At          time.Time    `json:"at"`
	Rates                    // since the look before
	Bottlenecks []Bottleneck `json:"bottlenecks"`
}

// Monitor watches one relay.
type Monitor struct {
	status   func() relay.Status
	interval time.Duration
	log      zerolog.Logger
	before   Sample              // only look touches it
	reported map[string]Severity // what was logged as an error and is not over; only look touches it

	mu   sync.Mutex // guards last
	last *Health
}

// New returns a monitor that does nothing until Run.
func New(status func() relay.Status, interval time.Duration, log zerolog.Logger) *Monitor {
	return &Monitor{status: status, interval: interval, log: log, reported: map[string]Severity{}}
}

// Run looks at every interval until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	m.before = Sample{time.Now(), m.status()}
	tick := time.NewTicker(m.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case at := <-tick.C:
			m.look(Sample{at, m.status()})
		}
	}
}

// Health returns what was seen last; nil before the first look.
func (m *Monitor) Health() *Health {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// look compares the sample with the one before, logs, and remembers.
func (m *Monitor) look(now Sample) {
	h := &Health{At: now.At, Rates: Between(m.before, now), Bottlenecks: Analyse(m.before, now)}
	m.before = now
	m.line(&now.Status, h)
	m.report(h.Bottlenecks)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = h
}

// line writes the health line.
func (m *Monitor) line(s *relay.Status, h *Health) {
	names := zerolog.Arr()
	for _, b := range h.Bottlenecks {
		names.Str(b.Name + ":" + string(b.Severity))
	}
	m.log.Info().Str("state", string(s.State)).Int64("pending_events", s.PendingEvents).Float64("events_per_second", round(h.EventsPerSecond)).
		Float64("average_query_ms", round(h.AverageQuerySeconds*1000)).Float64("pool_usage", round(h.PoolUsage)).
		Float64("oldest_event_seconds", round(s.OldestEventSeconds)).Uint64("lag_bytes", s.LagBytes).
		Int("dead_events", s.Parked.Dead).Int64("open_breakers", s.OpenBreakers).
		Func(func(e *zerolog.Event) {
			if s.Slot != nil {
				e.Int64("retained_wal_bytes", s.Slot.RetainedWALBytes).Int("standbys", s.Slot.Standbys)
			}
		}).
		Array("bottlenecks", names).Msg("health")
}

// round keeps two digits: more are noise in a log.
func round(f float64) float64 { return float64(int64(f*100+0.5)) / 100 }

// report logs serious bottlenecks, each once when it comes, changes its severity or is over.
func (m *Monitor) report(found []Bottleneck) {
	for _, b := range found {
		if b.Severity.serious() && m.reported[b.Name] != b.Severity {
			m.reported[b.Name] = b.Severity
			m.log.Error().Str("bottleneck", b.Name).Str("severity", string(b.Severity)).Str("finding", b.Finding).Str("advice", b.Advice).
				Msg("delivery is held up")
		}
	}
	for name := range m.reported {
		if !slices.ContainsFunc(found, func(b Bottleneck) bool { return b.Name == name && b.Severity.serious() }) {
			delete(m.reported, name)
			m.log.Info().Str("bottleneck", name).Msg("delivery is no longer held up by it")
		}
	}
}
