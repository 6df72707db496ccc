package relay

import (
	"context"
	"errors"
	"testing"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
)

var errCut = errors.New("the server has ended the statement")

// cutAtFailed is a store whose search for rows that are FAILED takes too long.
type cutAtFailed struct{ store }

func (cutAtFailed) published(context.Context) (string, error) { return "", nil }

func (cutAtFailed) skipSent(context.Context, string, int) (string, int, error) { return "", 0, nil }

func (cutAtFailed) repairMirrors(context.Context, string, int) (string, error) { return "", nil }

func (cutAtFailed) dueFailed(context.Context, uint64, int) ([]outbox.Row, error) { return nil, errCut }

func (cutAtFailed) newRows(context.Context, uint64, int) ([]string, error) { return []string{"1"}, nil }

func (cutAtFailed) logEnd(context.Context) (event.LSN, error) { return 1, nil }

func (cutAtFailed) count(context.Context) (park.Totals, error) { return park.Totals{}, nil }

func TestSearchForFailedRowsThatIsCutKeepsASweepFromNothingElse(t *testing.T) {
	r := &sweepRound{look: true}
	if err := r.run(t.Context(), cutAtFailed{}); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if len(r.after.candidates) != 1 || r.after.behind != 1 || r.totals == nil {
		t.Errorf("the sweep brings %+v and %v", r.after, r.totals)
	}
}
