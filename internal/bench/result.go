package bench

import (
	"cmp"
	"fmt"
	"time"
)

// Result is what one bench found out.
type Result struct {
	Machine   Machine   `json:"machine"`
	Load      Load      `json:"load"`
	Runs      []Run     `json:"runs,omitempty"`
	Latencies []Latency `json:"latencies,omitempty"`

	Isolation *Isolation `json:"isolation,omitempty"`
	Spill     *Spill     `json:"spill,omitempty"`

	Notes []string `json:"notes,omitempty"`
}

// Machine is where the figures come from.
type Machine struct {
	Processor string   `json:"processor"`
	Cores     int      `json:"cores"`
	System    string   `json:"system"`
	Versions  []string `json:"versions"` // of outboxd and the servers
	Settings  []string `json:"settings"` // that differ from the defaults
}

// Isolation compares the latency of some tenants' events while the destinations of others refuse everything with that before. Both are
// of the same tenants.
type Isolation struct {
	Tenants int     `json:"tenants"`
	Failing int     `json:"failing_tenants"`
	Parked  int64   `json:"events_parked"` // all events of the failing tenants
	P50     float64 `json:"p50_ratio"`
	P99     float64 `json:"p99_ratio"`
}

// NewIsolation compares two latencies of so many events.
func NewIsolation(b *Backlog, before, beside *Latency) *Isolation {
	i := &Isolation{Tenants: b.Tenants, Failing: b.Failing, Parked: int64(b.ToRefuse())}
	if before.P50 > 0 && before.P99 > 0 {
		i.P50, i.P99 = beside.P50/before.P50, beside.P99/before.P99
	}
	return i
}

// Tool is the name of outboxd beside failing tenants.
func (i *Isolation) Tool() string {
	return fmt.Sprintf("outboxd, %d of %d tenants failing", i.Failing, i.Tenants)
}

// String is a sentence on it.
func (i *Isolation) String() string {
	return fmt.Sprintf("%d of %d tenants failing: the others' p50 is %.2f of what it is without, their p99 %.2f; all %d events of the failing ones are parked",
		i.Failing, i.Tenants, i.P50, i.P99, i.Parked)
}

// Spilled is the name of outboxd's run that drains what was parked in an outage of the broker.
const Spilled = "outboxd, spilled"

// Spill is what became of a backlog that was written in an outage of the broker.
type Spill struct {
	ParkSeconds float64 `json:"park_seconds"` // from the start of outboxd until all rows were parked
	Ratio       float64 `json:"ratio"`        // 0 where too few rows came to tell; of the speed at which it was drained after the broker's return to that from the log, both without the time to the first entry
}

// NewSpill compares two runs of as many rows.
func NewSpill(parked time.Duration, log, spilled *Run) *Spill {
	s := &Spill{ParkSeconds: parked.Seconds()}
	if log.StreamingPerSecond > 0 {
		s.Ratio = spilled.StreamingPerSecond / log.StreamingPerSecond
	}
	return s
}

// String is a sentence on it.
func (s *Spill) String() string {
	text := fmt.Sprintf("spilled: while the broker was away all rows were parked within %.1f s; after its return they were drained, in the order of each key", s.ParkSeconds)
	if s.Ratio > 0 {
		text += fmt.Sprintf(", at %.2f of the speed from the log", s.Ratio)
	}
	return text
}

// Load is what was written.
type Load struct {
	Rows         int     `json:"rows"`
	Transaction  int     `json:"rows_in_a_transaction"`
	PayloadBytes int     `json:"payload_bytes"`
	Tenants      int     `json:"tenants"`
	Topics       int     `json:"topics"`
	Keys         int     `json:"keys"`
	Shards       int     `json:"shards"`
	Destinations int     `json:"destinations"`
	Sink         string  `json:"sink"`
	OnSent       string  `json:"on_sent"`
	Indexes      string  `json:"indexes"`
	Waiting      int     `json:"waiting_keys,omitempty"`  // of other events, at the same destinations
	Old          int     `json:"old_rows,omitempty"`      // delivered ones that the table held before
	WriteSeconds float64 `json:"write_seconds,omitempty"` // of the backlog
}

// Run is one tool's way through the backlog.
type Run struct {
	Tool    string `json:"tool"`
	Entries int64  `json:"entries"`

	Start   float64 `json:"start_seconds"` // from the start of the process to the first entry
	Seconds float64 `json:"seconds"`       // from the start of the process to the last entry
	Settled float64 `json:"settled_seconds,omitempty"`

	EventsPerSecond    float64 `json:"events_per_second"`           // over Seconds
	StreamingPerSecond float64 `json:"streaming_events_per_second"` // without Start
	MegabytesPerSecond float64 `json:"payload_megabytes_per_second"`

	PerPublish float64 `json:"events_per_publish,omitempty"` // of outboxd
	PerSettle  float64 `json:"rows_per_settling_statement,omitempty"`

	CPU CPUPerMillion `json:"cpu_seconds_per_million_events"`
	Memory
	Work *Work `json:"database,omitempty"`
}

// CPUPerMillion is processor time, in seconds for a million events; nil where it is not known.
type CPUPerMillion struct {
	Tool      *float64 `json:"tool,omitempty"`
	Walsender *float64 `json:"walsender,omitempty"`
	Backends  *float64 `json:"other_backends,omitempty"` // that settle
	Broker    *float64 `json:"broker,omitempty"`
}

// NewRun makes a run of what was watched.
func NewRun(tool string, w Watched, payload int) Run {
	return Run{
		Tool: tool, Entries: w.Entries, Start: w.First.Seconds(), Seconds: w.Last.Seconds(), EventsPerSecond: perSecond(w.Entries, w.Last),
		StreamingPerSecond: w.Rate(), MegabytesPerSecond: perSecond(w.Entries*int64(payload), w.Last) / 1e6,
	}
}

// PerMillion is processor time that so many events took, for a million of them; nil where it is not known.
func PerMillion(used *time.Duration, events int64) *float64 {
	if used == nil || events == 0 {
		return nil
	}
	seconds := used.Seconds() / float64(events) * 1e6
	return &seconds
}

// Known is a processor time that may be unknown, as CPU returns it.
func Known(used time.Duration, ok bool) *time.Duration {
	if !ok {
		return nil
	}
	return &used
}

// Used is the difference of two looks; nil where one of them is not known.
func Used(before, after *time.Duration) *time.Duration {
	if before == nil || after == nil {
		return nil
	}
	used := *after - *before
	return &used
}

// Done is the seconds until all was done: in the broker, and settled where that is part of it.
func (r *Run) Done() float64 { return cmp.Or(r.Settled, r.Seconds) }
