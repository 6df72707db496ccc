package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
)

const (
	walkRows  = 5000     // of the outbox that are looked at by one statement
	walkFirst = 500      // ... by the first one, when it is not known how large they are
	walkBytes = 32 << 20 // of events that one statement is to return
)

// replayer parks rows of the outbox table for replay.
type replayer struct {
	conn         *pgx.Conn
	schema, slot string
	outbox       *outbox.Table
	router       *route.Router
	filter       outbox.Filter
	note         string
	of           string   // what it looks through, for people
	delivered    []string // the statuses of rows that may be replayed; nil: all rows may
}

// replayReport is what a walk has found; its JSON form is what the command prints.
type replayReport struct {
	Events           int      `json:"events"`
	Deliveries       int      `json:"deliveries"`
	Unrouted         int      `json:"unrouted"`
	FirstUnrouted    string   `json:"first_unrouted,omitempty"`
	UnroutedReason   string   `json:"unrouted_reason,omitempty"`
	Undelivered      int      `json:"undelivered"` // rows that a replay to another destination would make sent
	FirstUndelivered string   `json:"first_undelivered,omitempty"`
	Missing          []string `json:"-"` // ids without a row
	DryRun           bool     `json:"dry_run"`
}

func newReplayer(
	ctx context.Context, conn *pgx.Conn, cfg *config.Config, filter outbox.Filter, to []config.Target, note string,
) (*replayer, error) {
	router, err := replayRouter(cfg, to)
	if err != nil {
		return nil, err
	}
	t, err := outbox.Describe(ctx, conn, outboxConfig(cfg))
	if err != nil {
		return nil, err
	}
	if filter.IDs, err = spelled(ctx, conn, t, filter.IDs); err != nil {
		return nil, err
	}
	filter.IDs = slices.Compact(slices.Sorted(slices.Values(filter.IDs)))
	of := "the outbox table"
	if cfg.Shard().Split() {
		of = fmt.Sprintf("shard %d of the outbox table", cfg.Shards.Number)
	}
	return &replayer{conn, cfg.Database.Schema, cfg.Database.Slot, t, router, filter, note, of, deliveredStatuses(cfg, to)}, nil
}

// deliveredStatuses returns the statuses of the rows that may go to another destination, or nil for all. The row of a replay that is
// delivered counts as sent, so that one whose event is still to go where its route says would be taken for skipped there.
func deliveredStatuses(cfg *config.Config, to []config.Target) []string {
	if len(to) == 0 || cfg.OnSent == outbox.Keep {
		return nil
	}
	s := outboxConfig(cfg).WithDefaults().Statuses
	return []string{s.Sent, s.Published}
}

// replayRouter is the configured one, or one that sends everything to the given places.
func replayRouter(cfg *config.Config, to []config.Target) (*route.Router, error) {
	configured, err := cfg.Router()
	if err != nil || len(to) == 0 {
		return configured, err
	}
	other := *cfg
	for _, t := range to {
		if _, known := cfg.Sinks[t.Sink]; !known {
			return nil, fmt.Errorf("--to %s:%s: there is no sink %s: configured are %s", t.Sink, t.Destination, t.Sink, strings.Join(sinkNames(cfg), ", "))
		}
		other.Routes = []config.Route{{To: []config.Target{t}}}
		if _, err := other.Router(); err != nil { // about the one route, which nobody has written
			return nil, fmt.Errorf("--to %s:%s: %s", t.Sink, t.Destination, strings.TrimPrefix(err.Error(), "routes[0].to[0].destination: "))
		}
	}
	other.Routes = []config.Route{{To: to}}
	router, err := other.Router()
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	router.Beside(configured)
	return router, nil
}

func sinkNames(cfg *config.Config) []string { return slices.Sorted(maps.Keys(cfg.Sinks)) }

