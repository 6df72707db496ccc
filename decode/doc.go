// Package decode turns pgoutput messages, protocol version 1, into what the log lane needs: transactions and
// inserts of the outbox table.
//
// It is pure: no goroutine, no clock, no I/O, package event and the standard library only. In the steady state it allocates nothing: an
// event's fields are slices of the message.
//
// # Guarantees
//
//   - Every message is read to its last byte, also those that are ignored. A truncated message, a byte too many, an
//     unknown type or an impossible order (an insert outside a transaction, a commit that is not the begin's, a commit
//     position that goes back) is an error, never skipped.
//   - Columns are found by name, in any order, whatever other columns the table has, and again after each
//     change of the table. NULL is a nil slice, the empty string is not. One column may fill several fields.
//   - The ordinal of an event counts the inserts of the outbox table in its transaction from 1, whatever becomes of them, so that it
//     is a function of the log alone. Commit LSN and ordinal are the decoder's; the epoch is the caller's to fill in, because the
//     log does not know it.
//
// # What it does not do
//
// It knows the outbox table by its schema and name only. Changes of other tables are read and reported with Outbox false. A
// row of another table that has all columns of the outbox table is an error: it is a partition that is published under its own name, or
// the outbox table under a new one, and passing it over could lose an event. Only text format is read, which is what the server
// sends unless it is asked for binary.
//
// # What happens on a failure
//
// Decode returns an error and the decoder must not be used again: what follows cannot be trusted. A row that
// holds no valid event (a NULL where none may be) is a [RowError], which names it. A column that the outbox table should have
// and does not is an error at its Relation, before any row of it.
//
// Source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
package decode
