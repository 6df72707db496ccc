package outbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/lease"
)

// index is what the catalog says of one valid index.
type index struct {
	first     int16  // number of its first column; 0 for an expression
	method    string // pg_am.amname
	predicate string // of a partial one
}

const indexesSQL = `SELECT i.indkey[0], m.amname, coalesce(pg_get_expr(i.indpred, i.indrelid), '')
	FROM pg_catalog.pg_index i
	JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
	JOIN pg_catalog.pg_am m ON m.oid = c.relam
	WHERE i.indrelid = $1 AND i.indisvalid`

func loadIndexes(ctx context.Context, db lease.Querier, oid uint32) ([]index, error) {
	rows, err := db.Query(ctx, indexesSQL, oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (i index, err error) {
		err = row.Scan(&i.first, &i.method, &i.predicate)
		return i, err
	})
}

// begins tells whether the index finds rows by a value of the column; predicate is one that may restrict it.
func (i *index) begins(c column, predicate string) bool {
	return i.first == c.number && c.number > 0 && (i.predicate == "" || i.predicate == predicate)
}

// ordered tells whether the index is sorted.
func (i *index) ordered() bool { return i.method == "btree" }

// checkIndex wants a primary key or another index that begins with the id: without one each settle reads the whole table.
func checkIndex(config Config, indexes []index, r relation, id column) error {
	for _, i := range indexes {
		if i.begins(id, "") && (i.ordered() || i.method == "hash") {
			return nil
		}
	}
	return fmt.Errorf("no index begins with column %q, so on_sent: %s would read the whole table each time: %s, or set on_sent to keep",
		id.name, config.OnSent, createIndex(config, r, id))
}

func createIndex(config Config, r relation, id column) string {
	create := "CREATE UNIQUE INDEX CONCURRENTLY"
	if r.kind == "p" { // which takes neither word: a unique index needs the partition key
		create = "CREATE INDEX"
	}
	return fmt.Sprintf("%s ON %s (%s)", create, config.quoted(), quote(id.name))
}

// useIndexes notes what the indexes serve.
func (t *Table) useIndexes(indexes []index, r relation) {
	t.unwalkable = fmt.Errorf("no sorted index begins with column %q, so the table cannot be walked through: %s",
		t.id.name, createIndex(t.config, r, t.id))
	status, retry := t.has[t.config.Columns.Status], t.has[t.config.Columns.RetryAfter]
	due := `(` + quoteAsCatalog(retry.name) + ` IS NOT NULL)`
	all := retry.required || retry.defaulted // rows have a time there, delivered ones too
	for _, i := range indexes {
		if !i.ordered() {
			continue
		}
		if i.begins(t.id, "") {
			t.unwalkable = nil
		}
		t.statusIndex = t.statusIndex || i.begins(status, "")
		t.retryIndex = t.retryIndex || !all && i.begins(retry, due)
	}
}

// quoteAsCatalog writes a name as the catalog prints it: in quotes where it needs them.
func quoteAsCatalog(name string) string {
	for i, c := range []byte(name) {
		if c != '_' && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return quote(name)
		}
	}
	return name
}

// HasStatusIndex tells whether an index serves a search by status.
func (t *Table) HasStatusIndex() bool { return t.statusIndex }

// HasRetryIndex tells whether an index on retry_after serves a search for rows that are FAILED and due: not where each row has a time there.
func (t *Table) HasRetryIndex() bool { return t.retryIndex }
