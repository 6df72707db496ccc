package outbox_test

import (
	"testing"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
)

// History 6 of the protocol: a person skips an event at one destination before the log lane has disposed of it at another. Its row must not
// become SENT before, or the sweep would take that for a skip there; and the skipped row stays until then, or a replay would park the event anew.
func TestSkippedRowStaysUntilTheEventIsPassedAndDoneEverywhere(t *testing.T) {
	l := setupLane(t, outbox.Config{})
	later := event.Position{Epoch: passed.Epoch, Commit: passed.Commit + 8, Ordinal: 1}
	beyond := event.Position{Epoch: passed.Epoch, Commit: passed.Commit + 16}
	sweep := func(passed event.Position) {
		t.Helper()
		if _, _, _, err := l.table.Finish(t.Context(), l.conn, l.lease, passed, 10); err != nil {
			t.Fatal(err)
		}
		if _, skipped, err := l.table.SkipSent(t.Context(), l.conn, l.lease, "", 10); err != nil || skipped != 0 {
			t.Fatalf("%d rows were taken for skipped, %v", skipped, err)
		}
	}
	l.row(1, "NEW")
	l.park(1, at{destination: "d", state: "waiting", position: later})
	if n, err := park.Skip(t.Context(), l.conn, "outboxd", "slot", park.Filter{IDs: []string{"1"}}, "test"); n != 1 || err != nil {
		t.Fatalf("%d rows skipped, %v", n, err)
	}
	sweep(passed)
	l.want("1=NEW", "1@d=skipped")

	again := park.Row{
		Event:       event.Event{ID: []byte("1"), Position: later, TenantID: []byte("acme"), Topic: []byte("t"), Payload: []byte("{}")},
		Destination: park.Destination{Sink: "sink", Name: "d"}, Target: "d",
	}
	if n, err := park.Insert(t.Context(), l.conn, l.lease, []park.Row{again}); n != 0 || err != nil {
		t.Fatalf("a replay parked %d rows, %v; want none", n, err)
	}
	l.park(1, at{destination: "e", state: "waiting", position: later})
	sweep(beyond)
	l.want("1=NEW", "1@d=skipped 1@e=waiting")

	if err := l.table.Deliver(t.Context(), l.conn, l.lease, "sink", "e", beyond, l.refs(1)); err != nil {
		t.Fatal(err)
	}
	l.want("1=SENT", "")
}
