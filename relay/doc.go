// Package relay is the log lane: it streams inserts of the outbox table to the sinks and confirms a log position only when every
// event before it is delivered and its row settled.
//
// # A session
//
//	replication connection                                             control connection
//	        │                                                                  │ breaks when the
//	   ┌────▼─────┐ handovers ┌──────┐ jobs ┌────────────┐                  watch  server stops
//	   │ receiver ├──────────►│      ├─────►│ publishers │◄──► sinks
//	   └────▲─────┘           │ core │◄─────┤            │
//	        │    confirmed    │      │      └────────────┘
//	        └─────────────────┤      │ settlements ┌─────────┐
//	                          │      ├────────────►│ settler │◄──► outbox, checkpoint
//	                          └──────┘◄────────────┴─────────┘
//
// The receiver is the only goroutine that touches the replication connection. It decodes into chunks of memory taken from
// the byte budget, hands them over in parts, and sends a status at every interval, however slow the brokers are.
// The core is the only goroutine that touches the tracker, the destinations (package lane) and the chunks; it never blocks.
// A publisher runs one call of a sink at a time; the settler one statement at a time. No lock and no channel operation
// is spent on a single event: all is handed on in batches that grow with the load, never by a timer.
//
// # Guarantees
//
//   - An event is settled when every destination has accepted it or was found to hold it, and, unless rows are kept, a statement has
//     marked or deleted its row at a time when its transaction was visible.
//   - The checkpoint is written when everything before it is settled, and the slot is confirmed after that, exactly at
//     the end of a transaction or at a keepalive.
//   - Memory stays inside the budget; a single larger event passes alone.
//   - Every session raises the term. What a cut-off session still writes changes nothing.
//
// # What happens on a failure
//
//   - A broker fails: its destination waits with growing intervals, and its tail is read again when the fate of a batch is
//     unknown. Other destinations flow on until the budget is used up; the log is held.
//   - An event is rejected, has no route, or is no valid row: the stream stops at it. What is in flight is finished, what
//     stands before it is confirmed, and the instance is not ready. The next session tries again.
//   - The replication or the control connection breaks, the server stops, a settlement fails: the session ends, its memory is
//     dropped, and the next one starts at the checkpoint. What had landed is found by tail and frontier.
//   - The process dies: the same.
//   - The slot is read by another instance: this one stands by and tries again.
//   - The slot is lost or was moved, the server was replaced, a check fails: Run returns, because only a person can mend it.
package relay
