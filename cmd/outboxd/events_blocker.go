package main

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/park"
)

// blocker is the first event that another one of its key waits behind.
type blocker struct {
	ID     string     `json:"id"`
	Replay int        `json:"replay,omitempty"`
	State  park.State `json:"state"`
	Reason string     `json:"reason,omitempty"`
}

// findBlocker returns what a waiting row waits behind at its destination: the first earlier row of its key that waits, or is dead and
// holds the key back; nil when there is none.
func findBlocker(ctx context.Context, conn *pgx.Conn, cfg *config.Config, row *park.Row) (*blocker, error) {
	schema, slot := cfg.Database.Schema, cfg.Database.Slot
	first, _, err := park.LoadKeys(ctx, conn, schema, slot, row.Destination, []uint64{row.Key}, 1, 1)
	if err != nil {
		return nil, err
	}
	if len(first) > 0 { // nothing dead is before it
		if isBefore(&first[0], row) {
			return newBlocker(&first[0]), nil
		}
		return nil, nil //nolint:nilnil // nothing blocks it
	}
	return findDead(ctx, conn, cfg, row)
}

// findDead looks through the dead rows of the event's aggregate for the first that holds the row back.
func findDead(ctx context.Context, conn *pgx.Conn, cfg *config.Config, row *park.Row) (*blocker, error) {
	e := &row.Event
	filter := park.Filter{
		States: []park.State{park.Dead}, Sink: row.Destination.Sink, Destination: row.Destination.Name,
		Tenant: string(e.TenantID), AggregateType: string(e.AggregateType), AggregateID: string(e.AggregateID),
	}
	for after := (park.Cursor{}); ; {
		rows, more, err := listPage(ctx, conn, cfg, filter, after, listLimit)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			if r := &rows[i]; r.Key == row.Key && r.Blocks && isBefore(r, row) {
				return newBlocker(r), nil
			}
		}
		if !more || !isBefore(&rows[len(rows)-1], row) {
			return nil, nil //nolint:nilnil // nothing blocks it
		}
		after = cursorBehind(&rows[len(rows)-1])
	}
}

func newBlocker(r *park.Row) *blocker {
	return &blocker{string(r.Event.ID), r.Replay, r.State, r.Reason}
}

// isBefore tells whether a stands before b in position order.
func isBefore(a, b *park.Row) bool {
	switch c := a.Event.Position.Compare(b.Event.Position); {
	case c != 0:
		return c < 0
	case string(a.Event.ID) != string(b.Event.ID):
		return string(a.Event.ID) < string(b.Event.ID)
	default:
		return a.Replay < b.Replay
	}
}
