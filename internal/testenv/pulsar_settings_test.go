package testenv

import (
	"slices"
	"testing"
)

func TestLastLineOfEachNameStays(t *testing.T) {
	got := lastOfEach([]string{"# a", "a=1", "b=2", "", "a=3=4"})
	if want := []string{"# a", "b=2", "", "a=3=4"}; !slices.Equal(got, want) {
		t.Errorf("%q stay, want %q", got, want)
	}
}
