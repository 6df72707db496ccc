// Outboxd streams a PostgreSQL transactional outbox to Apache Pulsar and Redis Streams.
//
// This package is the program: commands and flags, configuration, wiring, signals and HTTP. What it
// promises as a whole stands in docs/guarantees.md.
//
// # Exit codes
//
//   - 0: done. `run` that was asked to stop by SIGTERM or SIGINT and has drained exits 0 too.
//   - 1: failed. One line on standard error says what and, where a person must act, the mend.
//   - 2: wrong usage: an unknown command or flag, or a missing argument.
//   - 130: ended by SIGINT before it was done.
//
// # Signals
//
// The first SIGTERM or SIGINT cancels the command's context, with the signal as its cause. A second one ends the
// process at once: what was in flight is delivered after the next start.
//
// # Output
//
// Results go to standard output, everything else to standard error. Secrets are masked in both.
package main
