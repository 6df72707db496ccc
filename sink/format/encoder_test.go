package format_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/format"
)

// order is an event as the seed table has them.
func order() *event.Event {
	return &event.Event{
		Position:      event.Position{Epoch: 1764000000, Commit: 0x16B3748, Ordinal: 2},
		ID:            []byte("0198f2a4-0000-7000-8000-000000000001"),
		TenantID:      []byte("acme"),
		Topic:         []byte("order.created"),
		AggregateType: []byte("order"),
		AggregateID:   []byte("4711"),
		OccurredAt:    []byte("2026-11-24 09:30:00.123456+00"),
		SchemaID:      []byte("order/v3"),
		SchemaVersion: []byte("3"),
		Payload:       []byte(`{"total": 12.50, "note": "<b> & \"q\""}`),
		Metadata:      []byte(`{}`),
	}
}

func encoder(t testing.TB, name string, o format.Options) *format.Encoder {
	t.Helper()
	e, err := format.New(name, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func encode(t testing.TB, e *format.Encoder, ev *event.Event) sink.Message {
	t.Helper()
	m, err := e.Message(ev, "outbox:acme:order.created", event.Position{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func lines(m sink.Message) []string {
	var all []string
	for _, h := range m.Headers {
		all = append(all, h.Name+": "+string(h.Value))
	}
	return all
}

func wantLines(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("headers:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var columns = []string{
	"id: 0198f2a4-0000-7000-8000-000000000001", "tenant_id: acme", "topic: order.created", "aggregate_type: order",
	"aggregate_id: 4711", "occurred_at: 2026-11-24T09:30:00.123456Z", "schema_id: order/v3", "schema_version: 3",
	"position: 1764000000:0/16B3748:2",
}

func TestRawIsThePayloadItself(t *testing.T) {
	ev := order()
	m := encode(t, encoder(t, format.Raw, format.Options{}), ev)
	if &m.Body[0] != &ev.Payload[0] || len(m.Body) != len(ev.Payload) {
		t.Error("the payload was copied")
	}
	wantLines(t, lines(m), columns)
	if string(m.Key) != "acme/order/4711" || m.Destination != "outbox:acme:order.created" {
		t.Errorf("key %q, destination %q", m.Key, m.Destination)
	}
	if want := time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC); !m.EventTime.Equal(want) {
		t.Errorf("event time %s, want %s", m.EventTime, want)
	}
}

func TestNullColumnsAreLeftOut(t *testing.T) {
	ev := &event.Event{ID: []byte("1"), Topic: []byte(""), Position: event.Position{Epoch: 1, Commit: 2, Ordinal: 3}}
	m := encode(t, encoder(t, format.Raw, format.Options{}), ev)
	wantLines(t, lines(m), []string{"id: 1", "topic: ", "position: 1:0/2:3"})
	if m.Body == nil || len(m.Body) != 0 {
		t.Errorf("body %v, want empty and not nil", m.Body)
	}
	if !m.EventTime.IsZero() {
		t.Errorf("event time %s, want zero", m.EventTime)
	}
}

func TestFrontierAndReplayFollowThePosition(t *testing.T) {
	e := encoder(t, format.Raw, format.Options{})
	m, err := e.Message(order(), "d", event.Position{Epoch: 1764000000, Commit: 0x16B3800, Ordinal: 1}, 2)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, lines(m), append(slices.Clone(columns), "frontier: 1764000000:0/16B3800:1", "replay: 2"))
}

func TestMetadataIsTakenApart(t *testing.T) {
	for name, c := range map[string]struct {
		column string
		want   []string
	}{
		"absent":             {"", nil},
		"empty":              {"{}", nil},
		"null":               {"null", nil},
		"no trace":           {`{"user": "ana", "n": [1, 2]}`, []string{`metadata: {"user": "ana", "n": [1, 2]}`}},
		"trace and others":   {`{"a": 1, "traceparent": "00-ab-cd-01", "b": {"traceparent": "x"}}`, []string{"traceparent: 00-ab-cd-01", `metadata: {"a": 1, "b": {"traceparent": "x"}}`}},
		"trace only":         {`{"tracestate": "k=\"v\"", "traceparent": "00-ab"}`, []string{"traceparent: 00-ab", `tracestate: k="v"`}},
		"trace is no string": {`{"traceparent": 7, "tracestate": null}`, []string{`metadata: {"traceparent": 7, "tracestate": null}`}},
		"array":              {`[1, "traceparent"]`, []string{`metadata: [1, "traceparent"]`}},
		"scalar":             {`"traceparent"`, []string{`metadata: "traceparent"`}},
		"not JSON":           {`{"traceparent": `, []string{`metadata: {"traceparent": `}},
	} {
		t.Run(name, func(t *testing.T) {
			ev := order()
			ev.Metadata = []byte(c.column)
			m := encode(t, encoder(t, format.Raw, format.Options{}), ev)
			wantLines(t, lines(m)[len(columns):], c.want)
		})
	}
}

func TestBentoIsTheEnvelope(t *testing.T) {
	ev := order()
	ev.Metadata = []byte(`{"source": "shop", "correlation_id": "c-1", "causation_id": 7}`)
	m := encode(t, encoder(t, format.Bento, format.Options{Source: "/default"}), ev)
	sameJSON(t, m.Body, `{"event_type":"order.created","payload":{"total":12.50,"note":"<b> & \"q\""},
		"event_id":"0198f2a4-0000-7000-8000-000000000001","occurred_at":"2026-11-24T09:30:00.123456Z",
		"source":"shop","correlation_id":"c-1","causation_id":7,"version":3}`)

	bare := &event.Event{ID: []byte("1"), Topic: []byte("t"), Payload: []byte("text \"\x01")}
	m = encode(t, encoder(t, format.Bento, format.Options{}), bare)
	sameJSON(t, m.Body, `{"event_type":"t","payload":"text \"\u0001","event_id":"1","occurred_at":null,
		"source":null,"correlation_id":null,"causation_id":null,"version":1}`)

	bare.SchemaVersion, bare.Payload = []byte("v2"), nil
	m = encode(t, encoder(t, format.Bento, format.Options{Source: "/default"}), bare)
	sameJSON(t, m.Body, `{"event_type":"t","payload":null,"event_id":"1","occurred_at":null,
		"source":"/default","correlation_id":null,"causation_id":null,"version":"v2"}`)
}

func TestCloudEventsInBinaryMode(t *testing.T) {
	ev := order()
	ev.Metadata = []byte(`{"traceparent": "00-ab-cd-01"}`)
	m := encode(t, encoder(t, format.CloudEvents, format.Options{}), ev)
	wantLines(t, lines(m), append(slices.Clone(columns), "traceparent: 00-ab-cd-01",
		"ce_id: 0198f2a4-0000-7000-8000-000000000001", "ce_source: /outboxd", "ce_specversion: 1.0", "ce_type: order.created",
		"ce_time: 2026-11-24T09:30:00.123456Z", "ce_subject: 4711", "ce_partitionkey: acme/order/4711",
		"ce_traceparent: 00-ab-cd-01", "content-type: application/json"))
	if &m.Body[0] != &ev.Payload[0] {
		t.Error("the payload was copied")
	}
	ev.Metadata, ev.OccurredAt, ev.Payload = []byte(`{"source": "urn:shop"}`), []byte("infinity"), []byte(`plain`)
	got := lines(encode(t, encoder(t, format.CloudEvents, format.Options{Source: "/x"}), ev))
	for _, want := range []string{"ce_source: urn:shop", "content-type: text/plain", "occurred_at: infinity"} {
		if !slices.Contains(got, want) {
			t.Errorf("no header %q in %q", want, got)
		}
	}
	if slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "ce_time") }) {
		t.Error("ce_time of an event at infinity")
	}
}

func TestCloudEventsInStructuredMode(t *testing.T) {
	ev := order()
	ev.Metadata = []byte(`{"traceparent": "00-ab-cd-01", "tracestate": "k=1"}`)
	m := encode(t, encoder(t, format.CloudEventsStructured, format.Options{Source: "/shop"}), ev)
	sameJSON(t, m.Body, `{"specversion":"1.0","id":"0198f2a4-0000-7000-8000-000000000001","source":"/shop","type":"order.created",
		"time":"2026-11-24T09:30:00.123456Z","subject":"4711","partitionkey":"acme/order/4711","traceparent":"00-ab-cd-01",
		"tracestate":"k=1","datacontenttype":"application/json","data":{"total":12.50,"note":"<b> & \"q\""}}`)
	if last := m.Headers[len(m.Headers)-1]; last.Name != "content-type" || string(last.Value) != "application/cloudevents+json" {
		t.Errorf("last header %s: %s", last.Name, last.Value)
	}
	m = encode(t, encoder(t, format.CloudEventsStructured, format.Options{}), &event.Event{ID: []byte("1"), Topic: []byte("t"), TenantID: []byte("a")})
	sameJSON(t, m.Body, `{"specversion":"1.0","id":"1","source":"/outboxd","type":"t","partitionkey":"a/#1"}`)
}

func sameJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("not JSON: %v: %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	gb, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	wb, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	if string(gb) != string(wb) {
		t.Errorf("got  %s\nwant %s", gb, wb)
	}
}

