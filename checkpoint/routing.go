package checkpoint

import (
	"context"
	"encoding/json"

	"github.com/outboxd/outboxd/lease"
)

// Routing is how events behind Confirmed may have been given to their destinations.
type Routing struct {
	Routes     string         `json:"routes"`               // the caller's text for its routes: the same text, the same destinations
	Mixed      bool           `json:"mixed,omitempty"`      // events may have been given by other routes, too
	Partitions map[string]int `json:"partitions,omitempty"` // of each target that has several, by the caller's name for it; 0: of different numbers
}

// SaveRouting notes how events behind the confirmed position are given to destinations; nil says that none was published. It is durable when it returns.
func SaveRouting(ctx context.Context, db lease.Querier, held lease.Lease, r *Routing) error {
	var text any
	if r != nil {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		text = string(b)
	}
	return change(ctx, db, held, "save how events are routed", `routing = $3::text::jsonb`, text)
}

// SaveLost notes why the slot does not carry all that was committed since. A new epoch ends that.
func SaveLost(ctx context.Context, db lease.Querier, held lease.Lease, why string) error {
	return change(ctx, db, held, "save that the log is lost", `lost = $3`, why)
}

// SavePublished notes what the slot is read as from now on, where the record does not say it.
func SavePublished(ctx context.Context, db lease.Querier, held lease.Lease, published string) error {
	return change(ctx, db, held, "save what is published", `published = $3`, published)
}
