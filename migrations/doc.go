// Package migrations makes, describes and removes outboxd's own tables, in a schema of their own, and makes the outbox table where
// there is none. Each step is one file in steps, up and down; jackc/tern runs them.
//
// # Guarantees
//
//   - A table that stands under the outbox's name is left as it is: no column, index, right or trigger is added. Down never touches
//     it, nor publications, slots and roles.
//   - Each step is one transaction, with its mark in schema_version and schema_history. Up may be run again, and by several
//     processes at once: one works, the others wait and find it done. The script of WriteSQL may be run again too, and Up after
//     it finds its steps applied.
//   - Down removes exactly what Up made. It keeps the schema when something else lives in it, when it is "public", or when the role
//     does not own it.
//
// # Not guaranteed
//
// Up and Down hold a session's advisory lock, so the connection must not go through a pooler in transaction mode. They reset the
// connection's settings (RESET ALL). Down takes the tables from under a running instance: stop it first.
//
// # Failures
//
// A failed step leaves the steps before it applied; run Up again when the cause is mended. A schema that is newer than this program is
// an error, because an older program does not know what the newer tables mean.
package migrations
