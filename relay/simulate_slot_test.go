package relay

import (
	"context"
	"errors"
	"slices"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
)

// open brings a session to the point where it streams, as session.open does.
func (w *world) open(s *session, tables simStore) (err error) {
	if w.db.slot.gone || w.db.slot.confirmed > s.record.Confirmed {
		if err := w.newSlot(s); err != nil {
			return err
		}
	}
	if s.record.Adopt != nil {
		if w.choose(3) == 2 {
			*tables.limit, w.lostAnswer = w.choose(8), w.choose(2) == 0
		}
		if err := s.adopt(context.Background(), tables); err != nil {
			if w.choose(3) == 2 {
				w.note("the slot is dropped before all are adopted")
				w.db.slot.gone = true
			}
			return err
		}
		*tables.limit = -1
	}
	if err := rerouteDoubtful(context.Background(), &s.relay.cfg, tables); err != nil {
		return err
	}
	if s.restored, err = restore(context.Background(), tables, s.confirmed(), s.relay.cfg.Table.MaxKeys); err != nil {
		return err
	}
	s.routing, s.unsure, err = openRouting(context.Background(), tables, &s.record, s.relay.cfg.Routes, s.epochs())
	return err
}

// newSlot makes a slot in the place of one that is lost, as session.begin does. PostgreSQL waits for all transactions that are open, so everything
// that is in the log is visible then.
func (w *world) newSlot(s *session) error {
	for _, tx := range w.db.log {
		tx.visible = true
	}
	w.db.slot = simSlot{confirmed: w.db.end(), unrecorded: true}
	w.note("a new slot begins at %s", w.db.end())
	if w.choose(4) == 3 {
		return errors.New("the process dies")
	}
	next := s.nextRecord(true, w.db.snapshotText())
	next.Confirmed, next.Epoch = w.db.slot.confirmed, s.record.Epoch+100 // as its seconds are far behind the one before
	if next.Adopt.Epoch == 0 || w.off == "one epoch of adoption" {
		next.Adopt.Epoch = next.Epoch - 1
	}
	w.db.record, w.db.slot.unrecorded, w.db.timelines = next, false, nil
	s.record, s.timelines = w.db.load(), nil
	if w.off == "adoption recorded" {
		w.db.record.Adopt = nil
	}
	return nil
}

// load is the record as a session reads it.
func (d *simDatabase) load() checkpoint.Record {
	r := d.record
	if r.Adopt != nil {
		a := *r.Adopt
		r.Adopt = &a
	}
	return r
}

// passed is how far events may be gone from the log: what is below is delivered or parked. While rows are adopted, that is what the slot before
// had confirmed.
func (d *simDatabase) passed() event.LSN {
	switch {
	case d.record.Adopt != nil:
		return d.record.Adopt.Landed.Commit
	case d.slot.unrecorded:
		return d.record.Confirmed
	default:
		return max(d.record.Confirmed, d.slot.confirmed)
	}
}

const simLook = 2 // so many ids a look

func (s simStore) adoptable(_ context.Context, since uint64, after string, limit int) (ids []string, end bool, err error) {
	if err := s.begin(false); err != nil {
		return nil, false, err
	}
	for _, r := range slices.Backward(s.inOrder()) { // ids say nothing of the order of events: here the latest has the first one
		if (after == "" || string(r.event.ID) < after) && uint64(r.xmin) >= since && r.adoptable(s.w) {
			ids = append(ids, string(r.event.ID))
		}
	}
	n := min(limit, simLook, len(ids))
	return ids[:n], n == len(ids), s.done()
}

func (s simStore) stillAdoptable(_ context.Context, ids []string) (rows []outbox.Row, err error) {
	if err := s.begin(false); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if r := s.seen(id); r != nil && r.adoptable(s.w) {
			rows = append(rows, r.read())
		}
	}
	return rows, s.done()
}

func (r *simRow) adoptable(w *world) bool {
	return r.tx.visible && w.off != "older rows adopted" && (r.status == "NEW" || r.status == "FAILED")
}

func (s simStore) insertMissing(_ context.Context, rows []park.Row) (int, error) {
	if err := s.begin(true); err != nil {
		return 0, err
	}
	before := len(s.parked)
	if s.w.off == "tail back to the checkpoint" {
		rows = slices.Clone(rows)
		for i := range rows {
			rows[i].LandedAfter = event.Position{}
		}
	}
	s.add(slices.DeleteFunc(slices.Clone(rows), func(r park.Row) bool {
		return slices.ContainsFunc(s.parked, func(p *park.Row) bool {
			passed := s.w.off != "passed by the checkpoint" && r.LandedAfter.After(event.Position{Epoch: p.Event.Position.Epoch, Commit: p.Event.Position.Commit})
			return p.Ref() == r.Ref() && (passed || p.Destination.Sink == r.Destination.Sink && p.Target == r.Target)
		})
	}))
	return len(s.parked) - before, s.done()
}

func (s simStore) above(_ context.Context, after park.Cursor, epoch uint32, limit int) (rows []park.Row, err error) {
	if err := s.begin(false); err != nil {
		return nil, err
	}
	if s.w.off == "other destinations adopted" {
		return nil, nil
	}
	for _, p := range s.parked {
		known := slices.ContainsFunc(rows, func(r park.Row) bool { return string(r.Event.ID) == string(p.Event.ID) })
		if p.Replay == 0 && compareCursors(p.Cursor(), after) > 0 && p.Event.Position.Epoch < epoch && !known {
			rows = append(rows, *p)
		}
	}
	slices.SortFunc(rows, func(a, b park.Row) int { return compareCursors(a.Cursor(), b.Cursor()) })
	return rows[:min(limit, simLook, len(rows))], s.done()
}

func (s simStore) readRows(_ context.Context, ids []string) (rows []outbox.Row, err error) {
	if err := s.begin(false); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if r := s.seen(id); r != nil && s.w.off != "placed among the adopted" {
			rows = append(rows, r.read())
		}
	}
	return rows, s.done()
}

func (s simStore) saveAdoption(_ context.Context, after string) error {
	if err := s.begin(true); err != nil {
		return err
	}
	if s.record.Adopt != nil {
		s.record.Adopt.After = after
	}
	return s.done()
}

func (s simStore) endAdoption(context.Context) error {
	if err := s.begin(true); err != nil {
		return err
	}
	s.record.Adopt = nil
	return s.done()
}

// promote lets a synchronous standby take the server's place. It may lack the last transactions, as far as nobody has been told that they are
// committed, though the walsender has sent them.
func (w *world) promote() {
	for len(w.instances) > 0 {
		w.end(w.instances[0])
	}
	w.zombies = nil // nobody hears them
	d := w.db
	kept := d.replicated
	for n, tx := range d.log {
		if tx.visible {
			kept = max(kept, n+1)
		}
	}
	kept += w.choose(len(d.log) - kept + 1)
	for _, tx := range d.log[kept:] {
		for _, r := range tx.rows {
			w.note("%s is lost with the server", r.event.ID)
			w.gone[string(r.event.ID)] = r
			delete(d.rows, string(r.event.ID))
		}
	}
	d.log, d.replicated = d.log[:kept], kept
	d.timelines = append(d.timelines, d.end()+1)
	d.slot.gone = d.slot.gone || w.choose(4) == 3
}

// row is the event's, also where the transaction is lost.
func (w *world) row(id string) *simRow {
	if r := w.db.rows[id]; r != nil {
		return r
	}
	return w.gone[id]
}
