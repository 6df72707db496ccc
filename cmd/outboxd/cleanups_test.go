package main

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestWhatWasMadeLastIsTakenAwayFirstWhateverFails(t *testing.T) {
	var order []string
	var made cleanups
	failure := errors.New("it is in use")
	for what, err := range map[string]error{"stop the server": nil, "drop the slot": failure} {
		made.add(what, func(context.Context) error {
			order = append(order, what)
			return err
		})
	}
	want := []string{made[1].what, made[0].what}
	if err := made.run(t.Context()); !errors.Is(err, failure) || err.Error() != "drop the slot: it is in use" {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(order, want) {
		t.Errorf("taken away: %v, want %v", order, want)
	}
}
