// Package lane holds the rules by which events reach one destination once and in order. It is pure:
// no goroutine, no clock, no I/O, so that the log lane, a test and a simulation drive the same code.
//
// # The rules
//
//   - Tail before publish: a destination starts Unread, and is Unread again after every publish of unknown
//     fate. Nothing is taken for publishing until its tail was read.
//   - Frontier: the highest position that was disposed of at the destination. It begins at the checkpoint, rises with
//     what the tail holds and with every accepted message, and never falls. What stands at or below it is
//     dropped: it is there already.
//   - Position order: events are pushed, taken and disposed of in position order. That is what makes the frontier true.
//   - Prefix: of a batch the first n have landed and leave the queue; the rest stays at its head, before
//     everything that came later. When the fate of the rest is unknown, the next tail says how much of it landed.
//   - One at a time: while a batch or a tail read is in flight, nothing else is taken.
//   - Known epochs: a tail that holds an epoch above the current one was written by another outboxd, whose positions
//     say nothing about ours; it is an error, never a reason to drop.
//
// # States
//
//	         Read                TailRead
//	Unread ────────► Reading ──────────────► Ready ───┐
//	   ▲  ▲             │                    ▲        │ Take
//	   │  └─────────────┘ TailFailed         │        ▼
//	   │                                     └── Publishing
//	   │                Published, fate known         │
//	   └──────────────────────────────────────────────┘
//	                    Published, fate unknown
//
// A call that the state does not allow is a programming error and panics: it would break a promise.
package lane
