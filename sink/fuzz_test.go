package sink

import (
	"strconv"
	"testing"

	"github.com/outboxd/outboxd/event"
)

// FuzzReadEntry takes the headers of a message, which anybody may have written. They stop nothing, and what is read of them is what they say, whole or not at all.
func FuzzReadEntry(f *testing.F) {
	f.Add("e1", "1764000000:0/16B3748:2", "1764000000:0/16B3740:1", "1")
	f.Add("e1", "1:0/1:1", "", "")
	f.Add("e1", "", "", "")
	f.Add("e1", "x", "1:0/1:1", "1")
	f.Add("e1", "0:0/0:0", "", "")
	f.Add("e1", "1:0/1:1", "x", "")
	f.Add("e1", "1:0/1:1", "", "x")
	f.Add("", "1:0/1:1", "1:0/1:1:1", "-1")
	f.Add("e", "1:0/1", "1:0/1:1", "+7")
	f.Fuzz(func(t *testing.T, id, position, frontier, replay string) {
		want := Entry{ID: id}
		var wrong [3]error
		want.Position, wrong[0] = event.ParsePosition(position)
		if frontier != "" {
			want.Frontier, wrong[1] = event.ParsePosition(frontier)
		}
		if replay != "" {
			want.Replay, wrong[2] = strconv.Atoi(replay)
		}
		if wrong != [3]error{} || want.Position.IsZero() || want.Replay < 0 {
			want = Entry{}
		}
		if got := ReadEntry(id, position, frontier, replay); got != want {
			t.Errorf("%q %q %q %q is read as %+v, want %+v", id, position, frontier, replay, got, want)
		}
	})
}
