package human_test

import (
	"testing"

	"github.com/outboxd/outboxd/internal/human"
)

func TestBytesAreReadable(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 3 << 30: "3.0 GiB", 5 << 50: "5120.0 TiB"} {
		if got := human.Bytes(n); got != want {
			t.Errorf("human.Bytes(%d) = %s, want %s", n, got, want)
		}
	}
}
