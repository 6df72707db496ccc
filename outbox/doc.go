// Package outbox is all SQL on the application's table: what the table looks like, and settling the rows that were delivered.
// outboxd is a guest there: the table gets no column, index or trigger, and rows are only marked or deleted as configured.
//
// # Guarantees
//
//   - Settle is one statement. It locks the lease's row FOR SHARE, checks the term, and marks or deletes the rows that are still
//     NEW; a session whose term was raised changes nothing and gets [event.ErrTermLost].
//   - Settle finds the rows by an index on the id, which Describe has checked.
//   - Naming a row again is harmless: a row that is no longer NEW is left alone, whoever changed it.
//
// # Visibility
//
// The log shows an event when its commit record is on disk, which can be long before other sessions see the row (synchronous
// replication waits in between). A settle then matches nothing. So an event counts as settled exactly when its transaction is
// visible in the [Snapshot] of a settle that named it; until then the caller names it again. A row that is missing from a
// statement that could see it was deleted by the application, and a row with another status was changed by it.
//
// # Not guaranteed
//
// A row with a NULL status is not NEW and stays as it is. Settle does not say how many rows it changed.
//
// # Connections
//
// Settle takes a connection of its own for the length of the call, in autocommit: inside an open transaction the lease would stay
// locked and the snapshot could be an old one. It prepares its statement on the connection, so a pooler between must keep prepared
// statements (PgBouncer 1.21 and later with max_prepared_statements, or session mode). Set lock_timeout on the connection when an
// application holds rows locked for long.
//
// # Failures
//
//   - [Retryable]: a deadlock, a lock or statement timeout. The same call may be made again on the same connection.
//   - [event.ErrTermLost]: the session ends.
//   - anything else, a broken connection included: it is unknown whether the rows were settled; the session ends and the log brings
//     the events again.
package outbox
