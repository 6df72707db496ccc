// Package workload is an application that uses the outbox, and an auditor of what became of it: a Producer that writes orders and
// their events in real transactions, readers of what arrived at the brokers, and a Checker that compares the two. The demo and the
// tests that kill servers are made of it. It shares no code with outboxd's sinks: a fault there must not hide itself here.
//
// # What is guaranteed
//
//   - The Ledger of a Producer says of each event whether its transaction committed or was rolled back. Where a connection was cut
//     between COMMIT and its answer, the writer asks the database before it writes again: each of its transactions sets the writer's number
//     in a row of its own, whose lock also waits for a backend that is still committing. Where a standby was promoted meanwhile that lacks the
//     transaction, its events may have been published, as the old primary's log had them: a Report counts those by themselves, as withdrawn.
//
//   - Events of one key are written by one writer at a time, and their sequence numbers rise in the order of their commits. A number is
//     used once, whatever became of its transaction.
//
//   - A Checker finds each committed event that is missing, each that came more than once, each that came behind a later one of its key in
//     the same destination, each of a rolled-back transaction, each that lies in a wrong destination, and each whose content changed.
//
//   - Memory is about 2 bytes an event in a Ledger, and 1 byte in a Checker with 4 bytes for each key and destination.
//
//   - A Load writes into somebody's outbox table and nothing else, with savepoints and prepared transactions too; an Audit checks events that
//     go to several brokers.
//
// # What is not
//
//   - Latency is measured from the time that the payload carries, which the writer takes before it sends the statements that are
//     followed by COMMIT: INSERT and COMMIT are in it. All of it needs one clock, so one machine. Latency ends at the entry's own time:
//     Redis's is in whole milliseconds, rounded down, so it may be up to 1 ms too small; Pulsar's is taken by the client before it sends, so
//     the broker's part is missing. EndToEnd ends when a reader that follows has the event, and has everything in it.
//   - The readers understand the format raw only.
//   - The events of one Producer are to arrive once in what is read by one Checker: an event that is routed to two destinations needs two.
//
// # On failure
//
//   - PostgreSQL that is killed or cuts a connection interrupts a Producer, which goes on when it can connect again. An error that
//     repeating cannot mend (no such table, no permission) ends Run.
//   - A transaction whose outcome is unknown when Run ends is settled by Resolve; until then the Report is not OK.
//   - Follow tries again for ever and says what was wrong; ReadAll ends with the first error.
package workload
