package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Published returns what the server publishes as the table, as a text: another one where another table has taken the name, or the publication was changed.
// The log says nothing of that, and lacks what was inserted meanwhile. It reads catalogs alone, by one statement that waits for no lock.
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
		newer += `, r.prqual, r.prattrs, (SELECT s.oid FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)`
	}
	err = conn.QueryRow(ctx, `SELECT coalesce((SELECT concat_ws(' ', c.oid, c.relkind, c.relpersistence, p.oid, p.pubinsert, p.puballtables, r.oid`+newer+`)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_publication p ON p.pubname = $3
		LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid WHERE n.nspname = $1 AND c.relname = $2), '')`,
		cfg.Schema, cfg.Table, cfg.Publication).Scan(&text)
	if err != nil {
		return "", fmt.Errorf("read what is published as %s: %w", cfg.table(), err)
	}
	return text, nil
}
