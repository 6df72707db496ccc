package tracing

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	pb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/outboxd/outboxd/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is an OTLP collector.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	refuse   bool
	asked    int
	spans    []*pb.Span
	resource map[string]string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{resource: map[string]string{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	body, err := io.ReadAll(req.Body)
	var request collector.ExportTraceServiceRequest
	if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil || r.refuse {
		w.WriteHeader(http.StatusBadRequest) // which is not tried again
		return
	}
	for _, resource := range request.GetResourceSpans() {
		for _, a := range resource.GetResource().GetAttributes() {
			r.resource[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range resource.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// broker is a sink that gives the results it is told.
type broker struct {
	sink.Sink
	results []error
}

func (b *broker) Publish(context.Context, []sink.Message) []error { return b.results }

type partitionedBroker struct {
	broker
	sink.Partitioner
}

// sessionBroker is one that goes by sessions.
type sessionBroker struct {
	broker
	begun int
}

func (b *sessionBroker) BeginSession() { b.begun++ }

type partitionedSessionBroker struct {
	sessionBroker
	sink.Partitioner
}

func newTracer(t *testing.T, endpoint string, share float64, log io.Writer) *Tracer {
	t.Helper()
	tracer, err := New(t.Context(), Config{Endpoint: endpoint, Share: share, Version: "v1", Log: zerolog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
	sampled = "00-" + traceID + "-" + spanID + "-01"
)

func message(id, traceparent string) sink.Message {
	m := sink.Message{Destination: "outbox:acme", Body: []byte("{}"), Headers: []sink.Header{
		{Name: sink.HeaderID, Value: []byte(id)}, {Name: sink.HeaderPosition, Value: []byte("1/0/16B3748/0")},
	}}
	if traceparent != "" {
		m.Headers = append(m.Headers, sink.Header{Name: "traceparent", Value: []byte(traceparent)}, sink.Header{Name: "tracestate", Value: []byte("k=1")})
	}
	return m
}

func TestEachAttemptOfASampledEventIsAChildOfItsTrace(t *testing.T) {
	r := newReceiver(t)
	tracer := newTracer(t, r.URL+"/", 1, io.Discard)
	rejected := &sink.Error{Class: sink.Rejected, FateKnown: true, Err: errors.New("too large")}
	traced := tracer.Sink(&broker{results: []error{nil, nil, nil, nil, rejected, sink.ErrNotAttempted}}, "redis-eu", "redis")
	before := time.Now()
	traced.Publish(t.Context(), []sink.Message{
		message("a", sampled), message("b", ""), message("c", strings.TrimSuffix(sampled, "1")+"0"), message("d", "00-x-y-01"),
		message("e", sampled), message("f", sampled),
	})
	after := time.Now()
	if err := tracer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.spans) != 2 || r.resource["service.name"] != "outboxd" || r.resource["service.version"] != "v1" {
		t.Fatalf("the collector has %v of %v", r.spans, r.resource)
	}
	for i, id := range []string{"a", "e"} {
		s := r.spans[i]
		attributes := map[string]string{}
		for _, a := range s.GetAttributes() {
			attributes[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for key, want := range map[string]string{
			"messaging.system": "redis", "messaging.destination.name": "outbox:acme", "messaging.message.id": id,
			"messaging.operation.type": "send", "outboxd.position": "1/0/16B3748/0", "outboxd.sink": "redis-eu",
		} {
			if attributes[key] != want {
				t.Errorf("span %s: %s is %q, want %q", id, key, attributes[key], want)
			}
		}
		if hex.EncodeToString(s.GetTraceId()) != traceID || hex.EncodeToString(s.GetParentSpanId()) != spanID || s.GetTraceState() != "k=1" {
			t.Errorf("span %s is no child of the trace: %v", id, s)
		}
		if s.GetName() != "publish outbox:acme" || s.GetKind() != pb.Span_SPAN_KIND_PRODUCER {
			t.Errorf("span %s is %q, %v", id, s.GetName(), s.GetKind())
		}
		if start, end := s.GetStartTimeUnixNano(), s.GetEndTimeUnixNano(); start < uint64(before.UnixNano()) || end < start || end > uint64(after.UnixNano()) {
			t.Errorf("span %s lasts from %d to %d", id, start, end)
		}
	}
	if r.spans[0].GetStatus().GetCode() != pb.Status_STATUS_CODE_UNSET || r.spans[1].GetStatus().GetCode() != pb.Status_STATUS_CODE_ERROR {
		t.Errorf("the statuses are %v and %v", r.spans[0].GetStatus(), r.spans[1].GetStatus())
	}
}

func TestShareOfTheTracesGetsSpans(t *testing.T) {
	const traces = 2000
	r := newReceiver(t)
	for _, share := range []float64{0, 0.25} {
		tracer := newTracer(t, r.URL, share, io.Discard)
		traced := tracer.Sink(&broker{}, "redis", "redis")
		for i := range traces {
			traced.Publish(t.Context(), []sink.Message{message("a", fmt.Sprintf("00-%016x%016x-%s-01", i+1, uint64(i)*(1<<64/traces), spanID))})
		}
		if err := tracer.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := float64(len(r.spans)); n < share*traces-1 || n > share*traces+1 {
			t.Errorf("a share of %v of %d traces is %v spans", share, traces, n)
		}
	}
}

func TestCollectorThatFailsIsLoggedOnceAndHoldsNothingUp(t *testing.T) {
	r := newReceiver(t)
	r.refuse = true
	var log bytes.Buffer
	tracer := newTracer(t, r.URL, 1, &log)
	traced := tracer.Sink(&broker{}, "redis", "redis")
	for range 5 {
		if results := traced.Publish(t.Context(), []sink.Message{message("a", sampled)}); results != nil {
			t.Errorf("the results are %v", results)
		}
		if err := tracer.provider.ForceFlush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := tracer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "traces could not be sent"); n != 1 || r.asked != 5 {
		t.Errorf("asked %d times, %d lines in the log: %s", r.asked, n, log.String())
	}
}

func TestCloseKeepsItsDeadlineWhenNobodyAnswers(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer silent.Close()
	defer close(release)
	tracer := newTracer(t, silent.URL, 1, io.Discard)
	tracer.Sink(&broker{}, "redis", "redis").Publish(t.Context(), []sink.Message{message("a", sampled)})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	started := time.Now()
	if err := tracer.Close(ctx); !errors.Is(err, context.DeadlineExceeded) && err != nil {
		t.Errorf("closed with %v", err)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("closing took %s", took)
	}
}

func TestMoreSpansThanTheQueueHoldsAreDropped(t *testing.T) {
	const events = 10_000
	r := newReceiver(t)
	tracer := newTracer(t, r.URL, 1, io.Discard)
	traced := tracer.Sink(&broker{}, "redis", "redis")
	r.mu.Lock() // nobody takes the spans
	for range events / 1000 {
		traced.Publish(t.Context(), slices.Repeat([]sink.Message{message("a", sampled)}, 1000))
	}
	r.mu.Unlock()
	if err := tracer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(r.spans); n == 0 || n == events {
		t.Errorf("%d spans of %d were sent", n, events)
	}
}

func TestSinkKeepsItsPartitions(t *testing.T) {
	tracer := newTracer(t, "http://127.0.0.1:1", 1, io.Discard)
	defer tracer.Close(t.Context()) //nolint:errcheck // nothing waits
	if _, ok := tracer.Sink(&broker{}, "redis", "redis").(sink.Partitioner); ok {
		t.Error("a sink without partitions has got some")
	}
	if _, ok := tracer.Sink(&partitionedBroker{}, "pulsar", "pulsar").(sink.Partitioner); !ok {
		t.Error("a sink has lost its partitions")
	}
}

func TestSinkIsToldThatASessionBegins(t *testing.T) {
	tracer := newTracer(t, "http://127.0.0.1:1", 1, io.Discard)
	defer tracer.Close(t.Context()) //nolint:errcheck // nothing waits
	plain, partitioned := &sessionBroker{}, &partitionedSessionBroker{}
	for _, s := range []sink.Sink{&broker{}, plain, partitioned} {
		if session, ok := tracer.Sink(s, "pulsar", "pulsar").(sink.SessionSink); ok {
			session.BeginSession()
		}
	}
	if plain.begun != 1 || partitioned.begun != 1 {
		t.Errorf("told %d and %d times, want once each", plain.begun, partitioned.begun)
	}
}

// Who adds an optional interface to package sink reads here that the wrapper has to keep it.
func TestSinkKeepsEveryOptionalInterface(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "sink", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`(?m)^type (\w+) interface \{`).FindAllSubmatch(text, -1) {
			found = append(found, string(name[1]))
		}
	}
	slices.Sort(found)
	if kept := []string{"Partitioner", "SessionSink", "Sink"}; !slices.Equal(found, kept) {
		t.Errorf("package sink has %v, and the tests above speak of %v", found, kept)
	}
}

func TestEventsThatAreNotSampledAllocateNothing(t *testing.T) {
	tracer := newTracer(t, "http://127.0.0.1:1", 1, io.Discard)
	defer tracer.Close(t.Context()) //nolint:errcheck // nothing waits
	traced := tracer.Sink(&broker{}, "redis", "redis")
	batch := []sink.Message{message("a", ""), message("b", strings.TrimSuffix(sampled, "1")+"0"), message("c", "x")}
	if n := testing.AllocsPerRun(100, func() { traced.Publish(context.Background(), batch) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
