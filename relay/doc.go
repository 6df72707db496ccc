// Package relay streams inserts of the outbox table to the sinks, and confirms a log position only when every event before it is
// delivered or durably parked and, where it is delivered everywhere, its row is settled. It has two lanes: the log lane carries fresh inserts, the
// table lane delivers what is parked.
//
// # A session
//
//	replication connection                                                  control connection: lock,
//	        │                                                               commands, breaks when the
//	   ┌────▼─────┐ handovers ┌──────┐ jobs ┌────────────┐                  server stops
//	   │ receiver ├──────────►│      ├─────►│ publishers │◄──► sinks             │
//	   └────▲─────┘           │      │◄─────┤            │                       │
//	        │    confirmed    │      │      └────────────┘                 ┌─────▼─┐
//	        └─────────────────┤ core │◄──────── a command changed ─────────┤ watch │
//	                          │      │                                     └───────┘
//	                          │      │ settlements ┌─────────┐
//	                          │      ├────────────►│ settler │◄──► outbox, checkpoint
//	                          │      │◄────────────┤         │
//	                          │      │             └─────────┘
//	                          │      │ tasks       ┌────────┐
//	                          │      ├────────────►│ clerks │◄──► parked, outbox
//	                          └──────┘◄────────────┴────────┘
//
// Once the session is open the receiver is the only goroutine that touches the replication connection; until then session.keepAlive sends its status. It decodes into chunks of memory taken from
// the byte budget, hands them over in parts, and sends a status at every interval, however slow the brokers are.
// The core is the only goroutine that touches the tracker, the destinations (package lane), the waiting keys and the chunks; it never blocks. It
// owns both lanes, so that who may publish at a destination is a field and not a lock.
// A publisher runs one call of a sink at a time, the settler one statement, a clerk one task on a connection of its own: one clerk parks, the
// others (poll.max_concurrent and one more) load and settle what is parked, sweep, measure, and settle rows of the log lane when 5,000 have
// gathered while the settler is busy, or memory is short. No lock and no channel operation is spent on a single event: all is handed on in batches that grow with
// the load. Only a backlog is waited with, for 10 ms or 64 KiB of log, so that its batches are large; an event that was committed just now
// never is.
//
// # Guarantees
//
//   - An event is disposed of at a destination when that has accepted it, was found to hold it, or a row of it is durable in the
//     table. When it is disposed of everywhere and, unless rows are kept, a settle has named it at a time when its transaction was visible, it is
//     settled for the log. The row of an event that is parked is left to the table lane.
//   - The checkpoint is written when everything before it is settled, and the slot is confirmed after that, exactly at
//     the end of a transaction or at a keepalive.
//   - Events of one key reach a destination in order: while one of them waits in the table, later ones are parked behind it.
//   - What the table lane publishes in one turn at a destination was loaded at once, so that it is no more than a tail is read deep. It is published in batches, one
//     after the other, also behind an event that is rejected; what has landed is settled meanwhile. All of that
//     is settled durably, and only then anything else is published there. An event that may pass a dead one of its key waits for that, too.
//   - What is read from the log stays inside the memory budget; a single larger event passes alone. While nothing fails or is slow and every
//     destination has two batches in line, an eighth of it has to do: more would only wait. The table lane's share comes on top: one
//     batch for each destination that is loaded for, has its turn, or stands in line for one, where twice as many stand as the sink has publishers; and the keys that
//     wait, of which a session remembers ten million at its start.
//   - Every session raises the term, after it has the lock. What a cut-off session still writes changes nothing.
//   - Rows that are older than the slot are parked before the session streams, so that they come before what the log carries.
//   - With Config.Until nothing that was committed there or later is published, and everything before it is recorded and confirmed when Run returns nil.
//
// # What happens on a failure
//
//   - An event is rejected by a broker: it is parked with its reason, its key waits, other keys go on. It is tried again after base *
//     multiplier^refusals, and is dead after poll.max_attempts refusals.
//   - An event has no route, does not fit its destination's name, or lacks what it must have: it is parked dead, without a destination.
//   - A destination fails: it waits with growing intervals, and its tail is read again when the fate of a batch is unknown. When
//     it is unavailable, or after three failures, or one while memory is short, its breaker opens: everything for it is parked, and a probe is
//     all that is tried. A destination whose events wait for more than 2 s while memory is short and others do not is parked as well.
//   - A topic has other partitions than a session knows, and refuses the old ones: the session ends, and the next one gives them what is parked.
//   - Routes, or the number of a topic's partitions, have changed, and the session before did not end in order: what the log holds for the destinations
//     concerned is parked in doubt, and their tails tell which of it has landed.
//   - A whole broker is down: with another sink at work its events are parked at once; else the log is held up to the limit, and then they are
//     parked.
//   - The replication or the control connection breaks, the server stops, a settlement or a task fails: the session ends, its memory is
//     dropped, and the next one starts at the checkpoint. What had landed is found by tail, frontier and table.
//   - The server has no connection for a clerk: its task waits, and whatever needs none goes on.
//   - A connection leads to another server than the control connection, as in a failover whose old primary goes on: the session ends, before anything is confirmed there.
//   - The process dies: the same.
//   - Another instance has the lock: this one waits for it in PostgreSQL.
//   - The slot is lost or was moved, or the server was replaced: a new slot is made, and what is due is taken from the table; or Run returns,
//     where that is configured or nothing may be created.
//   - The publication, or the table's place in it, is another one than the slot was read as: the same. Where another table has the name, what the log holds
//     is delivered or parked before.
//   - A check fails, or something else that only a person can mend: Run returns. What cannot be decoded, or has no id, ends the session: the
//     next one tries again, and nothing is confirmed past it.
package relay
