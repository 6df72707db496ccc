// Package sink is the contract between the lanes and the brokers: what a batch is, what its results mean,
// and what each error makes the lane do. The brokers are the sub-packages redis, pulsar and stdout; sink/format makes
// messages of events; sink/sinktest is the conformance suite that every broker passes against the real server. How their connections are secured is [TLS].
//
// # Guarantees of every sink
//
//   - Prefix: for each destination of a batch the results are nil for the accepted messages, then an error for
//     the first that was not and for all after it. Nothing after the first error has landed, unless its fate is
//     unknown, and then only a prefix of the rest has.
//   - nil means durable, as far as the broker's own acknowledgement means it.
//   - A sink never sends again by itself what may have landed: it reports an unknown fate and waits for Tail.
//   - Fence: when Tail has returned, no earlier Publish of this or an older process can land behind what
//     it has read; either it is refused, or the next Publish is refused with an unknown fate.
//
// # What each failure makes the lane do
//
//   - [Rejected]: this message can never be accepted as it is. The event is parked with the reason, and
//     later events of its key wait behind it.
//   - [Unavailable]: the destination refuses everything (no such namespace, no quota, wrong credentials, nothing
//     listening). The lane waits and tries again. Where it is certain that the whole broker does, Error.Broker says so.
//   - [Retry]: anything else, and every error that is not an [Error]. Waiting is safe, dropping is not.
//   - An unknown fate, of whatever class: the lane calls Tail before it publishes there again.
//   - [ErrTailUnread], of unknown fate: the same, and it is no failure of the destination, unless it comes again before anything was published there.
package sink
