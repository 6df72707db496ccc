package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/route"
	"github.com/outboxd/outboxd/wal"
)

// isLost tells whether err says that the log since the checkpoint is gone, for whatever reason: a new slot and the table make up for it.
func isLost(err error) bool {
	return errors.Is(err, ErrLogLost) || errors.Is(err, wal.ErrSlotLost) || errors.Is(err, wal.ErrReplaced)
}

// begin makes a new slot: the first one, or one in the place of a slot that was lost. A slot that is there without its record is dropped:
// nobody can say what it has sent. The record says what of the table is older than the new slot's log, so that it is adopted, also
// after a crash between the two.
func (s *session) begin(patient context.Context, found bool) error {
	ctx, cancel := context.WithTimeout(patient, createTimeout)
	defer cancel()
	cfg := &s.relay.cfg
	server, err := s.clearForSlot(ctx)
	if err != nil {
		return err
	}
	if found && s.otherTable() && !errors.Is(s.relay.lost, errDelivered) {
		cfg.Log.Error().Str("oid", tableOf(s.record.Published)).Msg("the slot is lost, and another table has taken the outbox table's name: what is due in the one before is not adopted")
	}
	cfg.Log.Info().Str("slot", cfg.WAL.Slot).Msg("making a slot, which waits for the transactions that are open")
	source := cfg.WAL
	source.Started = s.started
	if found && server.SystemID == s.record.SystemID {
		source.Timeline = s.record.Timeline
	}
	slot, err := wal.CreateSlotSnapshot(ctx, source)
	if err != nil {
		return err
	}
	if err := wal.NoOtherLayout(ctx, s.control, cfg.WAL); err != nil {
		return errors.Join(err, slot.Close(), wal.DropSlot(ctx, s.control, cfg.WAL.Slot))
	}
	snapshot, err := s.beginRecord(ctx, slot, server, found)
	if err := errors.Join(err, slot.Close()); err != nil {
		return err
	}
	cfg.Log.Info().Uint32("epoch", s.record.Epoch).Stringer("from", slot.ConsistentPoint).Str("snapshot", snapshot).Msg("a new slot begins")
	return nil
}

// clearForSlot checks everything that a slot needs, makes a missing publication, and drops a slot without a record.
func (s *session) clearForSlot(ctx context.Context) (*wal.Server, error) {
	source := s.relay.cfg.WAL
	source.Create = true
	server, err := wal.Verify(ctx, s.control, source)
	if err := hindering(err, server != nil && server.PublicationExists); err != nil {
		return nil, err
	}
	LogFindings(s.relay.cfg.Log, server)
	if !server.PublicationExists {
		if err := wal.CreatePublication(ctx, s.control, source); err != nil {
			return nil, err
		}
		if s.published, err = wal.Published(ctx, s.control, source); err != nil {
			return nil, err
		}
	}
	if err := wal.DropSlot(ctx, s.control, source.Slot); err != nil && !errors.Is(err, wal.ErrSlotMissing) {
		return nil, err
	}
	return server, nil
}

// hindering returns the failed checks that prevent a new slot. A lost slot is none: it is dropped now. Nor is a publication that is missing beside it: it
// is made.
func hindering(err error, publicationExists bool) error {
	if !failsCheck(err, wal.CheckSlotLost) {
		return err
	}
	return failedChecks(err, func(c wal.Check) bool {
		return c != wal.CheckSlotLost && (c != wal.CheckPublication || publicationExists)
	})
}

// beginRecord begins an epoch at the new slot.
func (s *session) beginRecord(ctx context.Context, slot *wal.NewSlot, server *wal.Server, found bool) (string, error) {
	if err := s.raise(ctx); err != nil {
		return "", err
	}
	if found { // until the term was raised, a session that has lost its lock could end its adoption
		now, still, err := checkpoint.Load(ctx, s.tables, s.relay.cfg.Schema, s.relay.cfg.WAL.Slot)
		if err != nil {
			return "", err
		}
		if still {
			s.record = now
		}
	}
	snapshot, err := readExported(ctx, s.tables, slot.Snapshot)
	if err != nil {
		return "", err
	}
	if found && server.SystemID == s.record.SystemID {
		if s.timelines, err = slot.TimelineStarts(s.record.Timeline); err != nil && !errors.Is(err, wal.ErrOtherHistory) {
			return "", err
		}
	}
	if s.record.Restored {
		s.relay.cfg.Log.Warn().Msg("the checkpoint comes from another cluster, whose transactions told what was settled, or left alone with --skip-backlog: every row that is due is adopted")
	}
	next := s.nextRecord(found, snapshot)
	next.SystemID, next.Timeline, next.Confirmed, next.Published = server.SystemID, server.Timeline, slot.ConsistentPoint, s.published
	s.record, err = checkpoint.NewEpoch(ctx, s.tables, s.lease, next, time.Now())
	return snapshot, err
}

