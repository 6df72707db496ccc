// Package wal is one replication connection: it verifies publication and slot, creates them, receives and confirms.
//
//	Verify / Setup ──► Open ──► Receive, Confirm, Receive, ... ──► Close
//	ordinary SQL       replication=database, one goroutine, no lock
//
// # What it guarantees
//
//   - Before START_REPLICATION every known reason why rows would not arrive is looked for: version, standby, wal_level, role, free walsenders
//     and slots, table, partitions, columns, publication with its membership, column list and partition root, slot. All that is found is
//     reported at once, each as a [CheckError] with the command that mends it. It matters most on PostgreSQL 18, which streams on without a
//     publication that is missing.
//   - A publication is made before the slot, never after: it is not valid for the log that was written before it.
//   - Receive returns every pgoutput message that the server sends, whole, once and in order, or an error. Nothing is skipped:
//     an unknown message is an error. A message that arrives in parts survives any number of ticks.
//   - What is confirmed never goes back within a session, nor behind what the slot had confirmed when the session began (PostgreSQL 12 would
//     move the slot). All three positions of a status are the same and set.
//   - The text form of all values is fixed by the session's parameters (UTF-8, UTC, ISO dates, shortest exact floats, hex bytea),
//     whatever the URL, the environment, the role, the database or the server has set; a session that reports otherwise is refused. Only the text of a database of
//     the encoding SQL_ASCII comes as it is: the server would end the stream at the first that is not UTF-8.
//   - Receiving a change allocates nothing. Memory is the read buffer: 8 KiB, or the largest message while it is in use.
//   - A blocked call ends: Receive at its until, Confirm after ten seconds, Close after two, the others with their ctx.
//
// # What it does not
//
//   - It does not decode pgoutput, keep positions, or decide what may be confirmed.
//   - It does not reconnect. Any error ends the session; the caller opens another at its own record of what was confirmed.
//   - It does not look again: a publication that is altered, or a table that is set UNLOGGED, while a session runs is noticed by the next Verify.
//     Rows that were inserted before the table joined the publication never arrive.
//   - It creates and drops nothing unless asked: only [Setup] with Config.Create, [CreatePublication], [CreateSlot] and [DropSlot] change the
//     server, and an existing publication is never altered.
//
// # The caller's duties
//
//   - One goroutine calls the methods of a [Stream]. It polls its own context between two calls.
//   - Confirm exactly the EndLSN of the Commit of the last finished transaction of a prefix without a gap, or the WALEnd of a [Keepalive] once
//     all that was received before it is finished. Confirming a commit's own LSN sends its transaction again; one byte more than its end
//     can lose the next one. The positions in the envelopes of changes are no positions to confirm (they repeat, go back between
//     transactions, and are 0/0 for relations), so this package does not hand them out. An event's position is its Begin's FinalLSN
//     and its ordinal.
//   - Treat a Keepalive as an empty transaction in the queue: with that, an idle outbox beside a busy database needs no heartbeat table. Its
//     WALEnd may pass transactions that are open on the server; they come later all the same.
//   - Call Confirm every Config.StatusInterval, however slow the broker is, also while Receive is not called; the server ends a session that is
//     silent for wal_sender_timeout. Confirm also when a Keepalive asks for it.
//   - Expect transactions again. The server writes confirmed positions to disk at checkpoints only, so after its crash the slot
//     may stand far behind; open at the position of one's own durable record, which the server then skips to.
//   - Expect an event before its row: the server sends a transaction when its commit record is flushed, which is before other sessions see
//     it, long before with synchronous replication.
//   - Compare [Stream.SystemID] (or set Config.SystemID) and [Stream.SlotConfirmed] with the record: positions of another cluster mean nothing,
//     and a slot that is ahead of the record was moved or made by somebody else. A higher timeline is the
//     same log up to where it began: set Config.Timeline, and ask [History.TimelineStarts].
//   - A partitioned table's inserts carry the root's OID; the partitions are described by Relation messages too.
//
// # By server version
//
// Protocol version 1 is used with all: a transaction is sent only after its commit, so its rows may be published as they arrive. Versions
// 12 to 18 are tested; older ones are refused, newer ones get a warning.
//
//	13  partitioned tables, wal_status and safe_wal_size of a slot
//	15  row filters (a warning, and checked for a shard of a table) and column lists (checked), another syntax to create slots
//	16  conflicting slots
//	17  failover slots, invalidation_reason, inactive_since
//	18  a missing publication is a warning in the stream, which is [ErrPublicationMissing] here; before, the server sends an error
//
// # On failure
//
//   - Slot in use ([ErrSlotActive]): another instance, or one's own session that the server has not missed yet. Wait.
//   - Slot missing or invalidated ([ErrSlotMissing], [ErrSlotLost]): what the log carried since its position is gone; the rows are in the
//     table. While a session streams, an invalidation shows as [ErrServerStopping], and the next Open says ErrSlotLost.
//   - Publication dropped, or made after the slot ([ErrPublicationMissing]): drop the slot and have both made anew.
//   - Another cluster ([ErrReplaced]): nothing was read.
//   - Server shuts down ([ErrServerStopping]): its shutdown waits until everything sent is confirmed, for ever if need be. A server that
//     asks for it again and again is answered four times a second, which leaves a second for what is in flight, and then given up.
//     A terminated session is the same error.
//   - Server killed, connection cut: Receive or Confirm fails with the connection's error.
//   - Connection dead without a word ([ErrServerSilent]): when nothing arrives, each status asks for an answer; after the server's wal_sender_timeout
//     (ten seconds at least) of waiting for one the session ends.
//   - Close fails: the connection is closed, and the server frees the slot when it notices, after wal_sender_timeout at the latest.
package wal
