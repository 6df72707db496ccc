// Package checkpoint decides which log position may be confirmed, and keeps it.
//
// [Tracker] is pure: transactions enter in commit order, events settle in any order, the safe LSN comes out. The record in the database
// (Load, NewEpoch, Save) is written before the slot is confirmed; the stream starts at it. It also says which rows of the table are older than
// the slot's log and not parked yet (Adoption).
//
// # Guarantees
//
//   - The safe LSN is the end of the last transaction of an unbroken prefix in which every event is settled: exactly the end
//     that the server sent with the commit. The beginning of the commit record would replay the transaction, one byte more would
//     lose the next one where two commits are adjacent.
//   - It never goes back, and neither does the record.
//   - An epoch is used once, and so is the one before it, which is that of adopted rows.
//   - Slot, epoch and what is to be adopted are recorded by one statement: no slot begins without its adoption, but one that begins where
//     another layout of shards has delivered to.
//   - A record that a session saves after a later one raised the term changes nothing.
//
// # What happens on a failure
//
// A call that breaks an invariant of the tracker panics: it would confirm what is not safe. A failed save leaves the record as it was
// or moved; both are safe, because what it says is settled by then. Snapshots that came with a dump of another cluster are left out by Load
// (Record.Restored).
package checkpoint
