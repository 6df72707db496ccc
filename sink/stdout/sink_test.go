package stdout_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/outboxd/outboxd/sink"
	"github.com/outboxd/outboxd/sink/sinktest"
	"github.com/outboxd/outboxd/sink/stdout"
)

func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	var destinations atomic.Int64
	sinktest.Run(t, sinktest.Harness{
		New: func(t testing.TB) sink.Sink {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			return stdout.New(f)
		},
		Destination: func(testing.TB) string { return "acme/topic-" + strconv.FormatInt(destinations.Add(1), 10) },
		Read:        func(t testing.TB, destination string) []sinktest.Message { return read(t, path, destination) },
		WriteOnly:   true,
		TextOnly:    true,
	})
}

type line struct {
	Destination string
	Key         string
	Headers     map[string]string
	Body        json.RawMessage
}

func parse(t testing.TB, text []byte) line {
	t.Helper()
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		t.Fatalf("line %.200q: %v", text, err)
	}
	return l
}

func read(t testing.TB, path, destination string) (messages []sinktest.Message) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for text := range bytes.Lines(content) {
		l := parse(t, text)
		if l.Destination != destination {
			continue
		}
		body := []byte(l.Body)
		if l.Body[0] == '"' {
			var s string
			if err := json.Unmarshal(l.Body, &s); err != nil {
				t.Fatal(err)
			}
			body = []byte(s)
		}
		messages = append(messages, sinktest.Message{Headers: l.Headers, Body: body})
	}
	return messages
}

func message(body string) sink.Message {
	return sink.Message{Destination: "acme/t", Key: []byte("acme/order/1"), Body: []byte(body), Headers: []sink.Header{
		{Name: "id", Value: []byte("1")}, {Name: "position", Value: []byte("1:0/1:1")},
	}}
}

func TestBodyIsEmbeddedWhenItIsJSON(t *testing.T) {
	for body, want := range map[string]string{
		`{"a": [1, "x"]}`:      `{"a": [1, "x"]}`,
		"{\n\t\"a\": 1\r\n}":   "{ \t\"a\": 1  }",
		"not JSON\n":           `"not JSON\n"`,
		"":                     `""`,
		"\xff\x00":             "\"\ufffd\\u0000\"",
		`"text"`:               `"text"`,
		"{\"a\": \"\\n\"}\n{}": `"{\"a\": \"\\n\"}\n{}"`,
	} {
		var out bytes.Buffer
		if results := stdout.New(&out).Publish(t.Context(), []sink.Message{message(body)}); results != nil {
			t.Fatal(results)
		}
		want := `{"destination":"acme/t","key":"acme/order/1","headers":{"id":"1","position":"1:0/1:1"},"body":` + want + "}\n"
		if out.String() != want {
			t.Errorf("got  %q\nwant %q", out.String(), want)
		}
	}
}

func TestConcurrentCallsWriteWholeLines(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := stdout.New(w)
	const callers, rounds = 8, 4
	done := make(chan []error, callers)
	for range callers {
		go func() {
			var batch []sink.Message
			for range 50 {
				batch = append(batch, message(strings.Repeat("x", 5000)))
			}
			for range rounds {
				if results := s.Publish(t.Context(), batch); results != nil {
					done <- results
					return
				}
			}
			done <- nil
		}()
	}
	go func() {
		for range callers {
			if results := <-done; results != nil {
				t.Error(results[0])
			}
		}
		_ = w.Close()
	}()
	n := 0
	for lines := bufio.NewScanner(r); lines.Scan(); n++ {
		parse(t, lines.Bytes())
	}
	if n != callers*rounds*50 {
		t.Errorf("%d lines, want %d", n, callers*rounds*50)
	}
}

func TestClosedPipeIsUnavailableWithUnknownFate(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	results := stdout.New(w).Publish(t.Context(), []sink.Message{message("{}"), message("{}")})
	if len(results) != 2 {
		t.Fatalf("%d results, want 2", len(results))
	}
	for _, err := range results {
		if sink.ClassOf(err) != sink.Unavailable || sink.FateKnown(err) || !errors.Is(err, syscall.EPIPE) {
			t.Errorf("class %s, fate known %v: %v", sink.ClassOf(err), sink.FateKnown(err), err)
		}
	}
}

func TestBlockedWriteEndsWithTheContext(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r, w := io.Pipe() // nobody reads
	s := stdout.New(w)
	for range 2 { // the second waits for the first, which still writes
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(context.Canceled)
		results := s.Publish(ctx, []sink.Message{message("{}")})
		if len(results) != 1 || sink.FateKnown(results[0]) || !errors.Is(results[0], context.Canceled) {
			t.Fatalf("results %v, want cancelled with an unknown fate", results)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
