// Package bench measures how fast an outbox is drained and how soon an event arrives, by outboxd and by what others use instead. The
// command bench is made of it.
//
// # What is measured
//
//   - A Backlog is written by the server itself, in transactions of one size, before anything reads it.
//   - Watch tells when the first entry was in the broker and when the last one was, by counting there.
//   - A Tally reads everything back afterwards: each row once, and the rows of one key in their order.
//   - CPU and memory are the kernel's own numbers (/proc), of processes on this machine; a broker's CPU is what it says of itself.
//   - Latency runs from the moment before COMMIT (of direct: the message) is sent until a reader of the broker has the entry, on one clock.
//
// # What is not
//
//   - The log written and the rows changed are the whole server's: what others do there meanwhile is in them.
//   - Where there is no /proc, and for servers on other machines, CPU and memory are left out.
//
// # On failure
//
// A number that cannot be had is absent. A backlog that does not arrive, or not once, is an error: its figures mean nothing.
package bench
