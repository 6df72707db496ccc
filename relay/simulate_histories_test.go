package relay

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/sink"
)

// rareHistories are histories that chance seldom makes, by the protection that keeps them harmless.
var rareHistories = map[string]func(*world){
	"term checked behind the fence": frozenInstanceWakes,
	"placed among the adopted":      slotIsLostWithADeadEvent,
	"other destinations adopted":    slotIsLostWithADeadEvent,
	"epochs of timelines":           positionIsUsedAgain,
	"end in order known":            sessionStopsBeforeItHasSeenAll,
	"passed by the checkpoint":      slotIsLostWithAnOldEventThatWaits,
	"term checked behind a load":    frozenInstanceLoadsWhatIsInDoubt,
	"tail back to what is known":    frozenInstanceAppendsTwoBatches,
}

var simZ = park.Destination{Sink: "a", Name: "z"}

// frozenInstanceWakes: its successor has parked the first event of a key and published one of another; it publishes the next one of the key.
func frozenInstanceWakes(w *world) {
	tx := w.begin()
	for _, key := range []byte("121") {
		w.insert(tx, key, "mail")
	}
	w.broker.topic("z").poison["1.1"] = 1
	frozen := w.receiving(3)
	successor := w.receiving(2)
	successor.finishNamed("tail", "check the term", "publish", "park events", "publish")
	frozen.finishNamed("tail", "check the term", "publish")
}

// frozenInstanceAppendsTwoBatches: its successor has read the tail, appended nothing, and parked all that was refused. So the end is where the frozen one left it, and
// a broker that goes by the end alone takes what it sends, until it sees that it has lost the term.
func frozenInstanceAppendsTwoBatches(w *world) {
	tx := w.begin()
	var batches []sink.Entry
	for n := range 2 * w.publisher.largestBatch {
		at := w.insert(tx, '1'+byte(n), "mail").event.Position
		at.Epoch = 1
		batches = append(batches, sink.Entry{ID: string(tx.rows[n].event.ID), Position: at})
	}
	tx.visible = true
	z := w.broker.topic("z")
	successor := w.receiving(forEver)
	successor.finishNamed("tail", "check the term")
	z.refuses = true
	successor.finishNamed("publish", "park events")
	z.refuses = false
	z.append(w.db.term, batches)
	z.fence++ // the successor goes on from the old end
}

// frozenInstanceLoadsWhatIsInDoubt: an event of a key has landed, and the next one waits. A successor with other routes parks the first, in doubt.
func frozenInstanceLoadsWhatIsInDoubt(w *world) {
	tx := w.begin()
	for _, key := range []byte("11") {
		w.insert(tx, key, "orders")
	}
	w.broker.topic("x").poison["1.2"] = 1
	frozen := w.receiving(2)
	frozen.finishNamed("tail a", "check the term", "publish a", "park events")
	w.reroutes, w.script = true, []byte{1}
	successor := w.receiving(2)
	successor.finishNamed("park events")
	w.pass(simSecond)
	frozen.finishNamed("load parked events", "publish a")
}

// sessionStopsBeforeItHasSeenAll: a process dies with an event on its way, when a later one has landed elsewhere. The next one stops before it has received
// anything, and the one after that has other routes, by which the event goes where the later one is.
func sessionStopsBeforeItHasSeenAll(w *world) {
	w.insert(w.begin(), '1', "mail")
	w.insert(w.begin(), '2', "orders")
	i := w.receiving(2)
	i.finishNamed("tail a  x", "check the term", "publish a  x")
	w.end(i)
	w.start(nil)
	w.stop(w.active())
	w.reroutes, w.script = true, []byte{1}
	w.start(nil)
}

