package relay

import (
	"cmp"
	"context"
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

func (s simStore) settle(_ context.Context, ids [][]byte) (outbox.Snapshot, []outbox.Refusal, error) {
	if err := s.begin(true); err != nil {
		return outbox.Snapshot{}, nil, err
	}
	snapshot, err := outbox.ParseSnapshot(s.snapshotText())
	for _, id := range ids {
		if r := s.seen(string(id)); r != nil && r.status == "NEW" && (s.w.off == "settle spares the parked" || !s.isParked(string(id))) {
			s.set(r, "SENT")
		}
	}
	return snapshot, nil, cmp.Or(err, s.done())
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

func (s simStore) finish(_ context.Context, passed event.Position, _ int) (more bool, refused *outbox.Refusal, err error) {
	if err := s.begin(true); err != nil {
		return false, nil, err
	}
	for _, r := range s.inOrder() {
		more = s.leave(string(r.event.ID), passed) || more
	}
	return more, nil, s.done()
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
	return outbox.Row{Event: r.event, Status: r.status, RetryCount: r.attempts, RetryAfter: r.due, CreatedAt: time.Now(), Xmin: uint64(r.xmin)}
}

func (s simStore) dueFailed(context.Context, uint64, int) ([]outbox.Row, error) {
	return s.unparked("FAILED"), s.begin(false)
}

func (s simStore) undone(context.Context, []string) ([]string, error) { return nil, s.begin(false) }

func (s simStore) stillNew(_ context.Context, ids []string) ([]outbox.Row, error) {
	rows := slices.DeleteFunc(s.unparked("NEW"), func(r outbox.Row) bool { return !slices.Contains(ids, string(r.Event.ID)) })
	return rows, s.begin(false)
}

func (s simStore) newRows(context.Context, uint64, int) (ids []string, err error) {
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

func (s simStore) published(context.Context) (string, error) { return "", s.begin(false) }

func (s simStore) saveLost(context.Context, string) error { return s.begin(true) }

func (s simStore) saveRouting(_ context.Context, r *checkpoint.Routing) error {
	if err := s.begin(true); err != nil {
		return err
	}
	if s.w.off != "routing recorded" {
		s.record.Routing = r
	}
	return s.done()
}

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
