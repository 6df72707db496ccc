package torture

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// action is one fault of a round. What it does beyond that is decided by choice.
type action struct {
	fault
	at, hold time.Duration // since the round's beginning, and until it is healed
	choice   uint64
}

// round is a group of faults whose times overlap.
type round struct {
	actions []action
	pause   time.Duration // after the last one is healed
	settle  bool          // then everything that was committed so far has to arrive
	calm    bool          // it begins when nothing of the rounds before it is left
}

// storm decides what happens. It is pure: the same seed and faults give the same rounds.
type storm struct {
	random *rand.Rand
	faults []fault
	alone  []fault // still to have a round for themselves
}

// aloneEach is about what a round of one fault takes; they get half of the time at most.
const aloneEach = 5 * time.Second

func newStorm(seed uint64, chosen []fault, length time.Duration) *storm {
	s := &storm{random: rand.New(rand.NewPCG(seed, 0)), faults: chosen} //nolint:gosec // no secret
	if length >= 2*aloneEach*time.Duration(len(chosen)) {
		s.alone = slices.Clone(chosen)
		s.random.Shuffle(len(s.alone), func(i, j int) { s.alone[i], s.alone[j] = s.alone[j], s.alone[i] })
	}
	return s
}

// next returns the next round.
func (s *storm) next() round {
	if len(s.alone) > 0 {
		f := s.alone[0]
		s.alone = s.alone[1:]
		return round{actions: []action{s.plan(f, 0)}, settle: true, calm: f.settles}
	}
	r := round{pause: s.between(0, 3*time.Second), settle: s.random.IntN(3) == 0}
	targets := map[string]bool{}
	for range 1 + s.random.IntN(3) {
		f := s.faults[s.random.IntN(len(s.faults))]
		a := s.plan(f, s.between(0, 2*time.Second))
		if !targets[f.target] {
			targets[f.target] = true
			r.settle, r.calm = r.settle || f.settles, r.calm || f.settles
			r.actions = append(r.actions, a)
		}
	}
	return r
}

func (s *storm) plan(f fault, at time.Duration) action {
	return action{fault: f, at: at, hold: s.between(f.hold[0], f.hold[1]), choice: s.random.Uint64()}
}

func (s *storm) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.random.Int64N(int64(to-from)+1))
}

// step is the beginning or the end of an action.
type step struct {
	at    time.Duration
	which int // index of the action
	heals bool
}

// steps returns what a round does, in the order in which it is done, however long each takes.
func (r *round) steps() []step {
	var all []step
	for i, a := range r.actions {
		all = append(all, step{a.at, i, false}, step{a.at + a.hold, i, true})
	}
	slices.SortStableFunc(all, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return all
}

// run plays a round. One goroutine does everything, because a server is told one thing at a time.
func (r *round) run(on *rig) {
	if r.calm && !on.calm() {
		on.timeline.add("note", "a round is left out, as it must meet nothing of those before it")
		return
	}
	began := time.Now()
	cures := make([]heal, len(r.actions))
	for _, s := range r.steps() {
		time.Sleep(time.Until(began.Add(s.at)))
		if s.heals {
			on.heal(&r.actions[s.which], cures[s.which])
		} else {
			cures[s.which] = on.inject(&r.actions[s.which])
		}
	}
	time.Sleep(r.pause)
	if r.settle {
		on.settle()
	}
}

// inject makes a fault happen. One that cannot is noted: another fault of the round may be in its way.
func (r *rig) inject(a *action) heal {
	began := time.Now()
	on, cure, err := a.inject(r, rand.New(rand.NewPCG(a.choice, 0))) //nolint:gosec // no secret
	if err != nil {
		on += ", which failed: " + err.Error()
	}
	r.timeline.fault(a, on, time.Since(began))
	return cure
}

// heal takes a fault away, which must succeed: the next round, and the verdict, count on it.
func (r *rig) heal(a *action, cure heal) {
	if cure == nil {
		return
	}
	var err error
	began := time.Now()
	healed := until(time.Minute, func() bool {
		err = cure()
		return err == nil
	})
	if !healed {
		r.t.Fatalf("heal %s: %v", a.name, err)
	}
	r.timeline.add("heal", "%s after %s", a.name, time.Since(began).Round(time.Millisecond))
}

const settlePatience = 90 * time.Second

// calm waits until every slot is read and then until what is committed has arrived: nothing is left that the loss of a slot concerns.
func (r *rig) calm() bool {
	return until(settlePatience, r.streaming) && r.settle()
}

// settle waits until what is committed now has arrived.
func (r *rig) settle() bool {
	want, began := r.producer.Totals().Committed, time.Now()
	var arrived int64
	if !until(settlePatience, func() bool { arrived, _ = r.meter.read(); return arrived >= want }) {
		r.timeline.add("note", "%d of %d events have not arrived after %s", want-arrived, want, settlePatience)
		r.tellDue()
		return false
	}
	r.timeline.settled(time.Since(began))
	return true
}
