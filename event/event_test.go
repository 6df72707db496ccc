package event_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/outboxd/outboxd/event"
)

func TestOccurredTimeIsWhatPostgresPrints(t *testing.T) {
	for printed, want := range map[string]string{
		"2026-11-24 09:30:00.123456+00": "2026-11-24T09:30:00.123456Z",
		"2026-11-24 09:30:00+00":        "2026-11-24T09:30:00Z",
		"2026-11-24 09:30:00.1+00":      "2026-11-24T09:30:00.1Z",
		"0001-01-01 00:00:00+00":        "0001-01-01T00:00:00Z",
		"2026-11-24 09:30:00+02":        "2026-11-24T07:30:00Z",
	} {
		e := event.Event{OccurredAt: []byte(printed)}
		got, ok := e.OccurredTime()
		if !ok || got.Format(time.RFC3339Nano) != want || got.Location() != time.UTC {
			t.Errorf("%s is %s (%v), want %s", printed, got, ok, want)
		}
	}
}

func TestOccurredTimeIsFalseWhereThereIsNone(t *testing.T) {
	for _, printed := range []string{"", "infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "294276-12-31 23:59:59+00", "yesterday"} {
		e := event.Event{OccurredAt: []byte(printed)}
		if got, ok := e.OccurredTime(); ok {
			t.Errorf("%q is %s", printed, got)
		}
	}
	if _, ok := new(event.Event).OccurredTime(); ok {
		t.Error("NULL is a time")
	}
}

func TestOccurredRFC3339(t *testing.T) {
	for printed, want := range map[string]string{
		"2026-11-24 09:30:00.123456+00": "2026-11-24T09:30:00.123456Z",
		"2026-11-24 09:30:00+00":        "2026-11-24T09:30:00Z",
		"infinity":                      "infinity",
		"-infinity":                     "-infinity",
		"0044-03-15 00:00:00+00 BC":     "0044-03-15 00:00:00+00 BC",
		"294276-12-31 23:59:59+00":      "294276-12-31 23:59:59+00", // RFC 3339 has four digits for the year
		"2026-11-24 09:30:00+02":        "2026-11-24 09:30:00+02",
		"":                              "",
	} {
		e := event.Event{OccurredAt: []byte(printed)}
		if got := string(e.AppendOccurredRFC3339([]byte("at "))); got != "at "+want {
			t.Errorf("%q is %q, want %q", printed, got, want)
		}
	}
}

func FuzzOccurredRFC3339SaysTheSameTime(f *testing.F) {
	f.Add(int64(0))
	f.Add(int64(1_795_512_600_123_456))
	f.Add(int64(-62_135_596_800_000_000))
	f.Fuzz(func(t *testing.T, micros int64) {
		want := time.UnixMicro(micros).UTC()
		if want.Year() < 1 || want.Year() > 9999 {
			return
		}
		e := event.Event{OccurredAt: []byte(want.Format("2006-01-02 15:04:05.999999") + "+00")}
		got, err := time.Parse(time.RFC3339Nano, string(e.AppendOccurredRFC3339(nil)))
		if err != nil || !got.Equal(want) {
			t.Errorf("%s became %s, %v", e.OccurredAt, got, err)
		}
		if other, ok := e.OccurredTime(); !ok || !other.Equal(want) {
			t.Errorf("%s is read as %s, %v", e.OccurredAt, other, ok)
		}
	})
}

// FuzzOccurredTimeIsWhatTimeParses compares with the library on any text.
func FuzzOccurredTimeIsWhatTimeParses(f *testing.F) {
	for _, text := range []string{
		"2026-11-24 09:30:00.123456+00", "2026-11-24 09:30:00+00", "2026-02-29 09:30:00+00", "2024-02-29 23:59:59.9+00", "2026-11-24 24:00:00+00", "2026-11-24 09:30:60+00",
		"2026-11-24 09:30:00.+00", "2026-11-24 09:30:00,5+00", "2026-11-24 09:30:00.12345-+00", "2026-00-24 09:30:00+00", "2026-13-24 09:30:00+00", "2026-11-00 09:30:00+00",
		"0000-01-01 00:00:00+00", "20261-11-24 09:30:00+00", "2026-11-24 9:30:00+00", "2026-11-24T09:30:00+00", "2026-1a-24 09:30:00+00", "2026-11-24 09:30:00.123456+02", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e := event.Event{OccurredAt: []byte(text)}
		got, ok := e.OccurredTime()
		want, err := time.Parse("2006-01-02 15:04:05Z07", text)
		if ok != (err == nil) || ok && !got.Equal(want) {
			t.Errorf("%q is %s, %v, want %s, %v", text, got, ok, want, err)
		}
	})
}

func TestSizeCountsEveryField(t *testing.T) {
	var e event.Event
	fields := []*[]byte{
		&e.ID, &e.TenantID, &e.Topic, &e.AggregateType, &e.AggregateID, &e.OccurredAt, &e.SchemaID, &e.SchemaVersion,
		&e.Payload, &e.Metadata, &e.Status,
	}
	want := 0
	for i, field := range fields {
		*field = bytes.Repeat([]byte("x"), 1<<i)
		want += 1 << i
		if e.Size() != want {
			t.Errorf("after field %d the size is %d, want %d", i, e.Size(), want)
		}
	}
}
