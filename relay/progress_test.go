package relay

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
)

// The events of a transaction can be settled, and the checkpoint saved, before its commit is received: that moves the safe position, and is to be saved, too.
func TestCommitOfSettledEventsIsProgress(t *testing.T) {
	used := newChunk(10)
	used.refs = 1
	c := &core{
		cfg: &Config{Log: zerolog.Nop()}, facts: &facts{}, budget: newBudget(1), tracker: checkpoint.NewTracker(10), keep: true,
		parkedStrays: map[string]bool{"a": true}, // goes nowhere
	}
	c.saved = c.tracker.Safe()
	c.apply(mark{kind: markBegin}, used)
	c.accept(&entry{chunk: used, event: event.Event{ID: []byte("a")}})
	c.progress = false // a save
	c.apply(mark{kind: markCommit, lsn: 20}, used)
	if c.clean() || !c.wantsSave() {
		t.Error("the checkpoint need not be saved")
	}
	c.saved, c.progress = c.tracker.Safe(), false
	c.apply(mark{kind: markBegin}, used)
	c.apply(mark{kind: markCommit, lsn: 30}, used)
	if !c.clean() || c.wantsSave() {
		t.Error("an empty transaction is to be saved")
	}
}
