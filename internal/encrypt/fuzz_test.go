package encrypt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/outboxd/outboxd/internal/encrypt"
)

// span is a value that the fields of the fuzz test mean: payload[from:to].
type span struct{ from, to int }

// reference finds what "password", "a.b" and "list.*.c" mean by another way: the standard library's decoder and whole paths. Elements are
// called "[]".
func reference(t *testing.T, payload []byte) (spans []span) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var value func(path []string)
	value = func(path []string) {
		before := int(d.InputOffset())
		if len(path) > 0 && meant(path) {
			var raw json.RawMessage
			must(t, d.Decode(&raw))
			to := int(d.InputOffset())
			if string(raw) != "null" {
				spans = append(spans, span{before + bytes.Index(payload[before:], raw), to})
			}
			return
		}
		token, err := d.Token()
		must(t, err)
		switch token {
		case json.Delim('{'):
			for d.More() {
				name, err := d.Token()
				must(t, err)
				value(append(slices.Clone(path), name.(string)))
			}
		case json.Delim('['):
			for d.More() {
				value(append(slices.Clone(path), "[]"))
			}
		default:
			return
		}
		_, err = d.Token()
		must(t, err)
	}
	value(nil)
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("behind the value: %v", err)
	}
	return spans
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// meant tells whether the path, of a member or an element, is what the fields of the fuzz test mean.
func meant(path []string) bool {
	last := path[len(path)-1]
	names := slices.DeleteFunc(slices.Clone(path), func(s string) bool { return s == "[]" })
	if last != "[]" && (last == "password" || slices.Equal(names, []string{"a", "b"})) {
		return true
	}
	if last != "c" {
		return false
	}
	switch {
	case len(names) == 3 && names[0] == "list": // list.NAME.c
		return true
	case len(names) == 2 && names[0] == "list": // list[].c: the * is an element
		return slices.Contains(path[slices.Index(path, "list"):], "[]")
	}
	return false
}

// The fields become tokens and every other byte stays as it is.
func FuzzOnlyTheFieldsChange(f *testing.F) {
	for _, seed := range []string{
		`{"password":"x","a":[{"password":1e400,"b":[{"b":-0.10}]}]}`, `[null,{"password":{"password":""}}]`, ` {"\u0061" : {"b":"\\\""}, "password":"\\" } `,
		`{"list":[{"c":[1,{"c":2}]},{"x":{"c":3}}]}`, `{"list":{"c":"no","x":{"c":"yes"}}}`, `[[{"list":[[{"c":"}{][,:\""}]]}]]`, `"password"`, `-1`, `{"password":null,"password":true}`,
	} {
		f.Add([]byte(seed))
	}
	e, keys := encrypter(f, keyA, "password", "a.b", "list.*.c")
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := e.Append(nil, payload)
		if errors.Is(err, encrypt.ErrNotJSON) != !json.Valid(payload) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		rest, from := got, 0
		for _, s := range reference(t, payload) {
			rest = cut(t, rest, payload[from:s.from])
			token, ok := []byte(nil), false
			if token, rest, ok = bytes.Cut(cut(t, rest, []byte(`"`)), []byte(`"`)); !ok {
				t.Fatalf("no token in the place of %s: %s", payload[s.from:s.to], got)
			}
			held, err := keys.Decrypt(token)
			if err != nil {
				t.Fatalf("in the place of %s: %v", payload[s.from:s.to], err)
			}
			wantHeld(t, held, payload[s.from:s.to])
			from = s.to
		}
		if len(cut(t, rest, payload[from:])) > 0 {
			t.Fatalf("%s\nbecame %s", payload, got)
		}
	})
}

func cut(t *testing.T, text, prefix []byte) []byte {
	t.Helper()
	rest, ok := bytes.CutPrefix(text, prefix)
	if !ok {
		t.Fatalf("%s\nstands in the place of %s", text, prefix)
	}
	return rest
}

// wantHeld checks what a token holds: the text of a string, else the value's JSON.
func wantHeld(t *testing.T, held, value []byte) {
	t.Helper()
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = string(value)
	} else if !utf8.Valid(value) || strings.Contains(strings.ToLower(string(value)), `\ud`) {
		return // what is no Unicode text, every reader mends in its own way
	}
	if string(held) != text {
		t.Fatalf("%q holds %q", value, held)
	}
}
