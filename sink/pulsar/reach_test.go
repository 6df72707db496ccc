package pulsar

import (
	"context"
	"testing"
	"time"
)

// late is a context whose deadline has passed and whose timer has not run yet.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now(), true }

func TestCallWhoseTimeIsUpSaysNothingOfTheBroker(t *testing.T) {
	later, cancel := context.WithTimeout(t.Context(), time.Hour)
	if over(t.Context()) || over(later) {
		t.Error("a call that has time is over")
	}
	if cancel(); !over(later) || !over(late{t.Context()}) {
		t.Error("a call is not over")
	}
}
