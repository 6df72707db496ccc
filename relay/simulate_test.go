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
	seeds     = flag.Int("seeds", 2000, "histories of the simulation")
	firstSeed = flag.Uint64("seed", 1, "the first of them")
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
	defer func() {
		if p := recover(); p != nil {
			fault, lines = fmt.Sprint(p), w.notes
			if err, ok := p.(error); ok {
				fault = err.Error() + "\n" + string(debug.Stack())
			}
		}
	}()
	w.run()
	return "", w.notes
}

// shorten cuts from a script what it does not need to fail.
func shorten(r *Relay, script []byte, off string) []byte {
	for size := len(script) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(script); {
			shorter := append(append([]byte(nil), script[:at]...), script[at+size:]...)
			if fault, _ := play(r, shorter, off, false); fault != "" {
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
			if fault, _ := play(r, scriptOf(seed), "", false); fault != "" {
				script := shorten(r, scriptOf(seed), "")
				short, lines := play(r, script, "", true)
				t.Fatalf("seed %d: %s\n%s\n=> %s", seed, fault, strings.Join(lines, "\n"), short)
			}
		}
	})
}