func TestMessagesStayValidUntilReset(t *testing.T) {
	for _, name := range format.Names() {
		t.Run(name, func(t *testing.T) {
			e := encoder(t, name, format.Options{})
			for range 2 {
				var messages []sink.Message
				var want [][]string
				for i := range 200 { // grows the encoder's memory several times
					ev := order()
					ev.Position.Ordinal = uint32(i)
					ev.Metadata = []byte(`{"traceparent": "00-ab-cd-01", "n": 1}`)
					m := encode(t, e, ev)
					messages = append(messages, m)
					want = append(want, append(lines(m), strings.Clone(string(m.Body)), string(m.Key)))
				}
				for i, m := range messages {
					wantLines(t, append(lines(m), string(m.Body), string(m.Key)), want[i])
				}
				e.Reset()
			}
		})
	}
}

func TestTraceTravelsInTheHeadersOfEveryFormat(t *testing.T) {
	for _, name := range format.Names() {
		ev := order()
		ev.Metadata = []byte(`{"traceparent": "00-ab-cd-01", "tracestate": "k=1", "n": 1}`)
		m := encode(t, encoder(t, name, format.Options{}), ev)
		for _, want := range []sink.Header{{Name: "traceparent", Value: []byte("00-ab-cd-01")}, {Name: "tracestate", Value: []byte("k=1")}} {
			if !slices.ContainsFunc(m.Headers, func(h sink.Header) bool { return h.Name == want.Name && string(h.Value) == string(want.Value) }) {
				t.Errorf("%s: the message has no %s: %v", name, want.Name, lines(m))
			}
		}
	}
}

