package lane

import "testing"

// Nothing of a destination whose breaker is open is loaded, however often a person has its events tried again.
func TestCommandsInAnOutageCostNoMemory(t *testing.T) {
	var w Waiting
	const keys = 1000
	for key := range uint64(keys) {
		w.Add(key, 0)
	}
	for now := range int64(100) {
		w.Rouse(1000 + now)
	}
	if len(w.held) > keys {
		t.Errorf("%d keys have %d due times", keys, len(w.held))
	}
}
