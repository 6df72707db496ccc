// Package shard says which rows of the outbox table belong to which of several instances that share it, and what each of them calls its own. It
// is pure: the standard library only, no I/O.
//
// # The layout
//
// A table that is split has a layout: how many shards there are, and whether the tenant or the key says to which one a row belongs. Each shard has
// a slot, a publication and a schema of its own, whose names end in all of that ("outboxd_4t_0" by tenant, "outboxd_4k_0" by key), so that
// the names of two layouts never meet. A table that is not split has the names as they are configured.
//
// # The rows of a shard
//
// [Shard.Rows] is one SQL condition, used in two places that have to agree: as the row filter of the shard's publication (PostgreSQL 15 and later),
// which decides what the slot's log carries, and as a condition of every statement that looks through the table. It consists
// of columns, constants and immutable built-in functions, which is all that a row filter may hold. hash_record_extended combines the extended hash
// functions of its columns' types, by which PostgreSQL partitions tables too, so its values do not change from one version to another; it takes columns of any built-in type, and NULL.
//
//   - Every row belongs to exactly one shard, whatever it holds: the hash of a row is never NULL, and its sign is cut off before the modulus.
//   - By tenant, all rows of one tenant belong to one shard: a NULL tenant counts as the default one, as it does for delivery.
//   - By key, all rows of one key (tenant, aggregate type, aggregate id) belong to one shard; an event without an aggregate id is a key of its
//     own, by its id.
//
// A row belongs to another shard when the application changes a column that decides, after it has inserted the row. That is not supported.
package shard
