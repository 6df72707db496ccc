package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
)

// simDatabase is a model of PostgreSQL: the log, the outbox table, and the tables of outboxd.
type simDatabase struct {
	w          *world
	log        []*simTx
	rows       map[string]*simRow
	parked     []*park.Row // in the order of the primary key's first use
	undurable  []park.Row  // with the protection off: rows that the park's answer came before
	record     checkpoint.Record
	slot       simSlot
	timelines  []event.LSN // where those began that came since the record was made
	replicated int         // so many transactions of the log has the standby, for certain
	term       int64
	nextXid    uint32
	replays    int
}

// simSlot is the replication slot.
type simSlot struct {
	confirmed  event.LSN
	gone       bool // somebody has dropped it
	unrecorded bool // it was made, and the record is still that of the one before
}

// simTx is a committed transaction. It becomes visible some time after it is in the log.
type simTx struct {
	commit, end event.LSN
	xid         uint32
	visible     bool
	rows        []*simRow
}

// simRow is a row of the outbox.
type simRow struct {
	event    event.Event
	status   string
	serial   int  // in the order of commits
	replays  int  // so many times it was to be delivered once more
	reset    bool // a person has set it back to NEW, and the sweep has not seen it yet
	loose    bool // nothing more is promised of it
	attempts int
	due      time.Time
	tx       *simTx
	xmin     uint32
}

func (d *simDatabase) end() event.LSN {
	if len(d.log) == 0 {
		return 1
	}
	return d.log[len(d.log)-1].end
}

// seen is the row of the id, if a statement can see it.
func (d *simDatabase) seen(id string) *simRow {
	if r := d.rows[id]; r != nil && r.tx.visible {
		return r
	}
	return nil
}

// set changes a row's status, in a transaction of its own.
func (d *simDatabase) set(r *simRow, status string) { r.status, r.xmin = status, d.xid() }

func (d *simDatabase) xid() uint32 {
	d.nextXid++
	return d.nextXid - 1
}

func (d *simDatabase) isParked(id string) bool {
	return slices.ContainsFunc(d.parked, func(p *park.Row) bool { return string(p.Event.ID) == id })
}

// find is a parked row; nil when there is none.
func (d *simDatabase) find(at park.Destination, ref event.Ref) *park.Row {
	i := slices.IndexFunc(d.parked, func(p *park.Row) bool { return p.Destination == at && p.Ref() == ref })
	if i < 0 {
		return nil
	}
	return d.parked[i]
}

// simStore is what one connection of a session does there.
type simStore struct {
	*simDatabase
	term  int64
	limit *int // so many statements more, before the connection is cut; negative: it is not
}

var errSimCut = errors.New("the connection is cut")

// begin is the beginning of a statement: it fails where the connection is cut, or a later session has raised the term.
func (s simStore) begin(writes bool) error {
	if *s.limit == 0 {
		return errSimCut
	}
	*s.limit--
	if writes && s.term != s.simDatabase.term && s.w.off != "term" {
		return event.ErrTermLost
	}
	if writes { // it returns when the standby has it, and with it all that came before
		s.replicated = len(s.log)
	}
	return nil
}

// simDone is the end of a statement: the connection may be cut before its answer.
func (s simStore) done() error {
	if *s.limit == 0 && s.w.lostAnswer {
		return errSimCut
	}
	return nil
}

func (s simStore) checkTerm(context.Context) error {
	if err := s.begin(s.w.off != "term checked behind the fence"); err != nil {
		return err
	}
	return s.done()
}

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
	return rows, exhausted, s.done()
}

func (s simStore) loadAfter(_ context.Context, at park.Destination, after park.Cursor, limit int, _ int64) (rows []park.Row, end bool, err error) {
	if err := s.begin(false); err != nil {
		return nil, false, err
	}
	found := s.at(at, func(p *park.Row) bool { return p.State == park.Waiting && compareCursors(p.Cursor(), after) > 0 })
	for _, p := range found[:min(limit, len(found))] {
		rows = append(rows, *p)
	}
	return rows, len(found) < limit, s.done()
}

func (s simStore) blocking(context.Context, park.Destination, int, int64) ([]park.Row, error) {
	panic("no destination of the simulation has partitions")
}

func (s simStore) unblock(context.Context, park.Destination, []event.Ref) error {
	panic("no destination of the simulation has partitions")
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

func (s simStore) found(_ context.Context, at park.Destination, refs []event.Ref) (n int, err error) {
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
		p.LandedAfter = event.Position{}
	}
	return n, s.done()
}

