package encrypt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/encrypt"
)

// Keys of the tests alone.
const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
	keyB = "vzsROJXqVcRJIV4C0R0ZRWeF7jKlpNV6wHcXkOYDn0w="
)

func encrypter(t testing.TB, keys string, fields ...string) (*encrypt.Encrypter, encrypt.Keys) {
	t.Helper()
	k, err := encrypt.ParseKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	f, err := encrypt.ParseFields(fields)
	if err != nil {
		t.Fatal(err)
	}
	e, err := encrypt.New(k, f)
	if err != nil {
		t.Fatal(err)
	}
	return e, k
}

func TestOnlyTheFieldsBecomeTokens(t *testing.T) {
	for name, c := range map[string]struct{ fields, payload, back string }{
		"any depth":            {"password", `{"password": "a", "b": {"c": [{"password": "d"}]}}`, `{"password": "a", "b": {"c": [{"password": "d"}]}}`},
		"given twice":          {"key", `{"key":"a","key":"b"}`, `{"key":"a","key":"b"}`},
		"an escaped name":      {"token", `{"t\u006fken": "x"}`, `{"t\u006fken": "x"}`},
		"escapes in a value":   {"token", `{"token": "a\"\u00fc\ud83d\ude00\n"}`, `{"token": "a\"ü😀\n"}`},
		"what is no text":      {"secret", `{"secret": 1.50, "b": {"secret": {"x": [1, 2]}}, "c": {"secret": true}}`, `{"secret": "1.50", "b": {"secret": "{\"x\": [1, 2]}"}, "c": {"secret": "true"}}`},
		"null stays":           {"secret", `{"secret": null, "x": {"secret": ""}}`, `{"secret": null, "x": {"secret": ""}}`},
		"a path":               {"card.number", `{"card": {"number": "4"}, "number": "5", "x": {"card": {"number": "6"}}}`, ``},
		"a path through lists": {"items.secret", `{"items": [{"secret": "s"}, {"x": 1}], "secret": "t"}`, ``},
		"any name in a path":   {"*.pin", `{"a": {"pin": "1"}, "pin": "2"}`, ``},
		"any element":          {"items.*.secret", `{"items": [{"secret": "s"}, {"x": {"secret": "t"}}]}`, ``},
		"elements themselves":  {"pins.*", `{"pins": ["1", null, "2"]}`, ``},
		"brackets":             {"a[].b[]", `{"a": [[{"b": "s"}]]}`, ``},
		"slashes":              {"/a/b", `{"a": {"b": "s"}}`, ``},
		"a name at the top":    {"/key", `{"key": "s", "a": {"key": "t"}}`, ``},
		"a path beside a name": {"a.b,c", `{"a": {"c": "s", "b": "t"}}`, ``},
		"the outermost a list": {"key", `[{"key": "a"}, "key", 7]`, `[{"key": "a"}, "key", 7]`},
	} {
		t.Run(name, func(t *testing.T) {
			e, keys := encrypter(t, keyA, strings.Split(c.fields, ",")...)
			got, err := e.Append([]byte("before"), []byte(c.payload))
			if err != nil {
				t.Fatal(err)
			}
			got, ok := bytes.CutPrefix(got, []byte("before"))
			if !ok || !json.Valid(got) || bytes.Equal(got, []byte(c.payload)) && !strings.Contains(c.payload, "null") {
				t.Fatalf("encrypted: %s", got)
			}
			want := c.back
			if want == "" {
				want = c.payload
			}
			back, err := keys.Decrypt(got)
			if err != nil || string(back) != want {
				t.Errorf("decrypted %s (%v)\nwant      %s", back, err, want)
			}
		})
	}
}

func TestPathsReachNothingElse(t *testing.T) {
	e, _ := encrypter(t, keyA, "card.number", "*.pin", "/key", "items.*.secret", "token")
	const payload = `{"number": "5", "x": {"card": {"number": "6"}}, "pin": 1, "a": {"b": {"pin": 2}}, "card": "number", "card.number": 7, "c": {"key": 8},
		"items": {"secret": 9}, "secret": 10, "Token": 11, "t": "token", "u": "{\"token\": 12}"}`
	got, err := e.Append(nil, []byte(payload))
	if err != nil || string(got) != payload {
		t.Errorf("%s (%v)", got, err)
	}
}