// nextRecord says what of the table is older than the log of a new slot, which snapshot does not see.
func (s *session) nextRecord(found bool, snapshot string) checkpoint.Record {
	next := checkpoint.Record{SkippedSnapshot: s.record.SkippedSnapshot}
	switch {
	case found:
		next.Adopt = &checkpoint.Adoption{Snapshot: snapshot, Landed: s.landed()}
		if unfinished := s.record.Adopt; unfinished != nil { // some rows have positions of its epoch already, and the rest has to stand among them
			next.Adopt.Epoch = unfinished.Epoch
		}
		next.SettledSnapshot = s.record.SettledSnapshot
	case s.relay.cfg.SkipBacklog:
		next.SkippedSnapshot = snapshot
	default:
		next.Adopt = &checkpoint.Adoption{Snapshot: snapshot}
	}
	return next
}

// landed is the position behind which what is adopted may have landed: the old checkpoint, or that of an adoption that was not finished. Behind a
// promotion events had a later epoch than the record.
func (s *session) landed() event.Position {
	if a := s.record.Adopt; a != nil {
		return a.Landed
	}
	return s.confirmed()
}

// readExported returns what the exported snapshot sees, as text.
func readExported(ctx context.Context, conn *pgx.Conn, name string) (text string, err error) {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT '"+name+"'"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT txid_current_snapshot()::text").Scan(&text)
	})
	if err != nil {
		return "", fmt.Errorf("read the new slot's snapshot: %w", err)
	}
	return text, nil
}

const (
	adoptIDs    = 50_000 // rows that are looked for at once: one look may read the whole table
	adoptFirst  = 50     // rows read by the first statement, when their size is not known
	adoptRows   = 1000   // ... by any
	adoptReport = 10 * time.Second
)

// adopt parks the rows that are older than the slot's log, in bounded chunks. Where it was interrupted it goes on.
func (s *session) adopt(ctx context.Context, tables store) error {
	a := s.record.Adopt
	if a == nil {
		return nil
	}
	s.relay.facts.enter(StateConnecting, "adopting rows that are older than the slot")
	chosen, err := s.newChooser(a)
	if err != nil {
		return err
	}
	adopted, chunk, reported := 0, adoptFirst, time.Now()
	for after, end := a.After, false; !end; {
		s.relay.cfg.Log.Info().Str("behind", after).Msg("looking for rows that are older than the slot")
		var ids []string
		if ids, end, err = tables.adoptable(ctx, s.leftAlone.Low(), after, adoptIDs); err != nil {
			return err
		}
		for len(ids) > 0 {
			some := ids[:min(chunk, len(ids))]
			n, bytes, err := adoptChunk(ctx, tables, chosen, some)
			if err != nil {
				return err
			}
			if err := s.sameTable(ctx, tables); err != nil {
				return err
			}
			ids, after = ids[len(some):], some[len(some)-1]
			if err := tables.saveAdoption(ctx, after); err != nil {
				return err
			}
			adopted, chunk = adopted+n, adoptNext(chunk, bytes)
			if time.Since(reported) > adoptReport {
				reported = time.Now()
				s.relay.cfg.Log.Info().Int("adopted", adopted).Str("behind", after).Msg("adopting rows that are older than the slot")
			}
		}
	}
	if err := s.completeParked(ctx, tables, a); err != nil {
		return err
	}
	if err := s.sameTable(ctx, tables); err != nil {
		return err
	}
	s.relay.facts.droppedUnrouted.Add(uint64(chosen.dropped))
	s.relay.cfg.Log.Info().Int("adopted", adopted).Int("dropped", chosen.dropped).Msg("rows that are older than the slot are adopted")
	return tables.endAdoption(ctx)
}

// adoptChunk parks those of the rows that are adopted. It returns how many it parked, and the bytes of what it read.
func adoptChunk(ctx context.Context, tables store, chosen *chooser, ids []string) (parked, bytes int, err error) {
	found, err := tables.stillAdoptable(ctx, ids)
	if err != nil {
		return 0, 0, err
	}
	for i := range found {
		bytes += found[i].Event.Size()
	}
	rows := chosen.rows(found)
	if parked, err = parkMissing(ctx, tables, rows); err != nil {
		return 0, 0, err
	}
	chosen.dropped += dropped(rows)
	return parked, bytes, nil
}

// adoptNext is how many rows are read next, where so many were so large together: no more than parkBytes if those are as large, so that
// memory is bounded by the size of the rows and not by their number. It grows in steps, because only what was read is known.
func adoptNext(read, bytes int) int {
	return max(1, min(adoptRows, 4*read, read*parkBytes/max(1, bytes)))
}

// parkMissing parks rows by statements of a bounded size.
func parkMissing(ctx context.Context, tables store, rows []park.Row) (parked int, err error) {
	for len(rows) > 0 {
		n, bytes := 0, 0
		for ; n < len(rows) && (n == 0 || bytes < parkBytes); n++ {
			bytes += rows[n].Event.Size()
		}
		added, err := tables.insertMissing(ctx, rows[:n])
		if err != nil {
			return parked, err
		}
		parked += added
		rows = rows[n:]
	}
	return parked, nil
}

