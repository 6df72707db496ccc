// Package torture is a storm of faults on real servers while an application writes, and a verdict on what arrived: lost, doubled, out of order,
// published though rolled back, corrupted, or stuck. `make torture` runs it; a short run is part of the tests.
//
// It consists of tests only, so that the product cannot depend on it.
//
// # How it works
//
//   - Two instances of outboxd, PostgreSQL and a broker run as processes. Each instance has proxies of its own to PostgreSQL and to the broker.
//   - Where the table is split into shards, each instance is for all of them: one has some and the other the others, as the faults have it.
//   - internal/workload's Producer writes at a rate, past these proxies, and knows of each event whether it was committed.
//   - A storm runs rounds. A round injects one to three faults at chosen moments, holds them, heals them, and leaves a pause. Each fault has its
//     first round for itself, as far as the time allows. After some rounds the storm waits until everything committed so far has arrived.
//   - At the end everything is healed, and all that was committed must arrive, be marked SENT, and leave nothing parked. Then the broker is read
//     from its beginning.
//   - What does not come to be in time leaves traces that tell who stood still: outboxd, the broker, or what reads it for the test. The timeline has
//     what that reader met, and, where a settle of the storm or the end of it ran out of time, how many events the broker has when it is read from its
//     beginning, what the database has left, and how far the slot is. At the end the instances then get SIGQUIT, so that their logs have every
//     goroutine. In the storm they do not: a recovery may merely take long, and a crash would help it.
//
// # Corrupted connections
//
// The instances reach PostgreSQL, Redis and Pulsar by TLS, and the faults flip bits of what passes. What is promised is what TLS promises: such a connection
// ends, and ends like one that was cut, or one that hangs where the length of a record was changed. Without TLS nothing is promised.
//
// # A full disk
//
// PostgreSQL's data and log lie on a file system in memory of their own, which a fault shrinks to little more than what is used. A table that cannot grow
// fails its statement. A log that cannot grow makes PostgreSQL panic; recovery needs room too, so it may end, and is started when there is some again. A
// COMMIT that got no answer is asked for later, as after any crash. Redis ends of an append-only file that cannot grow, or refuses writes. Pulsar's bookie becomes read-only when
// its disk is fuller than it allows; it never meets a disk that is full to the last byte, because it forgets what it has acknowledged then. The right to mount is needed:
// without it these faults are left out, and the report says so.
//
// # Clocks
//
// PostgreSQL runs below libfaketime, where that is installed, and its wall clock is stepped while it runs; each of its processes notices within a second.
// outboxd cannot be stepped that way: a Go program asks the kernel, not the C library. Nor can Redis: its jemalloc asks for the time before libfaketime is ready.
// docs/guarantees.md says what each of these clocks decides. A round with a step ends when all has arrived, so that no slot is dropped before that: adoption
// follows created_at.
//
// # Failover
//
// Where postgres-failover or postgres-zombie is among the faults, PostgreSQL has a standby that every commit waits for. The first kills the primary,
// throws its files away and promotes the standby; the proxies, one of the application's own among them, lead there from then on, and a new standby is made in the
// background. What was acknowledged is on the promoted server, the slot is not. The second leaves the old primary running for a while, and one instance with it, or
// both: they publish what its log still has. Its commits wait for a standby that has gone, so nobody is told of one, and nothing that outboxd writes there comes to be.
//
// # Soak
//
// With the build tag soak, TestSoakIsFlat lets the application write at a steady rate without faults, and judges whether memory, goroutines, file
// descriptors, connections and the retained log stay flat.
//
// # Resources
//
// With the build tag resources, the tests TestResources let one outboxd with its default settings and GOMEMLIMIT=80MiB have more than it may hold in memory: a transaction of
// gigabytes, ten thousand destinations, a broker that takes a byte a second, a hundred thousand keys that wait. They judge the most memory that the
// kernel has seen (VmHWM), and that all arrives once and in order. None judges how long it takes.
//
// # What is repeatable
//
// The seed decides which faults come in which order, when, how long and on which instance, and what the application writes. The same seed injects
// the same storm. What the processes make of it differs from run to run, as their scheduling does: a violation may need several runs.
//
// # What the verdict forgives
//
// An event whose COMMIT had no answer when PostgreSQL failed over to a standby that lacks it may have been published: the log is read before the
// standby has it. It is counted, and may come once at most. Nothing else: faults whose outcome docs/guarantees.md excepts are not injected unless they are
// named: a Pulsar broker that stands still.
package torture
