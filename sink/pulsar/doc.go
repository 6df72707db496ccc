// Package pulsar is the [sink.Sink] of Apache Pulsar, on the Go client of Apache.
//
// A destination is a persistent topic's full name, persistent://tenant/namespace/topic, or that of one partition; see
// [Sink.Partitions] and [Sink.Partition].
//
// # Guarantees
//
//   - One writer: a destination has an exclusive producer from the end of Tail on. Another outboxd that takes over cuts it off, and what it
//     still sends is refused by the broker. Its publishes are then refused here with an unknown fate, until Tail.
//   - One batch is one broker entry, so it lands whole or not at all. A batch that is larger than the broker or the
//     memory allows, or holds several keys with Config.EntryPerKey, becomes several entries, and each leaves after the acknowledgement of the one before. Sizes are checked before
//     anything is sent.
//   - Nothing is sent twice: a producer that lost its connection is given up. The client would make the connection again and send
//     what is pending once more, in whatever order.
//   - Destinations progress independently: a batch over several topics is under way to all of them at once.
//   - Up to eight clients, each made when it is first needed, with its own connection to each broker, share the namespaces out by their names. A broker that reads nothing from one of them, because a
//     publish rate was exceeded, holds up the namespaces of that one.
//   - Bounded memory: at most Config.PendingBytes wait for acknowledgements, and the client's buffers, which grow to the
//     largest entry of each producer, are bounded by smaller entries and by closing producers.
//   - No secret is in an error or a log line.
//
// # What it does not guarantee
//
//   - nil means acknowledged by as many bookies as the namespace asks for. What a cluster loses afterwards is lost.
//   - Tail sees what Pulsar still has. A topic without retention keeps only what some subscription has not acknowledged.
//   - The broker goes on writing what it has received when the connection of who sent it breaks. Tail therefore waits until the end has
//     stood still: 200 ms, or 2 s after a broker that hung; not at all where the last producer in this session was ours and ended cleanly. A batch that takes longer to be written lands behind the tail, a second time.
//     (Seen with a broker that was stopped for 25 s and went on: its write to the ledger had timed out and was repeated.)
//   - An event time before 1970 or after 2262 is left out, as Pulsar or its client cannot say it; the header has the text.
//   - Entries of somebody else that the client gives to no reader (an empty message without batching, the end of a chunked one) are not among what Tail returns.
//   - Topics with message deduplication, chunked messages and schemas other than bytes are not used. Non-persistent topics are refused.
//   - More partitions later: keys move, and the order of a key holds only within each partition.
//
// # What happens on each failure
//
//   - Connection lost, broker killed, topic moved to another broker: batches under way have an unknown fate at once; the
//     destination's next Publish is refused until Tail, which finds the new broker.
//   - Acknowledgements stand still for Config.AckStall (a hanging broker, a batch that the broker refuses, which the client keeps
//     to itself): unknown fate, and the producer is closed. Where the broker refused a topic's batches for their size, its entries become smaller
//     until the next session, and a single message that is refused twice is Rejected.
//   - A batch that the broker could not write (PersistenceError): the client closes the connection, which is that of all topics of its namespaces there.
//   - A topic that no broker serves (ServiceNotReady), as an isolation policy can leave one, or a move for moments: to be retried. The client closes the connection at the first such answer,
//     too; while a namespace is in that state its topics are looked up over connections of their own, which end with that.
//   - A broker that is silent: the connection is closed after 10 to 15 s, which fails whatever waits on it; a client whose calls do not come
//     back for 20 s, while no batch is acknowledged, is replaced.
//   - One of several hosts in the service URL drops packets, or accepts connections and says nothing: topics are looked up at the others only, by a client
//     that takes the place of the one before, which loses its producers. It comes back when none of those welcomes us.
//   - Nothing listens, wrong credentials, no rights, missing tenant or namespace, terminated topic, exceeded quota, a foreign
//     exclusive producer, a subscription that may not be made for Tail: Unavailable, with what the broker says. A namespace is made where Config.Create is set.
//   - The whole broker is down ([sink.BrokerDown]) where no host of the service URL can be connected to, shakes hands and takes our credentials,
//     and where the connection of a batch or a tail was lost and every host of the URL refuses a new one. A topic that hangs, or whose broker
//     is gone while others answer, is Unavailable alone; a stall of Config.AckStall is to be retried, with a tail before it.
//   - A message that is too large: Rejected; what stands before it has landed, nothing behind it was sent.
//   - More destinations in use than Config.MaxProducers: the one that was idle longest is closed and must read its tail
//     again, which is slow but loses nothing.
//
// # The client
//
// It is used against its habits, and its version is pinned: without a reconnect, timer or send timeout, with a logger that learns the broker's size
// limit, the reason of a failed connection, whose batch was refused and which entry a reader is not given, which it tells in no other way. The protocol's ExclusiveWithFencing, which it does not
// have, is spoken by wire.go.
package pulsar
