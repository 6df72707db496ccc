package relay

import (
	"strings"
	"testing"
	"testing/synctest"
)

// All events of a destination are parked until its backlog is delivered, and while each of the parks is under way another event comes. The lanes take turns all the same.
func TestBacklogIsDeliveredThoughNewEventsAreParkedWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const backlog, most = 60, 2000
		w := newWorld(simRelay(), nil, "")
		w.broker.topic("z").refuses = true
		tx := w.begin()
		for n := range backlog {
			w.insert(tx, '1'+byte(n%3), "mail")
		}
		tx.visible = true
		w.start(nil)
		w.settleDown()
		if n := len(w.db.parked); n != backlog {
			t.Fatalf("%d events are parked, want %d", n, backlog)
		}
		w.broker.topic("z").refuses = false
		i := w.active()
		w.pass(simSecond)
		i.finishNamed("probe")
		w.receiveOne(i)
		last, steps, parks := tx.rows[backlog-1], 0, 0
		for ; steps < most && !w.landed(last, simZ); steps++ {
			i.ask()
			if len(i.pending) == 0 {
				w.pass(simSecond)
				continue
			}
			if strings.HasPrefix(i.pending[0].name, "park events") {
				w.receiveOne(i)
				parks++
			}
			i.finish(0)
			w.check()
		}
		if steps == most || parks < backlog/w.relay.cfg.largestBatch {
			t.Fatalf("after %d steps and %d parks %d events have arrived", steps, parks, len(w.broker.topic("z").entries))
		}
		w.conclude()
	})
}

// receiveOne commits one more event, and the session receives it.
func (w *world) receiveOne(i *instance) {
	tx := w.begin()
	w.insert(tx, '1', "mail")
	tx.visible = true
	i.receive(1)
}
