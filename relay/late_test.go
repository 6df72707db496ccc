package relay

import (
	"testing"
	"testing/synctest"
	"time"
)

// One destination hangs, and others stand behind what the reader has left in the log: the core has to wake when the first one is late.
func TestReadingGoesOnWhenADestinationIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(simRelay(), nil, "")
		w.relay.cfg.MemoryBudget = 64 * entryBytes
		w.relay.cfg.Table.Sweep, w.relay.cfg.Table.FullSweep, w.relay.cfg.MeasureInterval = 30*time.Second, time.Hour, time.Minute
		slow := w.begin()
		for range 20 {
			w.insert(slow, '2', "mail")
		}
		w.insert(w.begin(), '3', "orders")
		for _, tx := range w.db.log {
			tx.visible = true
		}
		w.start(nil)
		i := w.active()
		i.ask()
		time.Sleep(10 * time.Second) // the first sweep is over
		for range 3 {
			i.round()
		}
		if !i.core.budget.enough.Load() {
			t.Fatal("the reader does not wait")
		}
		if wake := i.core.untilNextWake(); wake > slowAfter {
			t.Errorf("the core sleeps for %s", wake)
		}
	})
}