// walk looks through the table in bounded chunks and parks what matches, unless it only counts. seen is told how many events were found
// so far. An error comes with what was done before it.
func (r *replayer) walk(ctx context.Context, onlyCount bool, seen func(events int)) (report replayReport, err error) {
	if len(r.filter.IDs) > 0 {
		return r.walkIDs(ctx, onlyCount, seen)
	}
	look := walkFirst
	for after, end := "", false; !end; {
		var rows []outbox.Row
		if rows, after, end, err = r.outbox.Select(ctx, r.conn, r.filter, after, look); err != nil {
			return report, err
		}
		if err := r.take(ctx, rows, onlyCount, &report); err != nil {
			return report, err
		}
		look = nextLook(look, rows)
		seen(report.Events)
	}
	return report, nil
}

func (r *replayer) walkIDs(ctx context.Context, onlyCount bool, seen func(events int)) (report replayReport, err error) {
	for ids := range slices.Chunk(r.filter.IDs, walkFirst) {
		filter := r.filter
		filter.IDs = ids
		rows, _, _, err := r.outbox.Select(ctx, r.conn, filter, "", len(ids))
		if isMalformed(err) {
			return report, fmt.Errorf("an id is not of the type of the outbox table's ids: %w", err)
		}
		if err != nil {
			return report, err
		}
		found := map[string]bool{}
		for i := range rows {
			found[string(rows[i].Event.ID)] = true
		}
		for _, id := range ids {
			if !found[id] {
				report.Missing = append(report.Missing, id)
			}
		}
		if err := r.take(ctx, rows, onlyCount, &report); err != nil {
			return report, err
		}
		seen(report.Events)
	}
	return report, nil
}

// nextLook is how many rows the next statement looks at, so that it returns few enough bytes.
func nextLook(look int, rows []outbox.Row) int {
	size := 0
	for i := range rows {
		size += rows[i].Event.Size()
	}
	most := walkRows
	if size > 0 {
		most = min(most, look*walkBytes/size)
	}
	return max(1, min(most, 2*look))
}

// take routes the rows and parks them, a bounded number of bytes at a time.
func (r *replayer) take(ctx context.Context, rows []outbox.Row, onlyCount bool, report *replayReport) error {
	var chunk []park.Row
	size, events := 0, 0
	for i := range rows {
		parked := r.rowsOf(&rows[i], report)
		if len(parked) == 0 {
			continue
		}
		more := rows[i].Event.Size() * len(parked)
		if len(chunk) > 0 && (size+more > park.InsertBytes || len(chunk)+len(parked) > walkRows) {
			if err := r.park(ctx, chunk, events, onlyCount, report); err != nil {
				return err
			}
			chunk, size, events = nil, 0, 0
		}
		chunk, size, events = append(chunk, parked...), size+more, events+1
	}
	return r.park(ctx, chunk, events, onlyCount, report)
}

// rowsOf returns what the row is parked as, without its number: one row for each destination.
func (r *replayer) rowsOf(row *outbox.Row, report *replayReport) []park.Row {
	e := &row.Event
	if r.delivered != nil && !slices.Contains(r.delivered, row.Status) {
		if report.Undelivered++; report.Undelivered == 1 {
			report.FirstUndelivered = string(e.ID)
		}
		return nil
	}
	destinations, err := r.router.Route(e)
	if err == nil && (e.TenantID == nil || e.Topic == nil) {
		err = errors.New("its tenant or its topic is NULL")
	}
	if err != nil {
		if report.Unrouted++; report.Unrouted == 1 {
			report.FirstUnrouted, report.UnroutedReason = string(e.ID), err.Error()
		}
		return nil
	}
	base := park.Row{Event: *e, State: park.Waiting, Reason: "replay"}
	parked := make([]park.Row, len(destinations))
	for i, d := range destinations {
		parked[i] = base.To(d.Sink, d.Name)
	}
	return parked
}

// park parks the chunk, whose events get a replay number each, and counts it.
func (r *replayer) park(ctx context.Context, chunk []park.Row, events int, onlyCount bool, report *replayReport) error {
	if !onlyCount && len(chunk) > 0 {
		first, err := park.NextReplays(ctx, r.conn, r.schema, events)
		if err != nil {
			return err
		}
		park.NumberReplays(chunk, first)
		if _, err := park.InsertReplays(ctx, r.conn, r.schema, r.slot, chunk, r.note); err != nil {
			return err
		}
	}
	report.Events += events
	report.Deliveries += len(chunk)
	return nil
}
