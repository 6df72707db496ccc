package monitor

import (
	"time"

	"github.com/outboxd/outboxd/relay"
)

// Sample is what a relay says of itself at one time.
type Sample struct {
	At     time.Time
	Status relay.Status
}

// Rates are what two samples say of the time between them.
type Rates struct {
	Seconds             float64 `json:"seconds"` // between the samples
	EventsPerSecond     float64 `json:"events_per_second"`
	AverageQuerySeconds float64 `json:"average_query_seconds"` // of database work that delivery waits for; 0 when there was none
	PoolUsage           float64 `json:"pool_usage"`            // share of the time that the connections for such work were busy, 0 to 1
}

// Between computes the rates from before to now. They are zero when no time lies between.
func Between(before, now Sample) Rates {
	r := Rates{Seconds: now.At.Sub(before.At).Seconds()}
	if r.Seconds <= 0 {
		return Rates{}
	}
	was, is := &before.Status, &now.Status
	r.EventsPerSecond = float64(is.DeliveredEvents-was.DeliveredEvents) / r.Seconds
	if n := is.Database.Queries - was.Database.Queries; n > 0 {
		r.AverageQuerySeconds = (is.Database.QuerySeconds - was.Database.QuerySeconds) / float64(n)
	}
	if is.Database.Workers > 0 {
		r.PoolUsage = min(1, (is.Database.WorkSeconds-was.Database.WorkSeconds)/(r.Seconds*float64(is.Database.Workers)))
	}
	return r
}
