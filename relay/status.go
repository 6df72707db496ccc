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
	s.WALEnd = event.LSN(f.walEnd.Load()).String()
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
	return s
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

func (f *facts) lagBytes() uint64 {
	end, safe := f.walEnd.Load(), f.safeLSN.Load()
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
