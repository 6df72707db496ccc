package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/outboxd/outboxd/internal/workload"
)

const (
	demoRecent     = 50 // events kept for the screen
	demoRateWindow = 3 * time.Second
	demoSlowest    = 10 * time.Minute // latencies above count as this
	demoWarmUp     = time.Second      // not measured: connections, topics and readers are being made
)

// demoMeter counts what arrives. The reader adds, the screen looks.
type demoMeter struct {
	producer *workload.Producer

	mu        sync.Mutex
	live      *workload.Checker
	delivered map[string]int64 // by tenant; an event's copies count once
	total     int64
	latency   *hdrhistogram.Histogram // microseconds, of events written from measured on
	measured  time.Time
	recent    []workload.Received // newest last
	samples   []demoSample        // of the last demoRateWindow, oldest first
	trouble   string              // what the reader last complained of
	troubleAt time.Time
}

// demoSample is what was counted at a time.
type demoSample struct {
	at                   time.Time
	committed, delivered int64
}

// newDemoMeter is made when the application starts.
func newDemoMeter(p *workload.Producer) *demoMeter {
	now := time.Now()
	return &demoMeter{
		producer: p, live: workload.NewChecker(p.Ledger()), delivered: map[string]int64{}, samples: []demoSample{{at: now}}, measured: now.Add(demoWarmUp),
		latency: hdrhistogram.New(1, demoSlowest.Microseconds(), 3),
	}
}

// add counts an event that arrived.
func (m *demoMeter) add(r workload.Received) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.live.Add(r) {
		return
	}
	m.delivered[r.Tenant]++
	m.total++
	if !r.CommittedAt.Before(m.measured) {
		latency := min(max(r.EndToEnd(), time.Microsecond), demoSlowest)
		if err := m.latency.RecordValue(latency.Microseconds()); err != nil {
			panic(err) // it is inside the histogram's range
		}
	}
	m.recent = append(m.recent, r)
	if len(m.recent) > 2*demoRecent {
		m.recent = append(m.recent[:0], m.recent[len(m.recent)-demoRecent:]...)
	}
}

// complain notes why the reader could not read.
func (m *demoMeter) complain(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble, m.troubleAt = err.Error(), time.Now()
}

// arrived returns how many events have arrived.
func (m *demoMeter) arrived() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

// demoTenant is a line of the table.
type demoTenant struct {
	Tenant     string `json:"tenant"`
	Committed  int64  `json:"committed"`
	Delivered  int64  `json:"delivered"`
	Waiting    int64  `json:"waiting"`
	RolledBack int64  `json:"rolled_back"`
}

// demoLatency is from just before the COMMIT until a client that reads the broker has the event, in milliseconds.
type demoLatency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// String is "p50 1.2  p99 3.4  max 5.6 ms", or the same without numbers while there are none.
func (l demoLatency) String() string {
	if l.Max == 0 {
		return "p50 -  p99 -  max - ms"
	}
	return fmt.Sprintf("p50 %.1f  p99 %.1f  max %.1f ms", l.P50, l.P99, l.Max)
}

// demoPicture is what the screen shows.
type demoPicture struct {
	tenants                    []demoTenant
	total                      demoTenant
	latency                    demoLatency
	committedRate, arrivalRate float64
	doubled, outOfOrder, wrong int
	recent                     []workload.Received
	trouble                    string
}

// look takes a picture.
func (m *demoMeter) look(now time.Time) demoPicture {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := demoPicture{total: demoTenant{Tenant: "all"}, latency: m.latencies()}
	for _, c := range m.producer.Counts() {
		// What was delivered may be ahead: COMMIT has not returned to the application yet.
		t := demoTenant{c.Tenant, c.Committed, m.delivered[c.Tenant], max(0, c.Committed-m.delivered[c.Tenant]), c.RolledBack}
		p.tenants = append(p.tenants, t)
		p.total.Committed += t.Committed
		p.total.Delivered += t.Delivered
		p.total.Waiting += t.Waiting
		p.total.RolledBack += t.RolledBack
	}
	p.committedRate, p.arrivalRate = m.rates(demoSample{now, p.total.Committed, p.total.Delivered})
	p.doubled, p.outOfOrder, p.wrong = m.live.Findings()
	p.recent = append(p.recent, m.recent...)
	if now.Sub(m.troubleAt) < demoRateWindow {
		p.trouble = m.trouble
	}
	return p
}

func (m *demoMeter) latencies() demoLatency {
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	return demoLatency{
		ms(m.latency.ValueAtQuantile(50)), ms(m.latency.ValueAtQuantile(90)),
		ms(m.latency.ValueAtQuantile(99)), ms(m.latency.Max()),
	}
}

// rates returns events a second since the oldest sample of the window.
func (m *demoMeter) rates(now demoSample) (committed, delivered float64) {
	for len(m.samples) > 1 && now.at.Sub(m.samples[0].at) > demoRateWindow {
		m.samples = m.samples[1:]
	}
	m.samples = append(m.samples, now)
	oldest := m.samples[0]
	seconds := now.at.Sub(oldest.at).Seconds()
	if seconds <= 0 {
		return 0, 0
	}
	return float64(now.committed-oldest.committed) / seconds, float64(now.delivered-oldest.delivered) / seconds
}
