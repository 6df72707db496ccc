package relay

import (
	"fmt"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/park"
)

// State is what the relay is doing.
type State string

// The states of a relay.
const (
	StateConnecting State = "connecting" // opening a session, or waiting before the next try
	StateStandby    State = "standby"    // another instance is active; this one takes over when it ends
	StateActive     State = "active"     // streaming
	StateDraining   State = "draining"   // asked to stop; finishing what is in flight
	StateStopped    State = "stopped"    // an event that cannot be delivered holds the stream
)

var allStates = []State{StateConnecting, StateStandby, StateActive, StateDraining, StateStopped}

// blockedUnready is how long a destination may fail before the instance counts as not ready.
const blockedUnready = 10 * time.Second

// Blocked is a destination that fails.
type Blocked struct {
	Sink        string    `json:"sink"`
	Destination string    `json:"destination"`
	Since       time.Time `json:"since"`
	Attempts    int       `json:"attempts"`
	Error       string    `json:"error"`
}

// Status is a picture of the relay, for /status.
type Status struct {
	State           State     `json:"state"`
	Since           time.Time `json:"since"`
	Reason          string    `json:"reason,omitempty"` // why it is not active
	Epoch           uint32    `json:"epoch"`
	Term            int64     `json:"term"`
	Sessions        uint64    `json:"sessions"`
	ReceivedEvents  uint64    `json:"received_events"`
	IgnoredChanges  uint64    `json:"ignored_changes"`
	DroppedUnrouted uint64    `json:"dropped_unrouted"`
	WALEnd          string    `json:"wal_end"`
	SafeLSN         string    `json:"safe_lsn"`
	ConfirmedLSN    string    `json:"confirmed_lsn"`
	LagBytes        uint64    `json:"lag_bytes"`
	LagSeconds      float64   `json:"lag_seconds"`
	InFlightBytes   int64     `json:"in_flight_bytes"`
	Blocked         []Blocked `json:"blocked"`
	Parked          Parked    `json:"parked"`

	PendingEvents      int64    `json:"pending_events"`       // received and not delivered; one that is parked counts once for each destination
	OldestEventSeconds float64  `json:"oldest_event_seconds"` // age of the oldest of them; 0 when there is none
	DeliveredEvents    uint64   `json:"delivered_events"`     // since the program started; an event counts once for each destination
	OpenBreakers       int64    `json:"open_breakers"`        // destinations at which nothing is tried but a probe
	MemoryBudget       int64    `json:"memory_budget_bytes"`
	Database           Database `json:"database"`
	Slot               *Slot    `json:"slot,omitempty"` // absent where nothing is known of it, as in an instance that stands by
}

// Database is how the instance uses the database.
type Database struct {
	Connections    int64   `json:"connections"` // in use: the replication and the control connection, and those at work
	ConnectionsMax int64   `json:"connections_max"`
	Workers        int64   `json:"workers"`       // connections that work can be on
	WorkSeconds    float64 `json:"work_seconds"`  // all that was spent on them since the program started
	Queries        uint64  `json:"queries"`       // pieces of work that delivery waits for: all but sweeps and measurements
	QuerySeconds   float64 `json:"query_seconds"` // their time
}

// Slot is what the server last said of the replication slot.
type Slot struct {
	Active             bool  `json:"active"`
	Lost               bool  `json:"lost"`
	RetainedWALBytes   int64 `json:"retained_wal_bytes"`
	RetainedLimitBytes int64 `json:"retained_wal_limit_bytes,omitempty"` // max_slot_wal_keep_size; absent without a limit
	Standbys           int   `json:"standbys"`                           // instances that wait to take over
}

// Parked is what is in the table lane, as of the last sweep.
type Parked struct {
	Waiting       int     `json:"waiting"` // events, counted once for each destination
	Dead          int     `json:"dead"`
	OldestSeconds float64 `json:"oldest_seconds"` // age of the oldest that waits; 0 when none does
	WaitingKeys   int64   `json:"waiting_keys"`   // keys whose events are parked at some destination, as far as they are told apart
	WholeBacklogs int64   `json:"whole_backlogs"` // destinations for which everything is parked
}

