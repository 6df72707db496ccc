package wal_test

import (
	"testing"

	"github.com/outboxd/outboxd/wal"
)

func TestPublishedIsAnotherOneWhereTheLogMayLackRows(t *testing.T) {
	f := setup(t)
	f.publish()
	read := func() string {
		t.Helper()
		text, err := wal.Published(t.Context(), f.Conn, f.cfg)
		if err != nil || text == "" {
			t.Fatalf("%q is published, %v", text, err)
		}
		return text
	}
	table := f.cfg.Table
	before := read()
	f.exec("ALTER TABLE " + table + " ADD COLUMN colour text")
	f.exec("ANALYZE " + table)
	if now := read(); now != before {
		t.Errorf("it is %q behind a new column, was %q", now, before)
	}
	for _, change := range []string{
		"ALTER PUBLICATION " + f.cfg.Publication + " DROP TABLE " + table + "; ALTER PUBLICATION " + f.cfg.Publication + " ADD TABLE " + table,
		"ALTER PUBLICATION " + f.cfg.Publication + " SET (publish = 'update')",
		"ALTER TABLE " + table + " RENAME TO before; CREATE TABLE " + table + " (LIKE before INCLUDING ALL)",
	} {
		f.exec(change)
		now := read()
		if now == before {
			t.Errorf("it is %q still, behind %s", now, change)
		}
		before = now
	}
}
