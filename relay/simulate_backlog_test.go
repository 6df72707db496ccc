package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/outboxd/outboxd/park"
)

// A scan of a backlog has loaded ahead nothing but rows that it passes over, because a dead event holds them back. It goes on behind them, at once.
func TestScanGoesOnBehindRowsThatAreHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(simRelay(), nil, "")
		tx := w.begin()
		z := park.Destination{Sink: "a", Name: "z"}
		var rows []park.Row
		for _, key := range []byte("1" + "211" + "111" + "3") { // a dead event; two batches of the scan, and what is behind
			r := w.insert(tx, key, "mail")
			row := park.Row{Event: r.event, Destination: z, Target: "z"}
			row.Event.Position.Epoch = 1
			row.Key, _ = park.KeyOf(&row.Event, 0, nil)
			rows = append(rows, row)
		}
		rows[0].State, rows[0].Blocks = park.Dead, true
		w.db.add(rows)
		tx.visible, w.db.record.Confirmed, w.db.slot.confirmed = true, tx.end, tx.end
		w.start(nil)
		w.settleDown()
		began := time.Now()
		for last := w.db.rows["1.8"]; !w.landed(last, z); w.pass(time.Millisecond) {
			if time.Since(began) > time.Second {
				t.Fatalf("%s waits though nothing holds it back: %v are at %s", last.event.ID, w.broker.topic("z").entries, z)
			}
			w.settleDown()
		}
	})
}
