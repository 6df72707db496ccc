package event_test

import (
	"bytes"
	"testing"

	"github.com/outboxd/outboxd/event"
)

func TestKeyIsTenantTypeAndID(t *testing.T) {
	for _, c := range []struct {
		event event.Event
		want  string
	}{
		{event.Event{ID: []byte("1"), TenantID: []byte("acme"), AggregateType: []byte("order"), AggregateID: []byte("42")}, "acme/order/42"},
		{event.Event{ID: []byte("1"), TenantID: []byte("acme"), AggregateID: []byte("42")}, "acme//42"},
		{event.Event{ID: []byte("1"), TenantID: []byte("acme"), AggregateType: []byte("order"), AggregateID: []byte("")}, "acme/order/"},
		{event.Event{ID: []byte("1"), TenantID: []byte("acme"), AggregateType: []byte("order")}, "acme/#1"},
		{event.Event{ID: []byte("1"), TenantID: []byte("a/b%"), AggregateType: []byte("%2F"), AggregateID: []byte("é/")}, "a%2Fb%25/%252F/é%2F"},
	} {
		if got := string(c.event.AppendKey([]byte("key "))); got != "key "+c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// Events share a key exactly when tenant, aggregate type and aggregate id are the same; without an aggregate id, when they are the same event. An
// absent aggregate type is the empty one.
func TestDifferentKeysNeverShareAText(t *testing.T) {
	values := [][]byte{nil, {}, []byte("a"), []byte("#"), []byte("#a"), []byte("/"), []byte("a/"), []byte("/a"), []byte("%2F"), []byte("%"), []byte("//")}
	seen := map[string]event.Event{}
	for _, tenant := range values {
		for _, kind := range values {
			for _, aggregate := range values {
				for _, id := range values {
					checkKey(t, seen, event.Event{TenantID: tenant, AggregateType: kind, AggregateID: aggregate, ID: id})
				}
			}
		}
	}
}

func checkKey(t *testing.T, seen map[string]event.Event, e event.Event) {
	t.Helper()
	key := string(e.AppendKey(nil))
	other, taken := seen[key]
	if taken && !sameKey(&e, &other) {
		t.Fatalf("%+v and %+v share %q", e, other, key)
	}
	seen[key] = e
}

func sameKey(a, b *event.Event) bool {
	if !bytes.Equal(a.TenantID, b.TenantID) || (a.AggregateID == nil) != (b.AggregateID == nil) {
		return false
	}
	if a.AggregateID == nil {
		return bytes.Equal(a.ID, b.ID)
	}
	return bytes.Equal(a.AggregateType, b.AggregateType) && bytes.Equal(a.AggregateID, b.AggregateID)
}

func FuzzDifferentKeysNeverShareAText(f *testing.F) {
	f.Add([]byte("a"), []byte("b/c"), []byte("d"), []byte("1"), true, []byte("a/b"), []byte("c"), []byte("d"), []byte("1"), true)
	f.Add([]byte("a"), []byte("b"), []byte(""), []byte("1"), false, []byte("a"), []byte("#1"), []byte(""), []byte("1"), true)
	f.Fuzz(func(t *testing.T, tenant1, kind1, aggregate1, id1 []byte, has1 bool, tenant2, kind2, aggregate2, id2 []byte, has2 bool) {
		one, two := keyed(tenant1, kind1, aggregate1, id1, has1), keyed(tenant2, kind2, aggregate2, id2, has2)
		alike := bytes.Equal(one.AppendKey(nil), two.AppendKey(nil))
		if alike != sameKey(&one, &two) {
			t.Errorf("%+v and %+v: alike %v", one, two, alike)
		}
	})
}

func keyed(tenant, kind, aggregate, id []byte, hasAggregate bool) event.Event {
	e := event.Event{TenantID: tenant, AggregateType: kind, ID: id}
	if hasAggregate {
		e.AggregateID = append([]byte{}, aggregate...)
	}
	return e
}