// chooser says which rows of the table are adopted, and as what.
type chooser struct {
	cfg    *Config
	epoch  uint32
	landed event.Position
	older  outbox.Snapshot // what it sees is older than the slot's log
	left   outbox.Snapshot // what it sees is left alone

	dropped int // so many were chosen that no route matches
}

func (s *session) newChooser(a *checkpoint.Adoption) (*chooser, error) {
	c := &chooser{cfg: &s.relay.cfg, epoch: a.Epoch, landed: a.Landed, left: s.leftAlone}
	var err error
	c.older, err = outbox.ParseSnapshot(a.Snapshot)
	return c, err
}

// readLeftAlone reads which rows are left alone: by request, or as they were settled while rows were kept, which no status tells.
func (s *session) readLeftAlone() error {
	text, err := outbox.Latest(s.record.SkippedSnapshot, s.record.SettledSnapshot)
	if err == nil && text != "" {
		s.leftAlone, err = outbox.ParseSnapshot(text)
	}
	return err
}

func (c *chooser) rows(found []outbox.Row) []park.Row {
	var rows []park.Row
	for i := range found {
		o := &found[i]
		switch {
		case !outbox.SeenBy(&c.older, o.Xmin), outbox.SeenBy(&c.left, o.Xmin):
			continue
		}
		o.Event.Position.Epoch = c.epoch
		for _, row := range rowsOf(c.cfg, o) {
			row.LandedAfter = c.landed
			rows = append(rows, row)
		}
	}
	return rows
}

// rowsOf returns what a row of the outbox is parked as: one row for each destination, or one without, for a person to decide, or done where it is dropped.
func rowsOf(cfg *Config, o *outbox.Row) []park.Row {
	base := park.Row{Event: o.Event, State: park.Waiting, Attempts: o.RetryCount, Due: o.RetryAfter, Reason: o.Error}
	base.Key, _ = park.KeyOf(&base.Event, 0, nil)
	return routed(cfg, base)
}

// routed gives a row to the destinations of its event.
func routed(cfg *Config, base park.Row) []park.Row {
	destinations, err := cfg.Router.Route(&base.Event)
	if err != nil {
		base.Destination, base.Target, base.State, base.Reason = park.Destination{}, "", park.Dead, err.Error()
		if errors.Is(err, route.ErrUnrouted) && cfg.DropUnrouted {
			base.State = park.Done // what removes it settles its row, as that of a delivered event
		}
		return []park.Row{base}
	}
	rows := make([]park.Row, len(destinations))
	for i, d := range destinations {
		rows[i] = base.To(d.Sink, d.Name)
	}
	return rows
}

// dropped counts the events that no route matches and that are dropped: each has one row, in state done.
func dropped(rows []park.Row) (n int) {
	for i := range rows {
		if rows[i].State == park.Done {
			n++
		}
	}
	return n
}

// completeParked parks events that were parked above the old checkpoint at the destinations for which they have no row. Only
// the lost log knew whether those destinations have them, so their tails are read. What has been adopted is left out: it was parked at all of its own.
func (s *session) completeParked(ctx context.Context, tables store, a *checkpoint.Adoption) error {
	if a.Landed.IsZero() {
		return nil
	}
	look := adoptFirst
	for after := (park.Cursor{Position: a.Landed}); ; {
		events, err := tables.above(ctx, after, a.Epoch, look)
		if err != nil || len(events) == 0 {
			return err
		}
		after = events[len(events)-1].Cursor()
		if err := placeAmongAdopted(ctx, tables, a.Epoch, events); err != nil {
			return err
		}
		var rows []park.Row
		bytes := 0
		for _, one := range events {
			bytes += one.Event.Size()
			base := park.Row{Event: one.Event, Key: one.Key, State: park.Waiting, LandedAfter: a.Landed}
			for _, row := range routed(&s.relay.cfg, base) {
				if row.State == park.Waiting {
					rows = append(rows, row)
				}
			}
		}
		if _, err := parkMissing(ctx, tables, rows); err != nil {
			return err
		}
		look = adoptNext(look, bytes)
	}
}

// placeAmongAdopted gives parked events the positions that their rows in the table stand for: one whose status keeps it from being adopted, a dead
// one, comes behind adopted ones of its key that were committed before. Where the row is gone, only the position of the lost log is left.
func placeAmongAdopted(ctx context.Context, tables store, epoch uint32, parked []park.Row) error {
	ids := make([]string, len(parked))
	for i := range parked {
		ids[i] = string(parked[i].Event.ID)
	}
	rows, err := tables.readRows(ctx, ids)
	if err != nil {
		return err
	}
	positions := make(map[string]event.Position, len(rows))
	for i := range rows {
		e := &rows[i].Event
		e.Position.Epoch = epoch
		positions[string(e.ID)] = e.Position
	}
	for i := range parked {
		e := &parked[i].Event
		if at, there := positions[string(e.ID)]; there {
			e.Position = at
		}
	}
	return nil
}