func TestMaskNeedsNoKey(t *testing.T) {
	f, err := encrypt.ParseFields([]string{"key"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := encrypt.NewMask(f).Append(nil, []byte(`{"a": [{"key": {"b": 1}}], "key": null}`))
	if err != nil || string(got) != `{"a": [{"key": "******"}], "key": null}` {
		t.Errorf("%s (%v)", got, err)
	}
}

func TestPayloadThatIsNoJSONIsRefused(t *testing.T) {
	e, _ := encrypter(t, keyA, "password")
	for _, payload := range []string{`{"password": "a"`, `password=a`, ``, `{"a": 1} {"password": 2}`, strings.Repeat("[", 16<<20)} {
		got, err := e.Append(nil, []byte(payload))
		if !errors.Is(err, encrypt.ErrNotJSON) || len(got) > 0 {
			t.Errorf("%.50q: %.50q, %v", payload, got, err)
		}
	}
	if got, err := e.Append(nil, nil); err != nil || len(got) > 0 {
		t.Errorf("NULL: %q, %v", got, err)
	}
}

func TestTheFirstKeyEncryptsAndAllDecrypt(t *testing.T) {
	old, _ := encrypter(t, keyA, "secret")
	token, err := old.Append(nil, []byte(`{"secret": "s"}`))
	if err != nil {
		t.Fatal(err)
	}
	rotated, both := encrypter(t, keyB+", "+keyA, "secret")
	if back, err := both.Decrypt(token); err != nil || string(back) != `{"secret": "s"}` {
		t.Errorf("with the new key before the old one: %s, %v", back, err)
	}
	fresh, err := rotated.Append(nil, []byte(`{"secret": "s"}`))
	if err != nil {
		t.Fatal(err)
	}
	_, onlyOld := encrypter(t, keyA)
	if back, err := onlyOld.Decrypt(fresh); err == nil || !strings.Contains(err.Error(), "at secret is of none") {
		t.Errorf("the old key alone decrypts what the new one made: %s, %v", back, err)
	}
}

func TestKeysThatAreNoneAreNamedAndNotShown(t *testing.T) {
	_, err := encrypt.ParseKeys(keyA + ",hunter2")
	if err == nil || !strings.Contains(err.Error(), "key 2") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	if _, err := encrypt.ParseKeys(" , "); !errors.Is(err, encrypt.ErrNoKeys) {
		t.Errorf("an empty list: %v", err)
	}
	for _, none := range []string{"", "a..b", "a.", "/", "[]", "items[0].secret", "items[.secret"} {
		if _, err := encrypt.ParseFields([]string{none}); err == nil {
			t.Errorf("%s is taken for a path", none)
		}
	}
}

func TestTextWithoutATokenIsAnError(t *testing.T) {
	_, keys := encrypter(t, keyA)
	for text, want := range map[string]string{`{"a": "gAAAAAB"}`: "nothing in it", `plain`: "neither"} {
		if _, err := keys.Decrypt([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A tenant must not be able to hold up the others by the form of a payload. A walk that looks at a value once for each object that it stands in
// takes hundreds of times as long for these as for a flat one.
func TestDeepPayloadTakesNoLongerThanAFlatOne(t *testing.T) {
	e, keys := encrypter(t, keyA, "secret", "a.*.b")
	list := "[0" + strings.Repeat(",0", 1<<19) + "]"
	timed := func(open, end string, n int) time.Duration {
		payload := strings.Repeat(open, n) + `{"secret":"s","list":` + list + `}` + strings.Repeat(end, n)
		started := time.Now()
		got, err := e.Append(nil, []byte(payload))
		if err != nil || strings.Contains(string(got), `"s"`) {
			t.Fatalf("%.20s: %v", payload, err)
		}
		if back, err := keys.Decrypt(got); err != nil || string(back) != payload {
			t.Fatalf("%.20s: %v", payload, err)
		}
		return time.Since(started)
	}
	flat := timed(`[`, `]`, 1)
	for open, end := range map[string]string{`{"a":`: `}`, `[`: `]`, `{"a":[`: `]}`} {
		if deep := timed(open, end, 9_990/len(end)); deep > 50*flat {
			t.Errorf("%s: %s, and a flat one %s", open, deep, flat)
		}
	}
}

// The token was made by Python's cryptography 48.0.0 with keyA.
func TestPythonsTokenDecrypts(t *testing.T) {
	_, keys := encrypter(t, keyA)
	plain, err := keys.Decrypt([]byte("gAAAAABrB5nmQ-GbuaxS3MX5-cbtBRsfMfGsAo5BGog_gUfMbmDkYxfaI3aaw1UPhHbv05f-R9-ANWqvTcCu0wYwI7il64r6Pg==\n"))
	if err != nil || string(plain) != "käse 🧀" {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestPythonDecryptsOurTokens(t *testing.T) {
	e, _ := encrypter(t, keyB+","+keyA, "secret")
	body, err := e.Append(nil, []byte(`{"secret": "käse 🧀", "list": [{"secret": 42}]}`))
	if err != nil {
		t.Fatal(err)
	}
	const script = `
import json, sys
from cryptography.fernet import Fernet
f = Fernet(sys.argv[1])
body = json.load(sys.stdin)
print(f.decrypt(body["secret"].encode()).decode(), f.decrypt(body["list"][0]["secret"].encode()).decode())`
	cmd := exec.CommandContext(t.Context(), python(t), "-c", script, keyB)
	cmd.Stdin = bytes.NewReader(body)
	cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "käse 🧀 42" {
		t.Errorf("%s (%v)", out, err)
	}
}

// python returns a Python that has the package cryptography. Without one the test is skipped, unless CI is set.
func python(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), program, "-c", "import cryptography.fernet").Run() == nil {
			return program
		}
	}
	const lacking = "no python3 with the package cryptography (Debian: python3-cryptography)"
	if os.Getenv("CI") == "" {
		t.Skip(lacking)
	}
	t.Fatal(lacking)
	return ""
}

func BenchmarkAppend(b *testing.B) {
	e, _ := encrypter(b, keyA, "password", "token", "secret", "key")
	payload := []byte(`{"order": 4711, "customer": {"name": "Acme", "token": "0123456789abcdef"}, "lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}], "note": "` +
		strings.Repeat("x", 350) + `"}`)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		var err error
		if buf, err = e.Append(buf[:0], payload); err != nil {
			b.Fatal(err)
		}
	}
}
