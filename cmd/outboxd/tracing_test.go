package main

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

func TestPublishOfATracedEventIsASpanOfItsTrace(t *testing.T) {
	t.Parallel()
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	received := make(chan *collector.ExportTraceServiceRequest, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := &collector.ExportTraceServiceRequest{}
		if body, err := io.ReadAll(r.Body); err != nil || proto.Unmarshal(body, request) != nil {
			t.Errorf("the collector got no request, %v", err)
		}
		received <- request
	}))
	t.Cleanup(receiver.Close)
	o := newOperator(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL)
	o.start()
	o.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload, event_metadata)
		VALUES ('acme', 'order', '1', 'order.created', now(), '{}', jsonb_build_object('traceparent', $1::text, 'tracestate', 'k=1'))`,
		"00-"+trace+"-"+parent+"-01")
	o.insert("acme", "1", 10)
	eventually(t, "both events are there", func() bool { return len(o.stream("acme")) == 2 })
	entries, err := o.redis.XRange(t.Context(), o.prefix+":acme", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	if got := entries[0].Values; got["traceparent"] != "00-"+trace+"-"+parent+"-01" || got["tracestate"] != "k=1" {
		t.Errorf("the message carries %v", got)
	}
	o.stop() // sends what waits
	close(received)
	n := 0
	for request := range received {
		for _, s := range request.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans() {
			n++
			if hex.EncodeToString(s.GetTraceId()) != trace || hex.EncodeToString(s.GetParentSpanId()) != parent || s.GetName() != "publish "+o.prefix+":acme" {
				t.Errorf("the span is %v", s)
			}
		}
	}
	if n != 1 {
		t.Errorf("the collector has %d spans, want 1", n)
	}
}
