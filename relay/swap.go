package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/wal"
)

// Where what is published is not what the slot was read as, the log lacks what was inserted while the table was not published, and the slot counts as lost: what is
// due is adopted from the table. Where another table has the name, what the log holds of the one before is not there. So a session delivers that first, as far as
// the log had come when it began, and parks what fails.

// lostToASwap is why the slot counts as lost, as it stands on record.
const lostToASwap = "another table has taken the outbox table's name, or its publication was changed, and what was inserted meanwhile may not be in the log"

// errSwapped ends a session under which another table has taken the name.
var errSwapped = errors.New("another table has taken the outbox table's name")

// errDelivered goes with ErrLogLost where nothing of the table before is lost with the slot.
var errDelivered = errors.New("what the log held is delivered or parked")

// notAsRead stands on record where a check failed for another table: its mend may make all as it was, but for the log.
const notAsRead = "not what the slot was read as"

// comparePublished compares what is published with what the record says. What another server says has nothing to do with it.
func (s *session) comparePublished(ctx context.Context, server *wal.Server, failed error) (err error) {
	switch before := s.record.Published; {
	case before == "", s.published == "", s.published == before:
		return nil
	case server == nil, server.SystemID != s.record.SystemID, failsCheck(failed, wal.CheckPrimary):
		return nil
	}
	same := !s.otherTable()
	if !same && s.record.Adopt != nil {
		return errors.Join(unadopted(s.record.Published), failed)
	}
	if same || failed != nil {
		if err := s.raise(ctx); err != nil {
			return err
		}
	}
	switch {
	case same:
		return lost(ctx, s.store(s.tables), lostToASwap)
	case failed != nil:
		return checkpoint.SavePublished(ctx, s.tables, s.lease, notAsRead)
	}
	if s.swappedUntil, err = wal.LogEnd(ctx, s.control); err == nil {
		s.relay.cfg.Log.Warn().Stringer("until", s.swappedUntil).
			Msg("another table has taken the outbox table's name: what the log holds is delivered or parked before the slot is made anew")
	}
	return err
}

// sameTable makes sure that what was read for adoption is the table that it is adopted from: another one may have taken its name meanwhile.
func (s *session) sameTable(ctx context.Context, tables store) error {
	now, err := tables.published(ctx)
	if err == nil && now != s.published && !wal.SameTable(s.published, now) {
		err = unadopted(s.published)
	}
	return err
}

// unadopted says that the table before, as it was published, has rows that are still to be adopted. They are in no log.
func unadopted(before string) error {
	return &wal.CheckError{
		Check:   wal.CheckTable,
		Problem: "another table has taken the outbox table's name, and not all rows of the one before, whose oid is " + tableOf(before) + ", are adopted",
		Mend:    "give that one its name back until outboxd says that the rows that are older than the slot are adopted; or, to leave them alone, outboxd slot drop",
	}
}

// tableOf is the oid in a text of wal.Published.
func tableOf(published string) string {
	oid, _, _ := strings.Cut(published, " ")
	return oid
}

// otherTable tells whether another table has the name than the one that the slot was read as.
func (s *session) otherTable() bool {
	return s.record.Published != "" && s.published != "" && !wal.SameTable(s.record.Published, s.published)
}

// leaveSwapped counts the slot for lost where the session has delivered or parked what the log holds; err is how it ended.
func (s *session) leaveSwapped(err error) error {
	if until := s.relay.cfg.Until; s.relay.isStopping() || until > 0 && until <= s.swappedUntil {
		return err
	}
	if _, unfinished := errors.AsType[*UnfinishedError](err); unfinished { // as text: the session is to be opened again, not ended
		return fmt.Errorf("%w, and what the log holds could not all be delivered or parked: %s", errSwapped, err.Error())
	}
	if !errors.Is(err, errStopped) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return fmt.Errorf("%w: %w", lost(ctx, s.store(s.tables), lostToASwap), errDelivered)
}
