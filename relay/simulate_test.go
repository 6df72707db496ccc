package relay

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
)

var (
	seeds     = flag.Int("seeds", 500, "histories of the simulation")
	firstSeed = flag.Uint64("seed", 1, "the first of them")
	switched  = flag.String("off", "", "the protection that is switched off in them")
)

const scriptBytes = 400

func scriptOf(seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	script := make([]byte, scriptBytes)
	for i := range script {
		script[i] = byte(random.Uint32())
	}
	return script
}

// play plays a script and returns what is wrong, with the lines of the history where they are wanted.
func play(r *Relay, script []byte, off string, notes bool) (fault string, lines []string) {
	w := newWorld(r, script, off)
	if notes {
		w.notes = []string{}
	}
	return w.played(func() { w.run() })
}

// playRare plays one of the rare histories, and then lets all come to an end.
func playRare(r *Relay, history func(*world), off string) (fault string, lines []string) {
	w := newWorld(r, nil, off)
	w.notes = []string{}
	return w.played(func() {
		history(w)
		w.check()
		w.conclude()
	})
}

// played returns what is wrong with a history, and its lines.
func (w *world) played(history func()) (fault string, lines []string) {
	defer func() {
		if p := recover(); p != nil {
			fault, lines = fmt.Sprint(p), w.notes
			if err, ok := p.(error); ok {
				fault = err.Error() + "\n" + string(debug.Stack())
			}
		}
	}()
	history()
	return "", w.notes
}

// shorten cuts from a script what it does not need to fail in the same way.
func shorten(r *Relay, script []byte, off, fault string) []byte {
	kind, _, _ := strings.Cut(fault, ":")
	for size := len(script) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(script); {
			shorter := append(append([]byte(nil), script[:at]...), script[at+size:]...)
			if fault, _ := play(r, shorter, off, false); strings.HasPrefix(fault, kind+":") {
				script = shorter
				continue
			}
			at += size
		}
	}
	return script
}

func TestSimulation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := simRelay()
		for seed := *firstSeed; seed < *firstSeed+uint64(*seeds); seed++ {
			if fault, _ := play(r, scriptOf(seed), *switched, false); fault != "" {
				script := shorten(r, scriptOf(seed), *switched, fault)
				short, lines := play(r, script, *switched, true)
				t.Fatalf("seed %d: %s\n%s\n=> %s", seed, fault, strings.Join(lines, "\n"), short)
			}
		}
	})
}

// Each protection that the models can switch off is needed: without it a promise is broken within so many histories, or in the rare one.
func TestSimulationCatchesEachProtectionThatIsSwitchedOff(t *testing.T) {
	const within = 500
	for _, off := range []string{
		"fence", "tail", "deep tail", "term", "visibility", "park awaited", "checkpoint waits", "keys wait", "parks raise the frontier",
		"found settled", "settle spares the parked", "tombstones", "term checked behind the fence", "term checked behind a load",
		"older rows adopted", "one epoch of adoption", "adoption recorded", "other destinations adopted", "passed by the checkpoint", "placed among the adopted", "tail back to the checkpoint",
		"epochs of timelines", "routing recorded", "end in order known", "replay numbers", "skipped rows stay", "commands are heard", "candidates wait",
	} {
		t.Run(off, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := simRelay()
				if rare := rareHistories[off]; rare != nil {
					if fault, _ := playRare(r, rare, off); fault == "" {
						t.Error("its history without it breaks nothing")
					}
					return
				}
				for seed := uint64(1); seed <= within; seed++ {
					if fault, _ := play(r, scriptOf(seed), off, false); fault != "" {
						t.Logf("seed %d: %s", seed, fault)
						return
					}
				}
				t.Errorf("%d histories without it break nothing", within)
			})
		})
	}
}

func TestSimulationIsTheSameForTheSameSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := simRelay()
		for seed := uint64(1); seed <= 50; seed++ {
			_, first := play(r, scriptOf(seed), "", true)
			_, second := play(r, scriptOf(seed), "", true)
			for i := range first {
				if i >= len(second) || first[i] != second[i] {
					t.Fatalf("seed %d: the histories part at line %d:\n%s", seed, i, strings.Join(append(first[max(0, i-5):i+1], second[max(0, i-5):]...), "\n"))
				}
			}
		}
	})
}