func TestEventWithoutIDIsAnError(t *testing.T) {
	_, err := encoder(t, format.Raw, format.Options{}).Message(&event.Event{}, "d", event.Position{}, 0)
	if !errors.Is(err, format.ErrNoID) {
		t.Fatalf("got %v, want ErrNoID", err)
	}
}

func TestEventWhoseTextIsNotUTF8IsAnErrorThatNamesIt(t *testing.T) {
	for name, field := range map[string]func(*event.Event) *[]byte{
		"id": func(ev *event.Event) *[]byte { return &ev.ID }, "tenant_id": func(ev *event.Event) *[]byte { return &ev.TenantID },
		"payload": func(ev *event.Event) *[]byte { return &ev.Payload }, "metadata": func(ev *event.Event) *[]byte { return &ev.Metadata },
	} {
		ev := order()
		*field(ev) = []byte("\"caf\xe9\"")
		for _, f := range format.Names() {
			_, err := encoder(t, f, format.Options{}).Message(ev, "d", event.Position{}, 0)
			if !errors.Is(err, format.ErrNotUTF8) || !strings.HasPrefix(err.Error(), name+": ") {
				t.Errorf("%s, %s: %v", f, name, err)
			}
		}
	}
}

func TestEveryFormatHoldsWhatIsPublishedOfAPayload(t *testing.T) {
	refuses := errors.New("no")
	options := format.Options{Payload: func(dst, payload []byte) ([]byte, error) {
		if len(payload) == 0 {
			return dst, refuses
		}
		return append(dst, `{"total": "hidden"}`...), nil
	}}
	for _, name := range format.Names() {
		e, ev := encoder(t, name, options), order()
		for range 2 {
			if body := string(encode(t, e, ev).Body); !strings.Contains(body, `{"total": "hidden"}`) || strings.Contains(body, "12.50") {
				t.Errorf("%s: %s", name, body)
			}
		}
		ev.Payload = []byte{}
		if _, err := e.Message(ev, "d", event.Position{}, 0); !errors.Is(err, refuses) {
			t.Errorf("%s: a payload that is refused: %v", name, err)
		}
		ev.Payload = nil
		if _, err := e.Message(ev, "d", event.Position{}, 0); err != nil {
			t.Errorf("%s: a payload that is NULL: %v", name, err)
		}
	}
}

// A reader that calls itself for each bracket would end the process here, and again after each restart.
func TestBracketsWithoutEndAreText(t *testing.T) {
	const n = 16 << 20
	ev := order()
	ev.Payload, ev.Metadata = []byte(strings.Repeat("[", n)), []byte(strings.Repeat(`{"a":`, n))
	for _, name := range format.Names() {
		m := encode(t, encoder(t, name, format.Options{}), ev)
		if !strings.Contains(string(m.Body), string(ev.Payload)) {
			t.Errorf("%s: the payload is not in the body", name)
		}
	}
}

func TestUnknownFormatNamesTheKnown(t *testing.T) {
	_, err := format.New("avro", format.Options{})
	if err == nil || !strings.Contains(err.Error(), "cloudevents_structured") {
		t.Fatalf("got %v", err)
	}
}

func TestRawAllocatesNothing(t *testing.T) {
	e := encoder(t, format.Raw, format.Options{})
	ev := order()
	allocs := testing.AllocsPerRun(100, func() {
		e.Reset()
		for range 50 {
			if _, err := e.Message(ev, "outbox:acme:order.created", event.Position{}, 0); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs > 0 {
		t.Errorf("%.1f allocations in 50 messages", allocs)
	}
}

func BenchmarkMessage(b *testing.B) {
	traced := order()
	traced.Metadata = []byte(`{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "user": "ana"}`)
	for _, name := range format.Names() {
		for label, ev := range map[string]*event.Event{"plain": order(), "traced": traced} {
			b.Run(name+"/"+label, func(b *testing.B) {
				e := encoder(b, name, format.Options{})
				b.ReportAllocs()
				for i := range b.N {
					if i%500 == 0 {
						e.Reset()
					}
					encode(b, e, ev)
				}
			})
		}
	}
}
