package relay

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/park"
)

func (s simStore) insert(_ context.Context, rows []park.Row) error {
	if err := s.begin(true); err != nil {
		return err
	}
	if s.w.off == "park awaited" {
		s.undurable = append(s.undurable, rows...)
		return nil
	}
	s.add(rows)
	return s.done()
}

func (d *simDatabase) add(rows []park.Row) {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b park.Row) int { // whatever order the sinks stood in
		return cmp.Or(strings.Compare(a.Destination.Name, b.Destination.Name), compareCursors(a.Cursor(), b.Cursor()))
	})
	for _, r := range rows {
		if d.find(r.Destination, r.Ref()) == nil {
			d.w.note("row %s at %s: %s, %d attempts, replay %d", r.Event.ID, r.Destination, cmp.Or(r.State, park.Waiting), r.Attempts, r.Replay)
			if row := d.rows[string(r.Event.ID)]; row.reset {
				row.reset, row.loose = false, row.loose || r.Replay == 0
			}
			r.State = cmp.Or(r.State, park.Waiting)
			d.parked = append(d.parked, &r)
		}
		if !r.LandedAfter.IsZero() && !r.Event.Position.After(d.tailRead[r.Destination]) {
			delete(d.tailRead, r.Destination)
		}
	}
}

func (s simStore) nextReplays(_ context.Context, n int) (int, error) {
	if err := s.begin(false); err != nil {
		return 0, err
	}
	s.replays += n
	return s.replays - n + 1, s.done()
}

// at are the destination's rows of which ok holds, in position order.
func (d *simDatabase) at(at park.Destination, ok func(*park.Row) bool) (rows []*park.Row) {
	for _, p := range d.parked {
		if p.Destination == at && ok(p) {
			rows = append(rows, p)
		}
	}
	slices.SortFunc(rows, func(a, b *park.Row) int { return compareCursors(a.Cursor(), b.Cursor()) })
	return rows
}

func compareCursors(a, b park.Cursor) int {
	return cmp.Or(a.Position.Compare(b.Position), strings.Compare(a.ID, b.ID), cmp.Compare(a.Replay, b.Replay))
}

func holdsBack(p *park.Row) bool { return p.State == park.Waiting || p.State == park.Dead && p.Blocks }

func (s simStore) loadKeys(_ context.Context, at park.Destination, keys []uint64, perKey int, _ int64) (rows []park.Row, exhausted []uint64, err error) {
	if err := s.begin(false); err != nil {
		return nil, nil, err
	}
	for _, key := range slices.Sorted(slices.Values(keys)) { // the order of their times is that of jitter
		found := s.at(at, func(p *park.Row) bool { return p.Key == key && holdsBack(p) })
		i := 0
		for ; i < len(found) && i < perKey && found[i].State == park.Waiting; i++ {
			rows = append(rows, *found[i])
		}
		if i == len(found) {
			exhausted = append(exhausted, key)
		}
	}
	return rows, exhausted, s.underTerm(s.done())
}

func (s simStore) loadAfter(_ context.Context, at park.Destination, after park.Cursor, limit int, _ int64) (rows []park.Row, end bool, err error) {
	if err := s.begin(false); err != nil {
		return nil, false, err
	}
	found := s.at(at, func(p *park.Row) bool { return p.State == park.Waiting && compareCursors(p.Cursor(), after) > 0 })
	for _, p := range found[:min(limit, len(found))] {
		rows = append(rows, *p)
	}
	return rows, len(found) < limit, s.underTerm(s.done())
}

// underTerm is the answer to what was read.
func (s simStore) underTerm(err error) error {
	if err == nil && s.term != s.simDatabase.term && s.w.off != "term checked behind a load" {
		return lease.ErrTermLost
	}
	return err
}

func (s simStore) blocking(context.Context, park.Destination, int, int64) ([]park.Row, error) {
	panic("no destination of the simulation has partitions")
}

func (s simStore) move(_ context.Context, from park.Destination, rows []park.Row) error {
	if err := s.begin(true); err != nil {
		return err
	}
	var done []*park.Row
	s.add(slices.DeleteFunc(slices.Clone(rows), func(r park.Row) bool {
		p := s.find(from, r.Ref())
		if p == nil || p.State != r.State {
			return true
		}
		done = append(done, p)
		return false
	}))
	for _, p := range done {
		p.State = park.Done
	}
	return s.done()
}

// finished says that waiting rows of the destination have landed.
func (d *simDatabase) finished(at park.Destination, refs []event.Ref) (n int) {
	for _, ref := range refs {
		if p := d.find(at, ref); p != nil && p.State == park.Waiting {
			p.State = park.Done
			n++
		}
	}
	return n
}

