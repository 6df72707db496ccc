package torture

import (
	"fmt"
	"math/rand/v2"
)

type injection func(r *rig, random *rand.Rand) (on string, cure heal, err error)

// cut closes all connections of a leg and refuses new ones.
func cut(leg string) injection {
	return func(r *rig, random *rand.Rand) (string, heal, error) {
		i, on := r.pick(random)
		p := r.network.proxy(i.number, leg)
		p.Stop()
		return on, p.Start, nil
	}
}

// slow adds latency, and leaves little bandwidth.
func slow(leg string) injection {
	return func(r *rig, random *rand.Rand) (string, heal, error) {
		i, on := r.pick(random)
		befalls, latency, rate := drawShare(random), 20+random.IntN(300), 20+random.IntN(300)
		cure, err := poison(r.network.proxy(i.number, leg), befalls,
			toxic{"latency", "downstream", fmt.Sprintf(`{"latency": %d, "jitter": %d}`, latency, latency/2)},
			toxic{"bandwidth", "upstream", fmt.Sprintf(`{"rate": %d}`, rate)})
		return fmt.Sprintf("%s, %s, %d ms, %d KB/s", on, befalls, latency, rate), cure, err
	}
}

// halfOpen keeps the connections of a leg open and drops what is sent on them; upstream is what outboxd sends.
func halfOpen(leg string) injection {
	return func(r *rig, random *rand.Rand) (string, heal, error) {
		i, on := r.pick(random)
		befalls := drawShare(random)
		up, down := toxic{"timeout", "upstream", `{"timeout": 0}`}, toxic{"timeout", "downstream", `{"timeout": 0}`}
		choice := []struct {
			name string
			all  []toxic
		}{{"what it sends", []toxic{up}}, {"the answers", []toxic{down}}, {"both directions", []toxic{up, down}}}[random.IntN(3)]
		cure, err := poison(r.network.proxy(i.number, leg), befalls, choice.all...)
		return fmt.Sprintf("%s, %s, %s", on, befalls, choice.name), cure, err
	}
}
