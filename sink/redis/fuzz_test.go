package redis

import (
	"strings"
	"testing"

	"github.com/outboxd/outboxd/sink"
)

// FuzzParseTail takes an entry, which anybody may have appended, as the script of the tail returns it. It stops nothing.
func FuzzParseTail(f *testing.F) {
	f.Add("1-1", "100", "e1", "1764000000:0/16B3748:2", "1764000000:0/16B3740:1", "1")
	f.Add("1-1", "0", "", "", "", "")
	f.Add("0-0", "-1", "e1", "1:0/1:1", "x", "-1")
	f.Add("18446744073709551615-18446744073709551615", "9223372036854775808", "e", "1:0/1", "1:0/1:1", "+7")
	f.Fuzz(func(t *testing.T, entryID, size, id, position, frontier, replay string) {
		reply, err := parseTail([]any{"9-9", []any{entryID, size, id, position, frontier, replay}})
		if err != nil {
			if len(reply.entries) > 0 {
				t.Errorf("entries %+v beside %v", reply.entries, err)
			}
			return
		}
		if got, want := reply.entries[0], sink.ReadEntry(id, position, frontier, replay); got != want {
			t.Errorf("entry %+v, want %+v", got, want)
		}
		if previous, ok := before(reply.oldest); ok && !strings.Contains(previous, "-") {
			t.Errorf("before %q comes %q", reply.oldest, previous)
		}
	})
}

// FuzzParseURL: an address that is accepted has hosts, and says itself who connects; one that is refused does not show its password.
func FuzzParseURL(f *testing.F) {
	for _, seed := range [][3]string{
		{"redis://:", "@h:1/0", ""},
		{"rediss://u:", "@[::1]:6379/3", ""},
		{"redis+sentinel://:", "@h1:1,h2/orders/2?sentinel_password=", "x"},
		{"unix://u:", "@/run/redis.sock?db=2", ""},
		{"redis+cluster://u:", "@h1,h2/0", ""},
		{"redis://u:12#", "@h", ""},
		{"redis://h?pass=", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	const planted = "hunter2"
	f.Fuzz(func(t *testing.T, front, middle, end string) {
		raw := front + planted + middle + end
		a, err := parseURL(raw)
		switch {
		case err != nil:
			if strings.Contains(front, "://") && strings.Contains(middle, "@") && !strings.ContainsAny(front[strings.Index(front, "://")+3:], "/?") &&
				strings.Contains(err.Error(), planted) {
				t.Errorf("%q is refused with its password: %v", raw, err)
			}
		case len(a.hosts) == 0 || a.db < 0 || a.kind == sentinel && a.master == "" || a.kind != unixSocket && strings.Contains(strings.Join(a.hosts, ""), planted+"@"):
			t.Errorf("%q is read as %+v", raw, a)
		}
	})
}
