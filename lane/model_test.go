package lane_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/lane"
)

// world is a destination with everything around it that can go wrong: a log that is replayed from the checkpoint, a broker
// that loses answers and applies a cut-off batch late unless it is fenced, and a process that dies.
type world struct {
	lane      *lane.Destination[int]
	committed int          // events in the log
	received  int          // pushed since the process started
	confirmed int          // the checkpoint: all up to here are disposed of
	disposed  map[int]bool // since the process started
	broker    []int        // what landed, in order
	inFlight  []int
	late      []int // a batch cut off by its connection, which the broker may still apply
}

func (w *world) restart() {
	frontier := at(w.confirmed)
	if w.confirmed == 0 {
		frontier = start()
	}
	w.lane = lane.New[int](frontier, frontier.Epoch, keyOf)
	w.received, w.disposed, w.inFlight = w.confirmed, map[int]bool{}, nil
}

func (w *world) landed(i lane.Item[int]) { w.disposed[i.Value] = true }

func (w *world) highest() event.Position {
	if len(w.broker) == 0 {
		return event.Position{}
	}
	return at(w.broker[len(w.broker)-1])
}

// check is the promise: the broker holds events 1, 2, 3... without a gap or a double, and what is confirmed is there.
func (w *world) check(t *rapid.T) {
	for i, v := range w.broker {
		if v != i+1 {
			t.Fatalf("the broker holds %v", w.broker)
		}
	}
	if w.confirmed > len(w.broker) {
		t.Fatalf("confirmed %d events of which %d landed", w.confirmed, len(w.broker))
	}
}

func (w *world) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"commit": func(*rapid.T) { w.committed++ },
		"receive": func(t *rapid.T) {
			if w.received == w.committed {
				t.Skip()
			}
			w.received++
			if !w.lane.Push(lane.Item[int]{Position: at(w.received), Size: 1, Value: w.received}) {
				w.disposed[w.received] = true
			}
		},
		"read tail": func(t *rapid.T) {
			if w.lane.State() != lane.Unread {
				t.Skip()
			}
			w.lane.Read()
			if rapid.Bool().Draw(t, "fails") {
				w.lane.TailFailed()
				return
			}
			w.late = nil // the fence
			if err := w.lane.TailRead(w.highest(), w.landed); err != nil {
				t.Fatal(err)
			}
		},
		"take": func(t *rapid.T) {
			if w.lane.State() != lane.Ready || w.lane.Queued() == 0 {
				t.Skip()
			}
			w.inFlight = values(w.lane.Take(nil, rapid.IntRange(1, 4).Draw(t, "count"), 1<<20))
		},
		"answer": func(t *rapid.T) {
			if w.lane.State() != lane.Publishing {
				t.Skip()
			}
			n := rapid.IntRange(0, len(w.inFlight)).Draw(t, "accepted")
			w.broker = append(w.broker, w.inFlight[:n]...)
			w.lane.Published(n, true, w.landed)
		},
		"cut connection": func(t *rapid.T) {
			if w.lane.State() != lane.Publishing {
				t.Skip()
			}
			answered := rapid.IntRange(0, len(w.inFlight)-1).Draw(t, "answered")
			applied := rapid.IntRange(answered, len(w.inFlight)).Draw(t, "applied")
			w.broker = append(w.broker, w.inFlight[:applied]...)
			w.late = w.inFlight[applied:]
			w.lane.Published(answered, false, w.landed)
		},
		"apply late": func(t *rapid.T) {
			if len(w.late) == 0 {
				t.Skip()
			}
			w.broker = append(w.broker, w.late...)
			w.late = nil
		},
		"confirm": func(*rapid.T) {
			for w.disposed[w.confirmed+1] {
				w.confirmed++
			}
		},
		"kill": func(*rapid.T) {
			if w.lane.State() == lane.Publishing {
				w.late = w.inFlight
			}
			w.restart()
		},
		"": w.check,
	}
}

func TestEveryEventLandsOnceAndInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{}
		w.restart()
		t.Repeat(w.actions())
		w.settle(t)
	})
}

// settle lets the world come to rest without faults: then everything committed has landed.
func (w *world) settle(t *rapid.T) {
	for w.received < w.committed {
		w.received++
		w.lane.Push(lane.Item[int]{Position: at(w.received), Size: 1, Value: w.received})
	}
	for w.lane.Len() > 0 {
		switch w.lane.State() {
		case lane.Unread:
			w.late = nil
			w.lane.Read()
			if err := w.lane.TailRead(w.highest(), w.landed); err != nil {
				t.Fatal(err)
			}
		case lane.Ready:
			w.inFlight = values(w.lane.Take(nil, 10, 1<<20))
		case lane.Publishing:
			w.broker = append(w.broker, w.inFlight...)
			w.lane.Published(len(w.inFlight), true, w.landed)
		case lane.Reading, lane.Parking, lane.Lent:
			t.Fatal("a tail read without an end")
		}
	}
	w.check(t)
	if len(w.broker) != w.committed {
		t.Fatalf("%d events committed, %d landed", w.committed, len(w.broker))
	}
}