// Status returns what the relay is doing. It may be called at any time, from any goroutine.
func (r *Relay) Status() Status {
	f := r.facts
	f.mu.Lock()
	s := Status{State: f.state, Since: f.since, Reason: f.reason, Epoch: f.epoch, Term: f.term}
	f.mu.Unlock()
	s.Sessions = f.sessions.Load()
	s.ReceivedEvents, s.IgnoredChanges = f.receivedEvents.Load(), f.ignoredChanges.Load()
	s.DroppedUnrouted = f.droppedUnrouted.Load()
	s.WALEnd = f.logEnd().String()
	s.SafeLSN = event.LSN(f.safeLSN.Load()).String()
	s.ConfirmedLSN = event.LSN(f.sentLSN.Load()).String()
	s.LagBytes, s.LagSeconds = f.lagBytes(), f.lag().Seconds()
	s.InFlightBytes = f.inFlightBytes()
	s.Blocked = f.blocked()
	now := f.parkedNow()
	s.Parked = Parked{
		Waiting: now.Waiting, Dead: now.Dead, OldestSeconds: f.parkedAge().Seconds(),
		WaitingKeys: f.waitingKeys.Load(), WholeBacklogs: f.wholeBacklogs.Load(),
	}
	s.PendingEvents, s.OldestEventSeconds = f.pending(), f.oldestAge().Seconds()
	s.DeliveredEvents, s.OpenBreakers, s.MemoryBudget = f.delivered.Load(), f.openBreakers.Load(), r.cfg.MemoryBudget
	s.Database, s.Slot = f.queries.status(), f.slot()
	return s
}

// slot is what is known of the slot; nil when nothing is.
func (f *facts) slot() *Slot {
	m := f.measured.Load()
	if m == nil {
		return nil
	}
	return &Slot{
		Active: m.active, Lost: m.lost, RetainedWALBytes: m.retainedBytes, RetainedLimitBytes: f.retainedLimit.Load(), Standbys: m.standbys,
	}
}

// Ready tells whether the instance does what it should: it stands by, or it is active and no destination has failed for
// longer than a few seconds. The error says what blocks it.
func (r *Relay) Ready() error {
	s := r.Status()
	switch s.State {
	case StateStandby, StateDraining:
		return nil
	case StateActive:
	case StateConnecting, StateStopped:
		return fmt.Errorf("%s: %s", s.State, s.Reason)
	}
	for _, b := range s.Blocked {
		if age := time.Since(b.Since); age > blockedUnready {
			return fmt.Errorf("sink %s: %s fails since %s (%d of all destinations fail): %s",
				b.Sink, b.Destination, age.Round(time.Second), len(s.Blocked), b.Error)
		}
	}
	return nil
}

func (f *facts) currentState() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *facts) inFlightBytes() int64 {
	if b := f.budget.Load(); b != nil {
		return b.used.Load()
	}
	return 0
}

// logEnd is how far the server's log has come: by the stream, which says how far the walsender has read it, or by the last measurement.
func (f *facts) logEnd() event.LSN {
	end := event.LSN(f.walEnd.Load())
	if m := f.measured.Load(); m != nil {
		end = max(end, m.logEnd)
	}
	return end
}

func (f *facts) lagBytes() uint64 {
	end, safe := uint64(f.logEnd()), f.safeLSN.Load()
	if safe == 0 || end <= safe {
		return 0
	}
	return end - safe
}

func (f *facts) lag() time.Duration {
	oldest := f.oldestCommit.Load()
	if oldest == 0 {
		return 0
	}
	return max(time.Since(time.UnixMicro(oldest)), 0)
}

// parkedWaiting is how much waits in the table lane: the last sweep's count, and what came and went since.
func (f *facts) parkedWaiting() int64 {
	return max(0, int64(f.parkedNow().Waiting)+f.parkedSince.Load())
}

// pending is how many events are received and not delivered; one that is parked counts once for each destination.
func (f *facts) pending() int64 { return f.openEvents.Load() + f.parkedWaiting() }

// oldestAge is the age of the oldest of them.
func (f *facts) oldestAge() time.Duration {
	if f.parkedWaiting() == 0 {
		return f.lag()
	}
	return max(f.lag(), f.parkedAge())
}

// parkedNow is what was parked at the last sweep.
func (f *facts) parkedNow() park.Totals {
	if t := f.totals.Load(); t != nil {
		return *t
	}
	return park.Totals{}
}

func (f *facts) parkedAge() time.Duration {
	oldest := f.parkedNow().Oldest
	if oldest.IsZero() {
		return 0
	}
	return max(time.Since(oldest), 0)
}
