package relay

import (
	"testing"
	"time"
)

func TestEventsThatAreDueAtAboutTheSameTimeAreDueAtOnce(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 123_456_789, time.UTC)
	for _, c := range []struct {
		base, together time.Duration
	}{{100 * time.Millisecond, 10 * time.Millisecond}, {time.Second, 100 * time.Millisecond}, {time.Minute, 500 * time.Millisecond}} {
		table := TableConfig{BackoffBase: c.base, Multiplier: 2, MaxExponent: 3}
		for attempts, wait := range []time.Duration{c.base, 2 * c.base, 4 * c.base, 8 * c.base, 8 * c.base} {
			due := table.due(now, attempts)
			least, most := now.Add(wait*4/5), now.Add(wait*6/5+c.together)
			if !due.Equal(due.Truncate(c.together)) || due.Before(least) || due.After(most) {
				t.Errorf("base %s, %d attempts: due at %s, want a full %s between %s and %s", c.base, attempts, due, c.together, least, most)
			}
		}
	}
}
