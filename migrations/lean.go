package migrations

import "fmt"

// LeanIndexName is the name, not quoted, of the one index that a table made with [Lean] has beside its primary key.
func LeanIndexName(table string) string { return "ix_" + table + "_retry_after" }

// LeanIndexSQL makes that index on a table that is in use, whose column of the next attempt has the given name. Done twice it does nothing.
// CONCURRENTLY is refused inside a transaction, and for a partitioned table.
func LeanIndexSQL(o Options, retryAfter string) string {
	o = o.withDefaults()
	return fmt.Sprintf("CREATE INDEX CONCURRENTLY IF NOT EXISTS %s ON %s (%s) WHERE %[3]s IS NOT NULL",
		ident(LeanIndexName(o.Table)), ident(o.TableSchema, o.Table), ident(retryAfter))
}
