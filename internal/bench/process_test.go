package bench

import (
	"os"
	"strings"
	"testing"
)

func TestMemoryOfAProcessIsKnownWhileItLives(t *testing.T) {
	m := MemoryOf(os.Getpid())
	if m.FileMemory < 1<<20 || m.PeakMemory <= m.FileMemory {
		t.Errorf("this process has %+v: want some of its program, and more than that", m)
	}
	if none := MemoryOf(-1); none != (Memory{}) || none.MemoryText() != "-" {
		t.Errorf("no process has %+v, %q", none, none.MemoryText())
	}
	for want, m := range map[string]Memory{"72.0 MiB, files 46.0 MiB": {PeakMemory: 72 << 20, FileMemory: 46 << 20}, "72.0 MiB": {PeakMemory: 72 << 20}} {
		if got := m.MemoryText(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSpeedIsUnknownWhereAllCameAtOneLook(t *testing.T) {
	r := &Result{Runs: []Run{{Tool: Limit}, {Tool: "outboxd"}, {Tool: "polling", StreamingPerSecond: 10}}}
	text := r.Markdown()
	for _, want := range []string{"| outboxd | - | - |", "| polling | 10 | - |"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}
