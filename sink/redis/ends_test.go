package redis

import (
	"testing"
	"time"
)

// An entry's id may have the milliseconds of the last one for a second; then the server gives a new one.
func TestNextIDFollowsTheEndWhileItsTimeIsFresh(t *testing.T) {
	then := time.Now()
	for _, c := range []struct {
		end   end
		after time.Duration
		next  string
	}{
		{end{"1764000000000-0", then}, 0, "1764000000000-1"},
		{end{"1764000000000-41", then}, fresh, "1764000000000-42"},
		{end{"1764000000000-41", then}, fresh + 1, ""},
		{end{id: "1764000000000-41"}, 0, ""},
		{end{"5-9223372036854775807", then}, 0, "5-9223372036854775808"},
		{end{"5-18446744073709551615", then}, 0, ""},
		{end{anyEnd, then}, 0, ""},
	} {
		if got := c.end.next(then.Add(c.after)); got != c.next {
			t.Errorf("behind %q comes %q after %s, want %q", c.end.id, got, c.after, c.next)
		}
	}
}

func TestEndKeepsItsTimeUntilTheServerTakesANewOne(t *testing.T) {
	then := time.Now()
	later := then.Add(time.Millisecond)
	last := end{"7-1", then}
	if got := last.moved("7-3", later); got != (end{"7-3", then}) {
		t.Errorf("with the same milliseconds it is %v", got)
	}
	if got := last.moved("8-0", later); got != (end{"8-0", later}) {
		t.Errorf("with others it is %v", got)
	}
}
