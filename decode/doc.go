// Package decode turns pgoutput messages, protocol version 1, into what the log lane needs: transactions and
// inserts of the outbox table.
//
// It is pure: no goroutine, no I/O, the standard library only. In the steady state it allocates nothing: an
// event's fields are slices of the message.
//
// # Guarantees
//
//   - Every message is read to its last byte, also those that are ignored. A truncated message, a byte too many, an
//     unknown type or an impossible order (an insert outside a transaction) is an error, never skipped.
//   - Columns are found by name, in any order, whatever other columns the table has, and again after each
//     change of the table.
//   - The ordinal of an event counts the inserts of the outbox table in its transaction from 1, whatever becomes of them, so that it
//     is a function of the log alone.
//
// # What happens on a failure
//
// Decode returns an error and the decoder must not be used again before Reset: what follows cannot be trusted. A row that
// holds no valid event (a NULL where none may be) is a [RowError], which names it.
//
// Source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
package decode
