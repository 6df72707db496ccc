package lane_test

import (
	"slices"
	"testing"

	"github.com/outboxd/outboxd/lane"
)

// Somebody parks a row of a key beside the log lane while an event of the key is refused, and not parked yet.
func TestDroppedKeyIsLoadedWhereAScanHasPassedOverARowOfIt(t *testing.T) {
	for _, passed := range []bool{false, true} {
		var w lane.Waiting
		w.Hold(1)
		w.HoldAll()
		w.ScanBegins()
		if passed && !w.PassesOver(1) {
			t.Error("the scan takes a row of a key of which a park is decided")
		}
		w.Dropped(1)
		if !w.ScanEnded() || w.Waits(1) != passed {
			t.Errorf("passed over %v: the key waits %v", passed, w.Waits(1))
		}
		if next := w.Next(1, 2); passed != slices.Equal(next, []uint64{1}) {
			t.Errorf("passed over %v: %v is loaded", passed, next)
		}
	}
}
