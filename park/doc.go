// Package park keeps the events that wait for a destination, in the table parked of outboxd's own schema, and the lease, which says which
// session may write. What people do to parked events is written to the table audit.
//
// # The lease
//
// Each session of the active instance (start, reconnect, takeover) raises the term once, before it writes anything. Every write of
// outboxd is one statement that locks the lease's row FOR SHARE and checks the term:
//
//		WITH lease AS MATERIALIZED (
//		    SELECT 1 FROM outboxd.lease WHERE slot = $1 AND term = $2 FOR SHARE
//		)
//		UPDATE ... WHERE ... AND EXISTS (SELECT FROM lease)
//
//	  - A term is given once. The first one of a slot is the time in milliseconds, so it does not come back when the row was removed.
//	  - A raise conflicts with FOR SHARE: it waits for the writes that began before it, and every write that comes after it sees the
//	    new term and changes nothing. A session that was cut off changes nothing after its successor's raise returned.
//	  - The lock lives for one statement, so a process that stands still holds none.
//
// The lease does not choose the active instance and does not expire: whoever raises it is the active one. That only one process
// does so at a time is what [Lock] is for: it belongs to a connection, and the next one that waits has it when that connection ends.
//
// # Parked events
//
// A row is one event that waits for one destination, with all that is needed to deliver it. Rows of a destination are ordered by position, then by
// id and replay. Its state goes from waiting to done, to dead and, by a person, to skipped; a person may set a dead one waiting again. A dead row
// with Blocks holds back the later rows of its key. An event without a destination is dead from the start, with Destination empty.
//
//   - What Insert, Fail, Settle and Found have returned from is on the disk, also where the database's synchronous_commit is off.
//   - Parking is idempotent: a row that is there, in whatever state, stays as it is.
//   - A row with LandedAfter may have landed, until Found has said at the same destination what did. The table tail_read has the position up to which it said so, in
//     the place of a change to each row, until one in doubt comes to stand before that; [Summaries] goes by both.
//   - Fail, Settle and Found change rows that wait, and no others: what a person decided meanwhile stays, and a statement that is repeated
//     changes nothing.
//   - LoadAfter and LoadKeys return rows in position order without gaps: what they leave out for want of rows or bytes comes behind
//     what they return.
//   - No statement that runs during delivery reads more than a few times the rows that it names or returns, whatever the
//     server's statistics say. [Summaries], [Above] and [List] read the whole table, [Keys] eight rows of each key at most, [Count] the indexes.
//   - What a person does ([Retry], [Skip], [InsertReplays]) is written to audit in the same transaction, and the running instance hears of it
//     on [Channel] when it has committed. A session that begins at the same time reads all of it, or the command comes later and tells it.
//
// # Not guaranteed
//
// Loads take no lease: what they return may be of a moment before the session's own writes on other connections. Nothing here removes a row: that
// is package outbox, together with the row of the outbox table. Numbers of [NextReplays] have gaps.
//
// # Failures
//
// [lease.ErrTermLost]: a later session raised the term, and nothing was changed; the session ends. [lease.ErrNotMigrated] and [lease.ErrNoRights]
// name their mend. After any other error of a write it is unknown whether it was done; the same call may be made again, on a new connection when
// this one broke. An error of a load has changed nothing. A raise may always be repeated. [Lock] fails only with its connection or its context,
// which leaves the connection unusable.
package park