// slotIsLostWithADeadEvent: an event is dead at one destination, and neither it nor an earlier one of its key has come to another.
func slotIsLostWithADeadEvent(w *world) {
	tx := w.begin()
	first := w.insert(tx, '1', "orders")
	w.broker.topic("x").append(0, []sink.Entry{{ID: string(first.event.ID), Position: event.Position{Epoch: 1, Commit: tx.commit, Ordinal: 1}}})
	dead := w.insert(tx, '1', "orders")
	row := park.Row{Event: dead.event, Destination: park.Destination{Sink: "a", Name: "x"}, Target: "x", State: park.Dead, Blocks: true}
	row.Event.Position.Epoch = 1
	row.Key, _ = park.KeyOf(&row.Event, 0, nil)
	w.db.add([]park.Row{row})
	w.db.set(dead, "DEAD")
	tx.visible, w.db.slot.gone = true, true
}

// slotIsLostWithAnOldEventThatWaits: the checkpoint has passed an event that waits at one destination. At the other more has come since than a tail shows.
func slotIsLostWithAnOldEventThatWaits(w *world) {
	for n := range 4*w.publisher.largestBatch + 2 {
		tx := w.begin()
		row := w.insert(tx, '1'+byte(min(n, 1)), "orders")
		at := row.event.Position
		at.Epoch = 1
		entry := []sink.Entry{{ID: string(row.event.ID), Position: at}}
		w.broker.topic("y").append(0, entry)
		if n == 0 {
			parked := park.Row{Event: row.event, Destination: park.Destination{Sink: "a", Name: "x"}, Target: "x", Attempts: 1}
			parked.Event.Position.Epoch = 1
			parked.Key, _ = park.KeyOf(&parked.Event, 0, nil)
			w.db.add([]park.Row{parked})
		} else {
			w.broker.topic("x").append(0, entry)
			w.db.set(row, "SENT")
		}
		tx.visible, w.db.record.Confirmed, w.db.slot.confirmed = true, tx.end, tx.end
	}
	w.db.slot.gone = true
}

// positionIsUsedAgain: a standby has taken the server's place without a transaction that was published, and another one has its position.
func positionIsUsedAgain(w *world) {
	lost := w.insert(w.begin(), '1', "mail")
	w.db.log = nil
	delete(w.db.rows, string(lost.event.ID))
	w.gone[string(lost.event.ID)] = lost
	at := lost.event.Position
	at.Epoch = 1
	w.broker.topic("z").append(0, []sink.Entry{{ID: string(lost.event.ID), Position: at}})
	w.db.timelines = []event.LSN{w.db.end() + 1}
	w.insert(w.begin(), '1', "mail")
}

// finishNamed finishes one after the other what the core has asked for, by the beginnings of their names; those that it has not are left out.
func (i *instance) finishNamed(names ...string) {
	for _, name := range names {
		if n := slices.IndexFunc(i.pending, func(p *pending) bool { return strings.HasPrefix(p.name, name) }); n >= 0 {
			i.finish(n)
		}
	}
}

// receiving begins a session that receives so many events.
func (w *world) receiving(events int) *instance {
	w.start(nil)
	i := w.active()
	i.receive(events)
	i.ask()
	return i
}

func TestRareHistoriesOfTheSimulationAreHarmless(t *testing.T) {
	for protection, history := range rareHistories {
		t.Run(protection, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if fault, lines := playRare(simRelay(), history, ""); fault != "" {
					t.Fatalf("%s\n=> %s", strings.Join(lines, "\n"), fault)
				}
			})
		})
	}
}

// A scan of a backlog has loaded ahead nothing but rows that it passes over, because a dead event holds them back. It goes on behind them, at once.
func TestScanGoesOnBehindRowsThatAreHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(simRelay(), nil, "")
		tx := w.begin()
		var rows []park.Row
		for _, key := range []byte("1" + "211" + "111" + "3") { // a dead event; two batches of the scan, and what is behind
			row := park.Row{Event: w.insert(tx, key, "mail").event, Destination: simZ, Target: "z"}
			row.Event.Position.Epoch = 1
			row.Key, _ = park.KeyOf(&row.Event, 0, nil)
			rows = append(rows, row)
		}
		rows[0].State, rows[0].Blocks = park.Dead, true
		w.db.add(rows)
		tx.visible, w.db.record.Confirmed, w.db.slot.confirmed = true, tx.end, tx.end
		w.start(nil)
		w.settleDown()
		for range 3 {
			w.pass(simSecond)
			w.settleDown()
		}
		if last := w.db.rows["1.8"]; !w.landed(last, simZ) {
			t.Fatalf("%s waits though nothing holds it back: %v are at %s", last.event.ID, w.broker.topic("z").entries, simZ)
		}
	})
}

