package wal

import (
	"testing"
	"time"

	"github.com/outboxd/outboxd/event"
)

func TestOnlyEarlyQuestionsForTheSamePositionMeanStopping(t *testing.T) {
	const end = 100
	start := time.Unix(1_700_000_000, 0)
	tests := []struct {
		name      string
		confirmed int
		apart     time.Duration // from our reply to the next question
		step      int           // how far the end of the log moves between two questions
		stopping  bool
	}{
		{name: "at once, unconfirmed", apart: time.Millisecond, stopping: true},
		{name: "at once, confirmed", confirmed: end, apart: time.Millisecond},
		{name: "after half of the timeout", apart: 30 * time.Second},
		{name: "at once, but the log goes on", apart: time.Millisecond, step: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k := newKeepalives(time.Minute)
			now, stopped := start, false
			for i := range 3 * stoppingRepeats {
				k.replied(now)
				now = now.Add(test.apart)
				_, stopping := k.asked(event.LSN(end+i*test.step), event.LSN(test.confirmed), now)
				stopped = stopped || stopping
			}
			if stopped != test.stopping {
				t.Errorf("stopping is %v, want %v", stopped, test.stopping)
			}
		})
	}
}

func TestRepeatedQuestionsAreAnsweredAtAPace(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	k := newKeepalives(time.Minute)
	k.replied(now)
	if answer, _ := k.asked(100, 0, now); !answer || k.pending() {
		t.Fatal("the first question is answered at once")
	}
	k.replied(now)
	if answer, _ := k.asked(100, 0, now); answer || !k.dueAt.Equal(now.Add(repeatPace)) {
		t.Fatalf("the second is answered after %s, got due at %v", repeatPace, k.dueAt)
	}
	if k.replied(now); k.pending() {
		t.Fatal("a status that is sent anyway answers it")
	}
}
