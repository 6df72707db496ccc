package event_test

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"github.com/outboxd/outboxd/event"
)

func TestLSNPrintsAsPostgresDoes(t *testing.T) {
	for lsn, want := range map[event.LSN]string{
		0: "0/0", 0x16B3748: "0/16B3748", 0x1_0000_0000: "1/0", 0xABCDEF01_0000_000F: "ABCDEF01/F", math.MaxUint64: "FFFFFFFF/FFFFFFFF",
	} {
		if got := lsn.String(); got != want {
			t.Errorf("%d is %q, want %q", uint64(lsn), got, want)
		}
		if got := string(lsn.AppendTo([]byte("at "))); got != "at "+want {
			t.Errorf("appended: %q", got)
		}
		if got, err := event.ParseLSN(want); err != nil || got != lsn {
			t.Errorf("%q is read as %s, %v", want, got, err)
		}
	}
	if got, err := event.ParseLSN("0/16b3748"); err != nil || got != 0x16B3748 {
		t.Errorf("lower case is read as %s, %v", got, err)
	}
}

func TestWhatIsNoLSNIsAnError(t *testing.T) {
	for _, text := range []string{"", "/", "0", "0/", "/0", "0/0/0", "100000000/0", "0/100000000", "0/x", "-1/0", "0/+1", " 0/0", "0x1/0", "0/1_0"} {
		if got, err := event.ParseLSN(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}

func TestPositionsOrderByEpochThenCommitThenOrdinal(t *testing.T) {
	inOrder := []event.Position{
		{}, {0, 0, 1}, {0, 1, 0}, {0, 1, math.MaxUint32}, {0, math.MaxUint64, 0}, {1, 0, 0}, {1, 0, 1}, {1, 2, 0}, {math.MaxUint32, 0, 0},
	}
	for i, p := range inOrder {
		for j, q := range inOrder {
			if got := p.Compare(q); got != cmp.Compare(i, j) {
				t.Errorf("%s against %s is %d", p, q, got)
			}
			if p.After(q) != (i > j) {
				t.Errorf("%s after %s is %v", p, q, p.After(q))
			}
		}
		if p.IsZero() != (i == 0) {
			t.Errorf("%s is zero: %v", p, p.IsZero())
		}
	}
	if !slices.IsSortedFunc(inOrder, event.Position.Compare) {
		t.Error("not sorted")
	}
}

func TestPositionPrints(t *testing.T) {
	p := event.Position{Epoch: 1_764_000_000, Commit: 0x16B3748, Ordinal: 1}
	if got := p.String(); got != "1764000000:0/16B3748:1" {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsNoPositionIsAnError(t *testing.T) {
	for _, text := range []string{"", ":", "::", "1:0/1", "1:0/1:", ":0/1:1", "1::1", "1:0/1:1:1", "4294967296:0/1:1", "1:0/1:4294967296", "-1:0/1:1", "a:0/1:1", "1:0:1", " 1:0/1:1"} {
		if got, err := event.ParsePosition(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}

func FuzzPositionIsReadAsItWasPrinted(f *testing.F) {
	f.Add(uint32(0), uint64(0), uint32(0))
	f.Add(uint32(1_764_000_000), uint64(0x16B3748), uint32(1))
	f.Fuzz(func(t *testing.T, epoch uint32, commit uint64, ordinal uint32) {
		p := event.Position{Epoch: epoch, Commit: event.LSN(commit), Ordinal: ordinal}
		if got, err := event.ParsePosition(p.String()); err != nil || got != p {
			t.Errorf("%s is read as %s, %v", p, got, err)
		}
	})
}

// What is read is a position whose text is read as the same one.
func FuzzParsePosition(f *testing.F) {
	f.Add("1764000000:0/16B3748:1")
	f.Add("01:00/0a:+1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := event.ParsePosition(text)
		if err != nil {
			return
		}
		if again, err := event.ParsePosition(p.String()); err != nil || again != p {
			t.Errorf("%q is read as %s, that as %s, %v", text, p, again, err)
		}
	})
}