func (s simStore) settleParked(_ context.Context, at park.Destination, refs []event.Ref) error {
	if err := s.begin(true); err != nil {
		return err
	}
	s.finished(at, refs)
	return s.done()
}

func (s simStore) found(_ context.Context, at park.Destination, refs []event.Ref, all bool) (n int, err error) {
	if err := s.begin(true); err != nil {
		return 0, err
	}
	switch s.w.off {
	case "found settled":
		return 0, nil
	case "replay numbers":
		for _, p := range s.at(at, func(p *park.Row) bool { return p.Replay > 0 }) {
			if slices.ContainsFunc(refs, func(ref event.Ref) bool { return ref.ID == string(p.Event.ID) }) {
				refs = append(refs, p.Ref())
			}
		}
	}
	n = s.finished(at, refs)
	for _, p := range s.at(at, func(p *park.Row) bool { return p.State == park.Waiting }) {
		if all && p.Event.Position.After(s.tailRead[at]) {
			s.tailRead[at] = p.Event.Position // the last one's stays
		}
	}
	return n, s.done()
}

func (s simStore) fail(_ context.Context, at park.Destination, failures []park.Failure) error {
	if err := s.begin(true); err != nil {
		return err
	}
	for _, f := range failures {
		if p := s.find(at, f.Ref); p != nil && p.State == park.Waiting && p.Attempts == f.Attempts-1 {
			p.Attempts, p.Due, p.Reason, p.State, p.Blocks = f.Attempts, f.Due, f.Reason, f.State, f.Blocks
		}
	}
	return s.done()
}

func (s simStore) straysAbove(_ context.Context, after event.Position) (ids []string, err error) {
	if err := s.begin(false); err != nil {
		return nil, err
	}
	for _, p := range s.at(park.Destination{}, func(p *park.Row) bool { return p.Event.Position.After(after) && p.Replay == 0 }) {
		ids = append(ids, string(p.Event.ID))
	}
	return ids, s.done()
}

func (s simStore) summaries(context.Context) (all []park.Summary, err error) {
	if err := s.begin(false); err != nil {
		return nil, err
	}
	for _, p := range s.parked {
		i := slices.IndexFunc(all, func(one park.Summary) bool { return one.Destination == p.Destination })
		if i < 0 {
			i = len(all)
			all = append(all, park.Summary{Destination: p.Destination, Target: p.Target})
		}
		one := &all[i]
		if p.Replay == 0 && p.Event.Position.After(one.Highest) && s.w.off != "parks raise the frontier" {
			one.Highest = p.Event.Position
		}
		switch p.State {
		case park.Waiting:
			one.Waiting++
			if !p.LandedAfter.IsZero() && p.Event.Position.After(s.tailRead[p.Destination]) && (!one.MayHaveLanded || one.LandedAfter.After(p.LandedAfter)) {
				one.MayHaveLanded, one.LandedAfter = true, p.LandedAfter
			}
		case park.Dead:
			one.Dead++
		}
	}
	return all, s.done()
}

func (s simStore) keys(_ context.Context, limit int, each func(park.WaitingKey)) error {
	if err := s.begin(false); err != nil {
		return err
	}
	if s.w.off == "keys wait" {
		return nil
	}
	for n, k := range s.waitingKeys() {
		if n == limit {
			return park.ErrTooMany
		}
		each(k)
	}
	return s.done()
}

// waitingKeys are the keys that wait or are held back, each with its first row.
func (d *simDatabase) waitingKeys() (keys []park.WaitingKey) {
	for _, at := range d.w.places {
		seen := map[uint64]bool{}
		for _, p := range d.at(at, holdsBack) {
			if !seen[p.Key] {
				seen[p.Key] = true
				k := park.WaitingKey{Destination: at, Key: p.Key, Blocked: p.State == park.Dead}
				if !k.Blocked {
					k.Due = p.Due
				}
				keys = append(keys, k)
			}
		}
	}
	return keys
}

func (s simStore) blockedKeys(_ context.Context, limit int, each func(park.WaitingKey)) error {
	if err := s.begin(false); err != nil {
		return err
	}
	for _, at := range s.w.places {
		for _, p := range s.at(at, func(p *park.Row) bool { return p.State == park.Dead && p.Blocks }) {
			each(park.WaitingKey{Destination: at, Key: p.Key, Blocked: true})
		}
	}
	return s.done()
}

func (s simStore) count(context.Context) (park.Totals, error) { return park.Totals{}, s.begin(false) }
