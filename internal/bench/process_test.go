package bench

import (
	"os"
	"testing"
)

func TestMemoryOfAProcessIsKnownWhileItLives(t *testing.T) {
	m := MemoryOf(os.Getpid())
	if m.FileMemory < 1<<20 || m.PeakMemory <= m.FileMemory {
		t.Errorf("this process has %+v: want some of its program, and more than that", m)
	}
	if none := MemoryOf(-1); none != (Memory{}) || none.Text() != "-" {
		t.Errorf("no process has %+v, %q", none, none.Text())
	}
	if got, want := (Memory{PeakMemory: 72 << 20, FileMemory: 46 << 20}).Text(), "72.0 MiB, 46.0 MiB of files"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
