package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

const takeover = 20 * time.Second // for the other instance to stream

// pick chooses an instance: mostly the active one, else the other.
func (r *rig) pick(random *rand.Rand) (i *instance, on string) {
	other := random.IntN(4) == 0
	number := r.active()
	role := "active"
	switch {
	case number < 0:
		number, role = random.IntN(len(r.instances)), "nobody is active"
	case other:
		number, role = 1-number, "standby"
	}
	i = r.instances[number]
	return i, i.name + " (" + role + ")"
}

func killInstance(r *rig, random *rand.Rand) (string, heal, error) {
	i, on := r.pick(random)
	return on, nil, i.signal(syscall.SIGKILL, true)
}

func pauseInstance(r *rig, random *rand.Rand) (string, heal, error) {
	i, on := r.pick(random)
	return on, func() error { return i.signal(syscall.SIGCONT, false) }, i.signal(syscall.SIGSTOP, false)
}

// usurp pauses the active instance and ends its sessions in PostgreSQL, as a server does that has waited for too long, so that the other one
// takes over. The paused one wakes up with the belief that it is still active.
func usurp(r *rig, _ *rand.Rand) (string, heal, error) {
	number := r.active()
	if number < 0 {
		return "nobody is active", nil, nil
	}
	old := r.instances[number]
	wake := func() error { return old.signal(syscall.SIGCONT, false) }
	if err := old.signal(syscall.SIGSTOP, false); err != nil {
		return old.name, wake, err
	}
	const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1`
	if _, err := r.exec(end, old.name); err != nil {
		return old.name + ", PostgreSQL is down", wake, nil //nolint:nilerr // another fault of this round
	}
	if !until(takeover, func() bool { now := r.active(); return now >= 0 && now != number }) {
		return old.name + ", nobody took over", wake, nil
	}
	return old.name, wake, nil
}

// roll restarts both instances as a deployment does.
func roll(r *rig, random *rand.Rand) (string, heal, error) {
	first := random.IntN(len(r.instances))
	for n := range r.instances {
		i := r.instances[(first+n)%len(r.instances)]
		before := i.started()
		if err := i.signal(syscall.SIGTERM, true); err != nil {
			return i.name, nil, err
		}
		if !until(stopPatience, func() bool { return i.started() > before }) {
			return i.name, nil, errors.Join(fmt.Errorf("%s still runs %v after SIGTERM", i.name, stopPatience), i.signal(syscall.SIGKILL, true))
		}
	}
	return "both", nil, nil
}
