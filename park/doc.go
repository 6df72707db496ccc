// Package park keeps what only the active instance may write: for now the lease, the row that says which session that is.
//
// # The lease
//
// Each session of the active instance (start, reconnect, takeover) raises the term once, before it writes anything. Every write of
// outboxd is one statement that locks the lease's row FOR SHARE and checks the term:
//
//	WITH lease AS MATERIALIZED (
//	    SELECT 1 FROM outboxd.lease WHERE slot = $1 AND term = $2 FOR SHARE
//	)
//	UPDATE ... WHERE ... AND EXISTS (SELECT FROM lease)
//
// # Guarantees
//
//   - A term is given once. The first one of a slot is the time in milliseconds, so it does not come back when the row was removed.
//   - A raise conflicts with FOR SHARE: it waits for the writes that began before it, and every write that comes after it sees the
//     new term and changes nothing. A session that was cut off changes nothing after its successor's raise returned.
//   - The lock lives for one statement, so a process that stands still holds none.
//
// # Not guaranteed
//
// The lease does not choose the active instance and does not expire: whoever raises it is the active one. That only one process
// does so at a time is the business of the caller: package relay raises it only while it holds the slot.
//
// # Failures
//
// A missing table is [event.ErrNotMigrated]. After any other error it is unknown whether the term was raised; raising again is
// always safe.
package park
