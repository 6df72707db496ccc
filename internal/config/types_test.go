package config

import (
	"testing"

	"pgregory.net/rapid"
)

func TestDurationAndSizePrintAsTheyAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64().Draw(t, "duration"))
		if back, err := parseDuration(d.String()); err != nil || back != d {
			t.Fatalf("%d prints as %s, which reads as %d, %v", d, d, back, err)
		}
		s := Size(rapid.Int64().Draw(t, "size"))
		if back, err := parseSize(s.String()); err != nil || back != s {
			t.Fatalf("%d prints as %s, which reads as %d, %v", s, s, back, err)
		}
	})
}

func TestSizesAreRead(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "17": 17, "5B": 5, "1kB": 1000, "1KB": 1000, "1KiB": 1024, "32MiB": 32 << 20, "1 GB": 1e9, "2GiB": 2 << 30, "1TiB": 1 << 40,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "1.5MiB", "1 mib", "1m", "--1", "9223372036854775807KiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestDurationsDropZeroUnits(t *testing.T) {
	for text, want := range map[string]string{"90m": "1h30m", "24h": "24h", "60s": "1m", "0": "0s", "1500ms": "1.5s", "10h10m10s": "10h10m10s"} {
		d, err := parseDuration(text)
		if err != nil || d.String() != want {
			t.Errorf("parseDuration(%q) prints as %s, %v, want %s", text, d, err, want)
		}
	}
}

func TestNearestWordIsFound(t *testing.T) {
	words := []string{"batch.max_messages", "batch.max_bytes", "memory", "routes"}
	for word, want := range map[string]string{
		"batch.max_mesages": "batch.max_messages", "memroy": "memory", "route": "routes", "kafka": "", "x": "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
