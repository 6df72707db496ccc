package redis_test

import (
	"bytes"
	"fmt"
	"strconv"
	"syscall"
	"testing"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/format"
	"github.com/outboxd/outboxd/sink/redis"
)

// BenchmarkPublish reports this process's CPU for each message ("cpu-ns/msg"; the server's is not in it), over messages of 500 B with
// the usual headers, made by the raw format.
func BenchmarkPublish(b *testing.B) {
	for _, shape := range []struct{ streams, each int }{{1, 1}, {1, 100}, {1, 1000}, {10, 50}, {100, 5}, {1000, 1}} {
		for name, unfenced := range map[string]bool{"fenced": false, "unfenced": true} {
			b.Run(fmt.Sprintf("%dx%d/%s", shape.streams, shape.each, name), func(b *testing.B) {
				benchmarkPublish(b, shape.streams, shape.each, redis.Config{Unfenced: unfenced})
			})
		}
	}
}

func benchmarkPublish(b *testing.B, streams, each int, cfg redis.Config) {
	cfg.URL, cfg.MaxLen = testenv.Redis(b).URL, 10_000
	s, c := opened(b, cfg), plain(b, testenv.Redis(b).URL)
	var names []string
	for range streams {
		names = append(names, newStream(b))
		mustTail(b, s, names[len(names)-1])
	}
	e, err := format.New(format.Raw, format.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ev := &event.Event{
		ID: []byte("0198f2a4-0000-7000-8000-000000000001"), TenantID: []byte("acme"), Topic: []byte("order.created"),
		AggregateType: []byte("order"), AggregateID: []byte("4711"), OccurredAt: []byte("2026-11-24 09:30:00.123456+00"),
		SchemaVersion: []byte("1"), Payload: bytes.Repeat([]byte("x"), 500),
	}
	messages := make([]sink.Message, 0, streams*each)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	sent := 0
	for sent < b.N {
		messages = messages[:0]
		e.Reset()
		for _, name := range names {
			for range each {
				ev.Position.Ordinal++
				m, err := e.Message(ev, name, event.Position{}, 0)
				if err != nil {
					b.Fatal(err)
				}
				messages = append(messages, m)
			}
		}
		mustPublish(b, s, messages)
		sent += len(messages)
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(sent), "cpu-ns/msg")
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "msg/s")
	for _, name := range names {
		c.Del(b.Context(), name)
	}
}

// cpuTime is what this process has used, in nanoseconds.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// What a publish allocates does not grow with the number of its messages. Within a transaction the client allocates 32 bytes to read an id, and nothing else.
func TestPublishAllocatesPerStreamAndNotPerMessage(t *testing.T) {
	for name, way := range map[string]struct {
		cfg  redis.Config
		each float64
	}{
		"Script":      {redis.Config{WatchFrom: sink.MaxBatch + 1}, 0},
		"Transaction": {redis.Config{WatchFrom: 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			way.cfg.MaxLen = 1000
			s, _, stream := setup(t, way.cfg)
			measure := func(count int) float64 {
				messages := batch(stream, 1, count)
				for i := range messages {
					messages[i].Headers = append(messages[i].Headers, sink.Header{Name: "tenant_id", Value: []byte(strconv.Itoa(i))})
				}
				return testing.AllocsPerRun(20, func() { mustPublish(t, s, messages) })
			}
			few, many := measure(10), measure(1000)
			// The race detector empties pools at random, so a few more are no sign of growth; one more for each tenth message would be.
			if limit := few + 99 + way.each*990; many > limit {
				t.Errorf("%.0f allocations for 10 messages, %.0f for 1000, want at most %.0f", few, many, limit)
			}
		})
	}
}
