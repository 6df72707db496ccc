package wal

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Published returns what identifies the table and its place in the publication, as a text: another one where another table has taken the name, or ALTER
// PUBLICATION has changed either, also where it was changed back. The log says nothing of that, and lacks what was inserted meanwhile. The text is kept on
// record, so it must stay the same from one version of outboxd to the next. It is read from catalogs alone, by one statement that waits for no lock.
//
// A row of a publication's table or schema has a new oid when it is added again, or with another filter or list of columns. Of the publication's own options
// those count that keep inserts out of the log, as they are now: others, such as what becomes of updates, are changed for good reasons.
// Source: https://www.postgresql.org/docs/current/catalog-pg-publication-rel.html
func Published(ctx context.Context, conn *pgx.Conn, cfg Config) (text string, err error) {
	major, err := connMajorVersion(conn.PgConn())
	if err != nil {
		return "", err
	}
	newer := ""
	if major >= 13 {
		newer = `, p.pubviaroot`
	}
	if major >= filterMajor {
		newer += `, (SELECT s.oid FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)`
	}
	err = conn.QueryRow(ctx, `SELECT coalesce((SELECT concat_ws(' ', c.oid, c.relpersistence, p.oid, p.pubinsert, r.oid`+newer+`)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_publication p ON p.pubname = $3
		LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid WHERE n.nspname = $1 AND c.relname = $2), '')`,
		cfg.Schema, cfg.Table, cfg.Publication).Scan(&text)
	if err != nil {
		return "", fmt.Errorf("read what is published as %s: %w", cfg.table(), err)
	}
	return text, nil
}

// SameTable tells whether two texts of [Published] are of the same table, so that what the log has not can be found there.
func SameTable(a, b string) bool {
	table, _, _ := strings.Cut(a, " ")
	return strings.HasPrefix(b, table+" ")
}