// The first row of a backlog is refused for the last time while a person skips it. Later events of its key wait behind nothing.
func TestRowThatIsSkippedWhileAScanDeliversItBlocksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fault, lines := playRare(simRelay(), func(w *world) {
			tx := w.begin()
			for _, key := range []byte("12") { // more than are remembered
				row := park.Row{Event: w.insert(tx, key, "orders").event, Destination: park.Destination{Sink: "a", Name: "x"}, Target: "x", Attempts: 1}
				row.Event.Position.Epoch = 1
				row.Key, _ = park.KeyOf(&row.Event, 0, nil)
				w.db.add([]park.Row{row})
				w.broker.topic("y").append(0, []sink.Entry{{ID: string(row.Event.ID), Position: row.Event.Position}})
			}
			w.broker.topic("x").poison["1.1"] = forEver
			tx.visible, w.db.record.Confirmed, w.db.slot.confirmed = true, tx.end, tx.end
			w.start(nil)
			i := w.active()
			i.finishNamed("tail", "check the term", "load parked events")
			w.skip()
			i.core.nudged()
			i.ask()
			i.finishNamed("look at what a command has changed", "publish", "settle parked events")
			w.insert(w.begin(), '1', "orders")
		}, "")
		if fault != "" {
			t.Fatalf("%s\n=> %s", strings.Join(lines, "\n"), fault)
		}
	})
}

// The checkpoint passes an event while the table lane settles it. The statement knows the older checkpoint and notes it as done only; the next checkpoint
// may be long in coming.
func TestEventThatTheCheckpointPassesWhileItIsSettledIsRemovedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(simRelay(), nil, "")
		tx := w.begin()
		row := w.insert(tx, '1', "mail")
		tx.visible = true
		w.broker.topic("z").poison["1.1"] = 1
		i := w.receiving(forEver)
		i.finishNamed("tail", "check the term", "publish", "park events")
		w.pass(simSecond / 100)
		i.finishNamed("load parked events", "publish")
		for range 5 {
			w.pass(simSecond)
			i.finishNamed("settle and save")
		}
		if w.db.record.Confirmed < tx.end || !w.landed(row, simZ) || row.status == "SENT" {
			t.Fatalf("it is %v, landed %v, when the checkpoint passes it", row.status, w.landed(row, simZ))
		}
		i.finishNamed("settle parked events")
		i.finishNamed("remove delivered events")
		if w.parkedAt(row, simZ) != nil || row.status != "SENT" {
			t.Errorf("it is %v and parked: %+v", row.status, w.parkedAt(row, simZ))
		}
	})
}

// The settler is busy, and as many rows have gathered as one statement settles.
func TestClerkSettlesWhileTheSettlerIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(simRelay(), nil, "")
		tx := w.begin()
		var rows []*simRow
		for _, key := range []byte("1234") {
			rows = append(rows, w.insert(tx, key, "mail"))
		}
		tx.visible = true
		i := w.receiving(forEver)
		i.finishNamed("tail", "check the term", "publish")
		i.finishNamed("publish")
		w.pass(simSecond)
		i.finishNamed("settle rows")
		for n, want := range []string{"NEW", "NEW", "SENT", "SENT"} {
			if rows[n].status != want {
				t.Errorf("row %d is %s while the settler is busy, want %s", n+1, rows[n].status, want)
			}
		}
		w.conclude()
	})
}
