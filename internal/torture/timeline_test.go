package torture

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// moment is one line of the timeline.
type moment struct {
	At   float64 `json:"at"`   // seconds since the storm began
	Kind string  `json:"kind"` // inject, heal, settled, rate, note
	Text string  `json:"text"`
}

// sample is how fast events were written and arrived, over the time since the sample before.
type sample struct {
	At      float64 `json:"at"`
	Written float64 `json:"written_per_second"` // committed
	Arrived float64 `json:"arrived_per_second"`
	Behind  int64   `json:"behind"` // committed and not arrived
}

// timeline is what happened when. Several goroutines tell it.
type timeline struct {
	mu       sync.Mutex
	out      io.Writer
	began    time.Time
	moments  []moment
	samples  []sample
	injected map[string]int
	slowest  time.Duration // that a settle took
}

func newTimeline(out io.Writer) *timeline {
	return &timeline{out: out, began: time.Now(), injected: map[string]int{}}
}

// begin sets the clock to zero.
func (l *timeline) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = time.Now()
}

func (l *timeline) add(kind, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := moment{At: l.since(), Kind: kind, Text: fmt.Sprintf(format, args...)}
	l.moments = append(l.moments, m)
	_, _ = fmt.Fprintf(l.out, "%9.3f  %-8s %s\n", m.At, kind, m.Text) // the report has it, too
}

// since is the time in seconds; the mutex is held.
func (l *timeline) since() float64 { return time.Since(l.began).Round(time.Millisecond).Seconds() }

func (l *timeline) fault(a *action, on string, took time.Duration) {
	l.mu.Lock()
	l.injected[a.name]++
	l.mu.Unlock()
	l.add("inject", "%s: %s (took %s, to be held for %s)", a.name, on, took.Round(time.Millisecond), a.hold.Round(time.Millisecond))
}

func (l *timeline) settled(took time.Duration) {
	l.mu.Lock()
	l.slowest = max(l.slowest, took)
	l.mu.Unlock()
	l.add("settled", "everything has arrived, after %s", took.Round(time.Millisecond))
}

// sampleInterval is short enough to show each outage.
const sampleInterval = 5 * time.Second

// measure samples the rates until done is closed.
func (l *timeline) measure(done <-chan struct{}, read func() (committed, arrived int64, findings int)) {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	lastCommitted, lastArrived, lastFindings := read()
	last := time.Now()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			committed, arrived, findings := read()
			span := now.Sub(last).Seconds()
			s := sample{
				Behind:  committed - arrived,
				Written: float64(committed-lastCommitted) / span, Arrived: float64(arrived-lastArrived) / span,
			}
			l.mu.Lock()
			s.At = l.since()
			l.samples = append(l.samples, s)
			l.mu.Unlock()
			l.add("rate", "written %.0f/s, arrived %.0f/s, behind %d", s.Written, s.Arrived, s.Behind)
			if findings > lastFindings {
				l.add("note", "%d entries are doubled, out of order or wrong", findings)
			}
			last, lastCommitted, lastArrived, lastFindings = now, committed, arrived, findings
		}
	}
}

// fill puts what was told so far into a report.
func (l *timeline) fill(r *report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Injected, r.Timeline, r.Samples, r.Slowest = maps.Clone(l.injected), slices.Clone(l.moments), slices.Clone(l.samples), l.slowest.Seconds()
}
