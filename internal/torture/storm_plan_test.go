package torture

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// rounds writes down the first n rounds of a storm.
func rounds(s *storm, n int) []string {
	var all []string
	for range n {
		r := s.next()
		line := fmt.Sprintf("%v %v", r.pause, r.settle)
		for _, a := range r.actions {
			line += fmt.Sprintf(" %s %v %v %d", a.name, a.at, a.hold, a.choice)
		}
		all = append(all, line)
	}
	return all
}

func TestSeedDecidesTheStorm(t *testing.T) {
	first := rounds(newStorm(7, faults, time.Hour), 200)
	if !slices.Equal(first, rounds(newStorm(7, faults, time.Hour), 200)) {
		t.Error("two storms of one seed differ")
	}
	if slices.Equal(first, rounds(newStorm(8, faults, time.Hour), 200)) {
		t.Error("storms of two seeds are the same")
	}
}

func TestEachFaultComesAloneFirst(t *testing.T) {
	s := newStorm(3, faults, time.Hour)
	alone := map[string]bool{}
	for range faults {
		r := s.next()
		if len(r.actions) != 1 || !r.settle {
			t.Fatalf("a round has %d faults, settle %v", len(r.actions), r.settle)
		}
		alone[r.actions[0].name] = true
	}
	if len(alone) != len(faults) {
		t.Errorf("%d of %d faults came alone", len(alone), len(faults))
	}
}

func TestRoundHasNoTwoFaultsOfOneTarget(t *testing.T) {
	s := newStorm(4, faults, 0)
	for range 1000 {
		r := s.next()
		targets := map[string]bool{}
		for _, a := range r.actions {
			if targets[a.target] {
				t.Fatalf("a round has two faults of %s", a.target)
			}
			targets[a.target] = true
		}
	}
}

func TestRoundOfASettlingFaultBeginsAndEndsCalm(t *testing.T) {
	s := newStorm(6, faults, time.Hour)
	calm := 0
	for range 1000 {
		r := s.next()
		settles := slices.ContainsFunc(r.actions, func(a action) bool { return a.settles })
		if r.calm != settles || settles && !r.settle {
			t.Fatalf("a round with %v begins calm: %v, settles: %v", r.actions, r.calm, r.settle)
		}
		if settles {
			calm++
		}
	}
	if calm == 0 {
		t.Error("no round has a fault that settles")
	}
}

func TestStepsOfARoundAreInOrder(t *testing.T) {
	s := newStorm(5, faults, 0)
	for range 1000 {
		r := s.next()
		begun := map[int]bool{}
		last := time.Duration(0)
		for _, step := range r.steps() {
			if step.at < last || step.heals != begun[step.which] {
				t.Fatalf("step %+v after %v, begun %v", step, last, begun[step.which])
			}
			begun[step.which], last = true, step.at
		}
	}
}

func TestFaultsAreChosenByName(t *testing.T) {
	for _, c := range []struct{ sink, faults, want string }{
		{"redis", "redis-kill,outboxd-*", "redis-kill outboxd-kill outboxd-pause outboxd-usurp outboxd-roll"},
		{"pulsar", "pulsar-*", "pulsar-disk-full pulsar-kill pulsar-freeze"},
		{"pulsar", "redis-kill", `FAULTS=redis-kill: no fault of sink pulsar has this name; there are ` + strings.Join(names("pulsar"), ", ")},
		{"kafka", "all", "SINK=kafka: choose redis or pulsar"},
	} {
		all, err := (&options{sink: c.sink, faults: c.faults}).chosen()
		var got []string
		for _, f := range all {
			got = append(got, f.name)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("SINK=%s FAULTS=%s chooses %s, want %s", c.sink, c.faults, text, c.want)
		}
	}
}

func TestWhatIsExceptedIsInjectedByNameOnly(t *testing.T) {
	all, err := (&options{sink: "pulsar", faults: "all"}).chosen()
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(all, func(f fault) bool { return f.excepted }) {
		t.Error("all has a fault whose outcome is excepted")
	}
}

func TestFaultThatTheMachineCannotInjectIsLeftOut(t *testing.T) {
	asked := 0
	heavy := &need{func() error { asked++; return errors.New("too heavy") }}
	all, leftOut := able([]fault{{name: "a", needs: heavy}, {name: "b"}, {name: "c", needs: &need{func() error { return nil }}}, {name: "d", needs: heavy}})
	if len(all) != 2 || all[0].name != "b" || all[1].name != "c" {
		t.Errorf("stays %v", all)
	}
	if !slices.Equal(leftOut, []string{"a: too heavy", "d: too heavy"}) || asked != 1 {
		t.Errorf("left out %q, asked %d times", leftOut, asked)
	}
	if !needed(heavy, []fault{{}, {needs: heavy}}) || needed(heavy, all) {
		t.Error("what is needed is not seen")
	}
	if text := (&report{LeftOut: leftOut}).String(); !strings.Contains(text, "left out: a: too heavy\n") {
		t.Errorf("the report says %s", text)
	}
}
