package bench

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is how long events took, from before COMMIT was sent (of the tool direct: the message) until a reader of the broker had the entry, in milliseconds.
type Latency struct {
	Tool    string  `json:"tool"`
	Rate    float64 `json:"events_per_second"` // at which they were written
	Events  int64   `json:"events"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_ms"`
	P90     float64 `json:"p90_ms"`
	P99     float64 `json:"p99_ms"`
	P999    float64 `json:"p99_9_ms"`
	Max     float64 `json:"max_ms"`
	Cores   float64 `json:"cores_of_tool,omitempty"` // processor time for each second
	Memory
}

// newHistogram takes microseconds up to ten minutes, with three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3)
}

// latencies reads a histogram of microseconds.
func latencies(h *hdrhistogram.Histogram) Latency {
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	return Latency{
		Events: h.TotalCount(), P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)), P99: ms(h.ValueAtQuantile(99)),
		P999: ms(h.ValueAtQuantile(99.9)), Max: ms(h.Max()),
	}
}

// String is one line of it.
func (l *Latency) String() string {
	return fmt.Sprintf("p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms", l.P50, l.P90, l.P99, l.P999, l.Max)
}

// Taken is what the tool took of processors and memory as text, a dash where that is not known.
func (l *Latency) Taken() (cores, memory string) {
	cores = "-"
	if l.Cores > 0 {
		cores = fmt.Sprintf("%.2f", l.Cores)
	}
	return cores, l.MemoryText()
}
