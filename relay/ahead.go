package relay

import (
	"context"

	"github.com/outboxd/outboxd/park"
)

// ahead is the next load of a scan, made while the rows before it are published and settled. What becomes of its rows is decided when its
// turn comes. It is dropped when the scan goes on somewhere else, or when rows of it may have been delivered meanwhile: a tail was read, or
// keys were loaded by themselves.
type ahead struct {
	after  park.Cursor // it was loaded behind this
	rows   []park.Row
	end    bool
	loaded bool
	wanted bool // its turn has come before it was loaded
}

// loadAhead begins to load what comes behind the scan's rows, where a clerk is free and no other destination waits for one.
func (c *core) loadAhead(d *destination) {
	w := &d.table
	if w.end || len(w.rows) == 0 || !c.pollers.free() || len(c.waiting) > c.cfg.Table.MaxConcurrent {
		return
	}
	a := &ahead{after: w.next}
	w.ahead = a
	d.lane.Keys.ScanBegins()
	c.pollers.give(c.scanTask(d, a, func() {
		a.loaded = true
		if w.ahead == a && a.wanted {
			c.takeAhead(d)
		}
	}))
}

// scanTask loads the scan's next rows, for one turn.
func (c *core) scanTask(d *destination, a *ahead, then func()) *task {
	size, bytes := min(2*c.cfg.BatchMessages, c.cfg.largestBatch), int64(c.cfg.BatchBytes) // of two batches one is settled while the other is published
	at := d.place()
	return &task{
		name: "load parked events", statement: statementLoad, at: at,
		run: func(ctx context.Context, s store) (err error) {
			a.rows, a.end, err = s.loadAfter(ctx, at, a.after, size, bytes)
			return err
		},
		then: then,
	}
}

// loadScan goes on with the scan: with what was loaded ahead, or by a load.
func (c *core) loadScan(d *destination) {
	w := &d.table
	w.busy, w.scan, w.keys = true, true, nil
	if a := w.ahead; a != nil && a.after == w.cursor {
		if a.wanted = true; a.loaded {
			c.takeAhead(d)
		}
		return
	}
	w.ahead = nil
	d.lane.Keys.ScanBegins()
	a := &ahead{after: w.cursor}
	c.pollers.give(c.scanTask(d, a, func() { c.scanLoaded(d, a) }))
}

func (c *core) takeAhead(d *destination) {
	a := d.table.ahead
	d.table.ahead = nil
	c.scanLoaded(d, a)
}
