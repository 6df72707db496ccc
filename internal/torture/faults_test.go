package torture

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
)

// heal takes a fault away.
type heal func() error

// fault is one kind of misfortune.
type fault struct {
	name     string
	about    string
	target   string           // what it befalls; faults of one target come one after another
	sink     string           // the only sink that it concerns; empty for all
	needs    *need            // what the servers must be started with; nil for nothing
	settles  bool             // its round begins and ends when all has arrived: what it leaves behind must not meet the faults of other rounds
	standby  bool             // PostgreSQL needs one
	excepted bool             // docs/guarantees.md excepts its outcome: it is injected by name only
	hold     [2]time.Duration // shortest and longest time until it is healed

	// inject makes it happen and says on what. What heals it may be nil.
	inject func(r *rig, random *rand.Rand) (on string, cure heal, err error)
}

// need is what servers must be started with for a fault, which not every machine can do.
type need struct{ missing func() error }

var (
	ownDisk       = &need{testenv.CanMount}     // of PostgreSQL's data
	ownBrokerDisk = &need{testenv.CanMount}     // of the broker's data
	ownClock      = &need{testenv.CanStepClock} // of PostgreSQL
)

// able leaves out the faults that this machine cannot inject, and says which and why.
func able(chosen []fault) (all []fault, leftOut []string) {
	missing := map[*need]error{}
	for _, f := range chosen {
		if _, asked := missing[f.needs]; !asked && f.needs != nil {
			missing[f.needs] = f.needs.missing()
		}
		if err := missing[f.needs]; err != nil {
			leftOut = append(leftOut, fmt.Sprintf("%s: %v", f.name, err))
		} else {
			all = append(all, f)
		}
	}
	return all, leftOut
}

// needed tells whether one of the faults needs something.
func needed(n *need, chosen []fault) bool {
	return slices.ContainsFunc(chosen, func(f fault) bool { return f.needs == n })
}

// faults are all that there are.
var faults = []fault{
	{name: "outboxd-kill", about: "kill -9 of an instance", target: "outboxd", inject: killInstance},
	{name: "outboxd-pause", about: "SIGSTOP of an instance, then SIGCONT", target: "outboxd", hold: seconds(1, 8), inject: pauseInstance},
	{name: "outboxd-usurp", about: "SIGSTOP of the active instance until another one has taken over, then SIGCONT", target: "outboxd", hold: seconds(0, 4), inject: usurp},
	{name: "outboxd-roll", about: "both instances are restarted by SIGTERM, one after the other", target: "outboxd", inject: roll},
	{name: "postgres-kill", about: "kill -9 of PostgreSQL and all its processes", target: "postgres", hold: seconds(0, 3), inject: killPostgres},
	{name: "postgres-restart", about: "fast shutdown and start of PostgreSQL", target: "postgres", hold: seconds(0, 1), inject: restartPostgres},
	{name: "postgres-disk-full", about: "the disk of PostgreSQL's data and log is full", target: "postgres", needs: ownDisk, hold: seconds(1, 6), inject: fillDisk},
	{name: "postgres-clock", about: "PostgreSQL's clock steps an hour on or back, and steps again", target: "postgres", needs: ownClock, settles: true, hold: seconds(1, 6), inject: stepClock},
	{name: "postgres-failover", about: "kill -9 of PostgreSQL and the loss of its disk; a standby takes its place, without the slot", target: "postgres", standby: true, hold: seconds(0, 3), inject: failOver},
	{name: "postgres-zombie", about: "a standby takes the place of PostgreSQL, which goes on; instances stay with it for a while", target: "postgres", standby: true, inject: leaveBehind},
	{name: "sessions-end", about: "pg_terminate_backend of outboxd's sessions: all, the walsender, or the others", target: "postgres", inject: endSessions},
	{name: "walsender-freeze", about: "SIGSTOP of the walsender", target: "postgres", hold: seconds(1, 7), inject: freezeBackend("walsender")},
	{name: "backend-freeze", about: "SIGSTOP of one of outboxd's other backends", target: "postgres", hold: seconds(1, 7), inject: freezeBackend("client backend")},
	{name: "slot-drop", about: "the slot is dropped", target: "postgres", inject: dropSlot},
	{name: "ddl", about: "a column is added to the outbox table, and dropped", target: "postgres", hold: seconds(0, 2), inject: changeTable},
	{name: "redis-kill", about: "kill -9 of Redis", target: "broker", sink: "redis", hold: seconds(0, 3), inject: killBroker},
	{name: "redis-freeze", about: "SIGSTOP of Redis", target: "broker", sink: "redis", hold: seconds(1, 6), inject: freezeBroker},
	{name: "redis-full", about: "maxmemory is reached, with noeviction", target: "broker", sink: "redis", hold: seconds(1, 5), inject: fillRedis},
	{name: "redis-disk-full", about: "the disk of the append-only file is full", target: "broker", sink: "redis", needs: ownBrokerDisk, hold: seconds(1, 6), inject: fillRedisDisk},
	{name: "pulsar-disk-full", about: "the disk of the ledgers and the journal is fuller than the bookie allows", target: "broker", sink: "pulsar", needs: ownBrokerDisk, hold: seconds(2, 12), inject: fillPulsarDisk},
	{name: "pulsar-kill", about: "kill -9 of Pulsar", target: "broker", sink: "pulsar", hold: seconds(0, 3), inject: killBroker},
	{name: "pulsar-freeze", about: "SIGSTOP of Pulsar", target: "broker", sink: "pulsar", excepted: true, hold: seconds(1, 6), inject: freezeBroker},
	{name: "postgres-cut", about: "an instance's connections to PostgreSQL are cut", target: "net-postgres", hold: seconds(0, 4), inject: cut(legPostgres)},
	{name: "postgres-slow", about: "these have latency and little bandwidth", target: "net-postgres", hold: seconds(2, 6), inject: slow(legPostgres)},
	{name: "postgres-half-open", about: "these stay open and lose what is sent, in one direction or both", target: "net-postgres", hold: seconds(1, 8), inject: halfOpen(legPostgres)},
	{name: "postgres-corrupt", about: "bits of what these carry are flipped", target: "net-postgres", hold: seconds(1, 5), inject: corrupt(legPostgres)},
	{name: "broker-cut", about: "an instance's connections to the broker are cut", target: "net-broker", hold: seconds(0, 4), inject: cut(legBroker)},
	{name: "broker-slow", about: "these have latency and little bandwidth", target: "net-broker", hold: seconds(2, 6), inject: slow(legBroker)},
	{name: "broker-half-open", about: "these stay open and lose what is sent, in one direction or both", target: "net-broker", hold: seconds(1, 8), inject: halfOpen(legBroker)},
	{name: "broker-corrupt", about: "bits of what these carry are flipped", target: "net-broker", hold: seconds(1, 5), inject: corrupt(legBroker)},
}

func seconds(from, to int) [2]time.Duration {
	return [2]time.Duration{time.Duration(from) * time.Second, time.Duration(to) * time.Second}
}
