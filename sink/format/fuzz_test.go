package format_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/format"
)

// FuzzMetadata takes any event_metadata. In every format nothing of it is lost: where it is an object, the trace's headers and the header
// metadata together are that object, and else metadata is the column. A body that is made is JSON.
func FuzzMetadata(f *testing.F) {
	for _, text := range []string{
		`{}`, ``, ` null `, `[1]`, `"x"`, `{`, `{"a": 1}`, `{"traceparent": "00-1-2-01", "a": {"b": [1, "\u0000"]}}`, `{"tracestate": "k=1"}`, `{"traceparent": 5}`,
		`{"tr\u0061ceparent": "x"}`, `{"traceparent": "a", "traceparent": "b"}`, `{"source": "/shop", "correlation_id": null, "causation_id": 7}`, `{"a":1}x`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, column []byte) {
		if !utf8.Valid(column) {
			return // an error
		}
		for _, name := range format.Names() {
			ev := order()
			ev.Metadata = bytes.Clone(column)
			m := encode(t, encoder(t, name, format.Options{}), ev)
			if !bytes.Equal(ev.Metadata, column) {
				t.Fatalf("%s changes the column %q to %q", name, column, ev.Metadata)
			}
			if !json.Valid(m.Body) && json.Valid(column) { // what PostgreSQL has in a json column is
				t.Fatalf("%s makes of %q the body %q", name, column, m.Body)
			}
			checkMetadata(t, column, m)
		}
	})
}

// checkMetadata compares the headers with the column as encoding/json reads it.
func checkMetadata(t *testing.T, column []byte, m sink.Message) {
	t.Helper()
	headers := map[string]string{}
	for _, h := range m.Headers {
		headers[h.Name] = string(h.Value)
	}
	var want, got map[string]any
	if json.Unmarshal(column, &want) != nil || want == nil {
		text := bytes.TrimSpace(column)
		if len(text) > 0 && string(text) != "null" && headers["metadata"] != string(column) {
			t.Fatalf("%q becomes %q", column, headers["metadata"])
		}
		return
	}
	if rest, there := headers["metadata"]; there {
		if err := json.Unmarshal([]byte(rest), &got); err != nil {
			t.Fatalf("%q becomes %q: %v", column, rest, err)
		}
	}
	for name, value := range want {
		text, isText := value.(string)
		if _, there := headers[name]; isText && there && (name == "traceparent" || name == "tracestate") {
			continue // twice in one object, a later one of another type: both are there
		}
		if _, there := got[name]; !there {
			t.Fatalf("%q loses its member %q (%q): the headers are %q", column, name, text, headers)
		}
	}
}
