// Package outbox is all SQL on the application's table: what the table looks like, settling the rows that were delivered, showing on
// rows what became of the others, reading rows for the table lane, and cleaning up. outboxd is a guest there: the table gets no column,
// index or trigger, and rows are only marked or deleted as configured.
//
// # Guarantees
//
//   - Every write of a session (Settle, Deliver, Finish, Mirror, RepairMirrors, SkipSent) is one statement. It locks the lease's row FOR
//     SHARE and checks the term; a session whose term was raised changes nothing and gets [lease.ErrTermLost].
//   - The row of an event that is parked for the slot is settled by Deliver or Finish alone, in the statement that removes the event's
//     last parked rows: when none of them waits or is dead, and the checkpoint has passed all of them. Settle leaves it alone, and
//     Cleanup does not delete it.
//   - Rows are found by an index on the id, which Describe has checked, and parked events by their primary key, whatever the
//     server's statistics say. Walks (Select, Cleanup) look at a bounded number of rows a call, in the order of ids. Adoptable, and New without
//     an index on the status, may read the whole table, once a call.
//   - Naming a row again is harmless: a row that is delivered, or has a status that is none of outboxd's, is left alone, whoever changed it.
//   - With Config.Rows the table is split: what looks through it (Adoptable, StillAdoptable, Select, New, StillNew, DueFailed, Cleanup) sees the rows of the shard alone. What names
//     rows by id does so whatever they hold: the ids come from the shard's log and its parked table.
//   - A row that the table refuses to settle ([Refused]) is left as it is by Settle and Finish, which settle the others; Deliver changes nothing then.
//   - With Keep nothing is written to the table, but by Cleanup.
//   - Deliver and Finish are on disk when they return, also with synchronous_commit off.
//   - A [Row] is read as the log would have carried it, whatever the session's DateStyle and TimeZone are.
//
// # Visibility
//
// The log shows an event when its commit record is on disk, which can be long before other sessions see the row (synchronous
// replication waits in between). A settle then matches nothing. So an event counts as settled exactly when its transaction is
// visible in the [Snapshot] of a settle that named it; until then the caller names it again. A row that is missing from a
// statement that could see it was deleted by the application, and a row with another status was changed by it. Deliver and Finish need
// none of that: what the checkpoint has passed is visible.
//
// # Not guaranteed
//
// A row with a NULL status is not NEW and stays as it is. Settle does not say how many rows it changed. Mirrors are for people: they skip
// rows that are locked, and RepairMirrors makes up for it. New and DueFailed look at a bounded number of rows, so in an outage, when very
// many are parked and NEW, they may miss some until those are delivered. Without an index on the status or on retry_after DueFailed finds
// nothing. Adopted rows follow created_at, then the commands of their transaction (occurred_at, where the server may have replayed them from its
// log, which does not keep the commands), then where they lie in the table, which is not always the order of commits. A row that was written
// a round of transaction ids ago, 2^32, to one and a half, can look new to [SeenBy].
//
// # Connections
//
// Each call takes a connection of its own, in autocommit: inside an open transaction the lease would stay locked and the snapshot could
// be an old one. Settle prepares its statement on the connection, and switches enable_seqscan off there for good, so that the plan that is kept
// stays right when the parked table grows; a pooler between must keep both (session mode). Adoptable reads in a transaction of its own, for which it is on. Set lock_timeout on the connection when an
// application holds rows locked for long: Settle and Deliver wait for them.
//
// # Failures
//
//   - [Retryable]: a deadlock, a lock or statement timeout. The same call may be made again on the same connection. After a Deliver,
//     noting the rows as done and a later Finish do as well.
//   - [lease.ErrTermLost]: the session ends.
//   - a table that lacks what a function needs: an error that names the column, the index or the right. Settling does without.
//   - anything else, a broken connection included: it is unknown whether anything was changed; the session ends and the log brings
//     the events again, the parked table its own.
package outbox
