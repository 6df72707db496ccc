package relay

import "testing"

// A hundred topics of a broker that hangs are probed, and one that may have recovered comes behind them.
func TestThoseThatTookLongLeaveRoomToOthers(t *testing.T) {
	const publishers = 4
	var q line[int]
	for i := range 100 {
		q.push(i, true)
	}
	for busy := range publishers / 2 {
		if one, slow, ok := q.next(publishers); !ok || !slow || one != busy {
			t.Fatalf("%d, slow %v, %v; want %d of those that took long", one, slow, ok, busy)
		}
	}
	if one, _, ok := q.next(publishers); ok {
		t.Fatalf("%d has more than half of the publishers", one)
	}
	q.push(1000, false)
	if one, slow, ok := q.next(publishers); !ok || slow || one != 1000 {
		t.Fatalf("%d, slow %v, %v; want the one that did not take long", one, slow, ok)
	}
	q.busySuspects--
	if one, _, ok := q.next(publishers); !ok || one != 2 {
		t.Errorf("%d, %v; want the next of those that took long", one, ok)
	}
	if q.len() != 97 {
		t.Errorf("%d are left, want 97", q.len())
	}
}
