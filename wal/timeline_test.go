package wal

import (
	"slices"
	"testing"

	"github.com/outboxd/outboxd/event"
)

const history = "1\t0/3000000\tno recovery target specified\n\n# a comment\n2\t0/5000060\tbefore 2026-11-24 09:30:00+00\n\n4\t1/A0\treason\n"

func TestTimelineStartsAreThoseBehindTheGivenTimeline(t *testing.T) {
	for after, want := range map[int32][]event.LSN{
		1: {0x3000000, 0x5000060, 0x1_0000_00A0},
		2: {0x5000060, 0x1_0000_00A0},
		4: {0x1_0000_00A0},
	} {
		got, err := timelineStarts([]byte(history), after)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("after %d: %v, %v, want %v", after, got, err, want)
		}
	}
}

func TestHistoryThatSaysNothingOfTheTimelineIsAnError(t *testing.T) {
	for _, broken := range []string{"", history, "x\t0/1\n", "3\n", "3\t01\n"} {
		if got, err := timelineStarts([]byte(broken), 3); err == nil {
			t.Errorf("%q: %v", broken, got)
		}
	}
}
