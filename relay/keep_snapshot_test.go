package relay

import (
	"context"
	"errors"
	"testing"

	"github.com/outboxd/outboxd/event"
)

// cancelled is a database that ends a statement once, as pg_cancel_backend does.
type cancelled struct {
	store
	saved []string
	fails error
}

func (s *cancelled) saveSettled(_ context.Context, snapshot string) error {
	s.saved = append(s.saved, snapshot)
	return nil
}

func (s *cancelled) snapshot(context.Context) (string, error) {
	err := s.fails
	s.fails = nil
	if err != nil {
		return "", err
	}
	return "20:20:", nil
}

func (s *cancelled) logEnd(context.Context) (event.LSN, error) { return 200, nil }

// What is given up leaves the snapshot of before, which is stored once more.
func TestSweepThatIsCancelledStoresNoEmptySnapshot(t *testing.T) {
	s := &cancelled{fails: errors.New("canceling statement due to user request")}
	r := &sweepRound{before: sweeping{behind: 100, snapshot: "10:10:"}, settle: true}
	for range 2 {
		r.after = r.before
		_ = r.keepSnapshot(t.Context(), s)
		r.before = r.after
	}
	if len(s.saved) != 2 || s.saved[1] != "10:10:" || r.after.snapshot != "20:20:" {
		t.Errorf("stored %q, and then %+v", s.saved, r.after)
	}
}