func (s simStore) fail(_ context.Context, at park.Destination, failures []park.Failure) error {
	if err := s.begin(true); err != nil {
		return err
	}
	for _, f := range failures {
		if p := s.find(at, f.Ref); p != nil && p.State == park.Waiting {
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
			if !p.LandedAfter.IsZero() && (!one.MayHaveLanded || one.LandedAfter.After(p.LandedAfter)) {
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

// snapshotText is what a statement sees, as PostgreSQL prints it.
func (d *simDatabase) snapshotText() string {
	low, next := uint32(0), d.nextXid
	var running []string
	for _, tx := range d.log {
		if tx.visible || d.w.off == "visibility" {
			continue
		}
		if low == 0 {
			low = tx.xid
		}
		running = append(running, fmt.Sprint(tx.xid))
	}
	return fmt.Sprintf("%d:%d:%s", cmp.Or(low, next), next, strings.Join(running, ","))
}

func (s simStore) settle(_ context.Context, ids [][]byte) (outbox.Snapshot, error) {
	if err := s.begin(true); err != nil {
		return outbox.Snapshot{}, err
	}
	snapshot, err := outbox.ParseSnapshot(s.snapshotText())
	for _, id := range ids {
		if r := s.seen(string(id)); r != nil && r.status == "NEW" && (s.w.off == "settle spares the parked" || !s.isParked(string(id))) {
			s.set(r, "SENT")
		}
	}
	return snapshot, cmp.Or(err, s.done())
}

func (s simStore) deliver(_ context.Context, at park.Destination, passed event.Position, refs []event.Ref) error {
	if err := s.begin(true); err != nil {
		return err
	}
	if s.w.locked {
		return &pgconn.PgError{Code: "55P03"}
	}
	s.finished(at, refs)
	for _, ref := range refs {
		s.leave(ref.ID, passed)
	}
	return s.done()
}

// leave removes an event that is finished everywhere and passed.
func (d *simDatabase) leave(id string, passed event.Position) bool {
	for _, p := range d.parked {
		at := event.Position{Epoch: p.Event.Position.Epoch, Commit: p.Event.Position.Commit}
		if string(p.Event.ID) == id && (p.State == park.Waiting || p.State == park.Dead || !passed.After(at) && d.w.off != "tombstones") {
			return false
		}
	}
	before := len(d.parked)
	d.parked = slices.DeleteFunc(d.parked, func(p *park.Row) bool { return string(p.Event.ID) == id })
	if r := d.seen(id); r != nil && before > len(d.parked) {
		d.set(r, "SENT")
	}
	return before > len(d.parked)
}

func (s simStore) finish(_ context.Context, passed event.Position, _ int) (more bool, err error) {
	if err := s.begin(true); err != nil {
		return false, err
	}
	for _, r := range s.inOrder() {
		more = s.leave(string(r.event.ID), passed) || more
	}
	return more, s.done()
}

// inOrder are the rows of the outbox in the order of the log.
func (d *simDatabase) inOrder() (rows []*simRow) {
	for _, tx := range d.log {
		rows = append(rows, tx.rows...)
	}
	return rows
}

func (s simStore) mirror(_ context.Context, mirrors []outbox.Mirror) error {
	if err := s.begin(true); err != nil {
		return err
	}
	for _, m := range mirrors {
		if r := s.seen(m.ID); r != nil && r.status != "SENT" && s.isParked(m.ID) {
			s.set(r, m.Status)
			r.attempts, r.due = m.RetryCount, m.RetryAfter
		}
	}
	return s.done()
}

func (s simStore) skipSent(_ context.Context, _ string, _ int) (last string, skipped int, err error) {
	if err := s.begin(true); err != nil {
		return "", 0, err
	}
	for _, p := range s.parked {
		r := s.seen(string(p.Event.ID))
		if r != nil && r.status == "SENT" && p.Replay == 0 && (p.State == park.Waiting || p.State == park.Dead) {
			p.State = park.Skipped
			skipped++
		}
	}
	return "", skipped, s.done()
}

func (s simStore) repairMirrors(context.Context, string, int) (string, error) {
	return "", s.begin(true)
}

// unparked are rows of a status without a parked event.
func (d *simDatabase) unparked(status string) (rows []outbox.Row) {
	for _, r := range d.inOrder() {
		if r.tx.visible && r.status == status && !d.isParked(string(r.event.ID)) {
			rows = append(rows, r.read())
		}
	}
	return rows
}

// read is the row as a query returns it.
func (r *simRow) read() outbox.Row {
	return outbox.Row{Event: r.event, Status: r.status, RetryCount: r.attempts, RetryAfter: r.due, CreatedAt: time.Now(), Xmin: r.xmin}
}

func (s simStore) dueFailed(context.Context, int) ([]outbox.Row, error) {
	return s.unparked("FAILED"), s.begin(false)
}

func (s simStore) stillNew(_ context.Context, ids []string) ([]outbox.Row, error) {
	rows := slices.DeleteFunc(s.unparked("NEW"), func(r outbox.Row) bool { return !slices.Contains(ids, string(r.Event.ID)) })
	return rows, s.begin(false)
}

func (s simStore) newRows(context.Context, int) (ids []string, err error) {
	for _, r := range s.unparked("NEW") {
		ids = append(ids, string(r.Event.ID))
	}
	return ids, s.begin(false)
}

func (s simStore) save(_ context.Context, confirmed event.LSN) error {
	if err := s.begin(true); err != nil {
		return err
	}
	if s.w.off == "checkpoint waits" {
		confirmed = s.end()
	}
	s.record.Confirmed = max(s.record.Confirmed, confirmed)
	return s.done()
}

func (s simStore) saveSettled(context.Context, string) error { return s.begin(true) }

func (s simStore) snapshot(context.Context) (string, error) { return s.snapshotText(), s.begin(false) }

func (s simStore) logEnd(context.Context) (event.LSN, error) {
	if s.w.off == "candidates wait" {
		return 1, s.begin(false)
	}
	return s.end(), s.begin(false)
}

func (s simStore) measure(context.Context) (measured, error) {
	return measured{unconfirmedBytes: int64(s.end() - s.slot.confirmed)}, s.begin(false)
}
