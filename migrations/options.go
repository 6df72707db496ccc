package migrations

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Indexes says which indexes an outbox table gets that Up makes.
type Indexes string

const (
	// Lean is one partial index for rows that wait for a retry, and room in each page: marking a row then
	// touches no index.
	Lean Indexes = "lean"
	// Full is the eight indexes that existing deployments have, for applications and dashboards that query the table. Marking a row
	// changes most of them and costs several times as much.
	Full Indexes = "full"
)

// Options says what Up makes. Names are taken as they are: "Orders" keeps its upper case.
type Options struct {
	Schema      string  // of outboxd's own tables; default "outboxd"
	TableSchema string  // of the outbox table; default "public"
	Table       string  // the outbox table; default "outbox"
	Indexes     Indexes // default Lean
}

func (o Options) withDefaults() Options {
	o.Schema = cmp.Or(o.Schema, "outboxd")
	o.TableSchema = cmp.Or(o.TableSchema, "public")
	o.Table = cmp.Or(o.Table, "outbox")
	o.Indexes = cmp.Or(o.Indexes, Lean)
	return o
}

func (o Options) validate() error {
	if o.Indexes != Lean && o.Indexes != Full {
		return fmt.Errorf("indexes %q: want lean or full", o.Indexes)
	}
	return errors.Join(checkName("schema", o.Schema), checkName("table's schema", o.TableSchema), checkName("table", o.Table))
}

// bodyQuote encloses the bodies of our DO statements; a name that held it would end the body.
const bodyQuote = "$outboxd$"

// checkName refuses what PostgreSQL would cut off or cannot hold.
func checkName(what, name string) error {
	const limit = 63 // bytes: NAMEDATALEN - 1
	switch {
	case len(name) > limit:
		return fmt.Errorf("%s %q is longer than PostgreSQL's %d bytes", what, name, limit)
	case strings.ContainsRune(name, 0) || strings.Contains(name, bodyQuote):
		return fmt.Errorf("%s %q holds characters that a name cannot have here", what, name)
	case strings.HasPrefix(name, "pg_"):
		return fmt.Errorf("%s %q: names that begin with pg_ belong to PostgreSQL", what, name)
	}
	return nil
}

func ident(parts ...string) string { return pgx.Identifier(parts).Sanitize() }
