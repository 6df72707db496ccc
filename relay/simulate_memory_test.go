package relay

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// rounds lets time pass, while all is done but what is published at z.
func (i *instance) rounds(n int) {
	for range n {
		i.round()
		i.w.pass(simSecond)
	}
}

// round does all but what is published at z.
func (i *instance) round() {
	slow := func(p *pending) bool { return p.publish && strings.HasSuffix(p.name, " z") }
	i.receive(4)
	i.ask()
	for {
		at := slices.IndexFunc(i.pending, func(p *pending) bool { return !slow(p) })
		if at < 0 {
			return
		}
		i.finish(at)
	}
}

// The events of a slow destination fill the budget. They are parked as soon as its call has ended, and others go on.
func TestSlowDestinationLeavesMemoryToOthers(t *testing.T) {
	for off, want := range map[string]bool{"": true, "slow destinations make room": false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(simRelay(), nil, off)
			w.relay.cfg.MemoryBudget = 12 * entryBytes
			w.insert(w.begin(), '1', "orders")
			w.start(nil)
			i := w.active()
			i.rounds(2)
			slow := w.begin()
			for range 12 {
				w.insert(slow, '2', "mail")
			}
			last := w.insert(w.begin(), '3', "orders")
			for _, tx := range w.db.log {
				tx.visible = true
			}
			i.rounds(10)
			i.round() // the last look at who is slow is no longer ago than the call's end
			i.finishNamed("publish a  z")
			i.rounds(5)
			if y := w.homes(last)[0][1]; w.landed(last, y) != want {
				t.Errorf("%q switched off: the last event is at %s: %v", off, y, !want)
			}
		})
	}
}
