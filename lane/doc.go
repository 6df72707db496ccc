// Package lane holds the rules by which events reach one destination once and in order, from the log or from the table of parked events.
// It is pure: no goroutine, no clock, no I/O, so that the program, a test and a simulation drive the same code.
//
// # The rules
//
//   - Tail before publish: a destination starts Unread, and is Unread again after every publish of unknown
//     fate. Nothing is taken or lent for publishing until its tail was read.
//   - Frontier: the highest position of the log that was disposed of at the destination, by delivery or by a durable park. It begins at the
//     checkpoint or the highest parked event, rises with what the tail holds, with every accepted and every parked event, and never falls.
//     What stands at or below it is dropped: it is there already, or in the table.
//   - Position order: events of the log are pushed, taken, parked and disposed of in position order. That is what makes the frontier true: an
//     event is durable in the table before any later one is published here.
//   - Waiting keys: while anything of a key waits in the table, later events of the key are parked behind it. A key waits from the moment a
//     park of it is decided (Hold), and leaves when a load has returned its last row, all of them are settled, and none was parked meanwhile.
//   - Prefix: of a batch the first n have landed and leave the queue; the rest stays at its head, before
//     everything that came later. When the fate of the rest is unknown, the next tail says how much of it landed.
//   - One turn at a time: while a batch, a park, a tail read or a turn of the table lane is in flight, nothing else is begun. What the
//     table lane publishes in its turn is settled before anything else is published (Lend, Return).
//   - Known epochs: a tail that holds an epoch above the current one was written by another outboxd, whose positions
//     say nothing about ours; it is an error, never a reason to drop.
//
// A destination that does not answer can be parked from without its tail (TakeParks says that there is doubt): what is parked then may have
// landed behind the frontier, and the caller reads the next tail back to there.
//
// # States
//
//	from        call         to
//	Unread      Read         Reading
//	Reading     TailRead     Ready; Unread when the tail is of a later epoch
//	Reading     TailFailed   Unread
//	Ready       Take         Publishing
//	Publishing  Published    Ready; Unread when the fate is unknown
//	Ready       Lend         Lent
//	Lent        Return       Ready; Unread when the fate is unknown
//	Ready       TakeParks    Parking
//	Unread      TakeParks    Parking
//	Parking     Parked       where it came from
//
// # The set of waiting keys
//
// [Waiting] holds keys as hashes of 64 bits. Two keys with one hash wait for each other, and that is all that a collision does. Each key has the
// time when its first row is due; a dead row that blocks its key is due never. Where everything for a destination is parked (HoldAll), every key
// waits, and only those are kept that a scan in position order has to pass over, so that a backlog of any size costs no memory.
//
// # Guarantees
//
// Tests drive both lanes, crashes, lost answers, late batches and lost settles against a model of broker and table, and show for
// most of the rules that without it a history exists that breaks a promise.
//
// # Failures
//
// A call that the state does not allow, and an event that is pushed out of position order, are programming errors and panic: they would break
// a promise.
package lane
