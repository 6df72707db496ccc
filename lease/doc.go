// Package lease is what all packages share that write to outboxd's own tables: the lease that a session shows with each statement, the SQL that
// checks it, and SQLSTATEs by name. Package park says how the lease works, and raises its term.
//
// # Guarantees
//
//   - A statement that begins with [CTE] holds the lease's row FOR SHARE until it ends. Its CTE lease has a row where the term is still the recorded one,
//     and none where a later session has raised it: the statement then changes nothing, and what ran it returns [ErrTermLost].
//   - A statement that selects [Durable] is on the disk when it has returned, whatever synchronous_commit says.
//
// It holds no state and runs no statement itself: the packages that use it do.
package lease
