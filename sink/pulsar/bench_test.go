package pulsar_test

import (
	"fmt"
	"testing"

	"github.com/outboxd/outboxd/sink"
)

// benchMessages returns messages as the log lane makes them: 500 bytes of body and eight headers.
func benchMessages(topic string, n int) []sink.Message {
	batch := messages(topic, 1, n, 500)
	for i := range batch {
		for h := range 6 {
			batch[i].Headers = append(batch[i].Headers, sink.Header{Name: fmt.Sprintf("header_%d", h), Value: []byte("a value of some length")})
		}
	}
	return batch
}

// BenchmarkPublish sends batches of 1,000 messages to one topic, one after the other. An op is a message.
func BenchmarkPublish(b *testing.B) {
	s := sharedServer(b)
	for _, size := range []int{1, 100, sink.MaxBatch} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			p, topic := s.open(b), s.topic(b)
			mustTail(b, p, topic, 1)
			batch := benchMessages(topic, size)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				mustPublish(b, p, batch[:min(size, b.N-i)])
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkPublishTopics sends batches of 1,000 messages that lie in as many topics as its name says.
func BenchmarkPublishTopics(b *testing.B) {
	s := sharedServer(b)
	for _, topics := range []int{10, 100} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			p := s.open(b)
			var batch []sink.Message
			for range topics {
				topic := s.topic(b)
				mustTail(b, p, topic, 1)
				batch = append(batch, benchMessages(topic, sink.MaxBatch/topics)...)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += len(batch) {
				mustPublish(b, p, batch[:min(len(batch), b.N-i)])
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}
