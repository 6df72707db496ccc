// Package redis is the sink that appends to Redis Streams: one server, a Sentinel group or a Cluster, Redis 5 or later.
//
// An entry holds the message's headers in their order and then its body in the field payload. The server numbers the
// entries (XADD *), so their ids are its time and never go back, even where its clock does. Where one script appends to many
// streams (16 or more), the first of each may have the milliseconds of the entry before it, if those are less than a second old.
//
// # How a batch is appended
//
// Tail remembers the stream's last-generated-id. A batch is appended by scripts, of one stream each or of several with few messages (each its own in a
// cluster), all of a server in one round trip: a script appends to a stream only if that still ends at the remembered id, and returns the new end. It
// compares the ids, or, with many streams and where the remembered one is less than a second old, gives the first message the id next to it: the server refuses an id that is
// not above every one that the stream ever had. That a stream lost entries before the remembered end, in a failover to a replica that lagged, goes unnoticed then. So a late batch of
// a cut connection or of a cut-off instance is refused, and so is ours when somebody else has appended: Tail then says what landed. The
// client resends nothing but what the server says it has not run (NOSCRIPT, MOVED, ASK, TRYAGAIN), once, and each stream's part of a script that was refused as a
// whole; what had run after all would refuse itself.
//
// The last-generated-id survives XDEL and XTRIM, so consumers may delete what they have read; but what they deleted Tail cannot
// find (see "Not guaranteed").
//
// A batch of one stream that has Config.WatchFrom messages or more is appended by a transaction: the stream is watched, its end compared and MULTI begun in one round trip, the
// messages and EXEC sent in the next. The server discards it if anybody has changed the stream since, so a late one is refused as a late script is. What is discarded or
// not allowed is appended by the script, as is everything for a minute after it: where a consumer deletes what it has read, say, or without the rights.
//
// Config.Unfenced appends by MULTI/EXEC for each stream and compares nothing.
//
// # Guarantees
//
//   - Those of package sink, with nil meaning that the server has answered. With appendfsync always that is durable; else what the
//     server acknowledged in its last second can be lost with the machine, not with the process.
//   - A batch of one stream lands whole or not at all: Redis runs scripts and transactions to their end, and checks memory, role and disk before
//     the first write only.
//   - What is larger than Config.MaxMessageBytes or the server's proto-max-bulk-len is rejected before it is sent.
//   - The ends of at most Config.MaxStreams streams are remembered. One that was forgotten is refused with sink.ErrTailUnread until
//     its tail is read.
//
// # Not guaranteed
//
//   - Replication is asynchronous: a failover of Sentinel or Cluster loses what the new master had not received.
//   - Entries that somebody deleted at the end of a stream, or a stream that was removed, cannot be found by Tail: an event
//     whose fate was unknown at that moment may be delivered twice.
//   - With Unfenced, a late batch may land behind the end that was read.
//   - A cluster appends to streams of different nodes at the same time; order is kept within a stream only.
//
// # What happens on each failure
//
//   - No connection, or no user, password or right for it: sink.Unavailable, nothing landed.
//   - Connection lost or timeout under a batch: sink.Unavailable with an unknown fate.
//   - Context cancelled: sink.Retry with an unknown fate. Other calls that are on the way at that moment may get one too.
//   - OOM, READONLY, MISCONF, NOREPLICAS, NOPERM, WRONGTYPE, LOADING, BUSY, CLUSTERDOWN, MASTERDOWN: sink.Unavailable, nothing landed. A
//     key of the wrong type fails its own messages only.
//   - READONLY, MASTERDOWN: no open connection is used again, so that an address that leads to the new master by now is followed.
//   - A server that turns connections away (maxclients, protected mode): sink.Unavailable with what it says, nothing landed.
//   - NOREPLICAS before Redis 7: what a script appends is not refused, but acknowledged.
//   - A host that drops packets: sink.Unavailable after half of Config.Timeout, nothing landed.
//   - A sentinel that hangs is left for another one: it has a tenth of Config.Timeout to answer.
//   - MOVED, ASK, TRYAGAIN: the script is sent once more to where it belongs; without a fence it is sink.Retry, nothing landed.
//   - The stream does not end where it did (somebody else wrote, it was removed, another instance took over): sink.ErrTailUnread, sink.Retry with an
//     unknown fate.
//   - Every other reply: sink.Retry with an unknown fate.
//
// The whole broker is down ([sink.BrokerDown]) where there is no connection or login to a server or Sentinel group, or the server refuses every
// stream: OOM, READONLY, MISCONF, NOREPLICAS, LOADING, BUSY, MASTERDOWN, too many clients, protected mode. A connection that was lost counts when a new one is
// refused; a timeout under a call does not, and at a cluster nothing does: other nodes may serve.
//
// # Rights
//
// An ACL user needs the streams' keys and +evalsha +eval +xadd +xinfo|stream +xrevrange +xlen; with +watch +multi +exec a large batch costs the server less. With Unfenced also +multi +exec, for
// a database other than 0 +select, and for a cluster +cluster|slots. +config|get lets the sink see proto-max-bulk-len; without it 512 MB is assumed.
package redis
