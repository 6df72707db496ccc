package wal_test

import (
	"testing"

	"github.com/outboxd/outboxd/wal"
)

func (f *fixture) published() string {
	f.t.Helper()
	text, err := wal.Published(f.t.Context(), f.Conn, f.cfg)
	if err != nil || text == "" {
		f.t.Fatalf("%q is published, %v", text, err)
	}
	return text
}

// A table that left the publication and came back is another one, too.
func TestPublishedIsAnotherOneWhereTheLogMayLackRows(t *testing.T) {
	f := setup(t)
	f.publish()
	major := f.mustVerify().Major()
	seen := map[string]string{f.published(): "the beginning"}
	for _, step := range []struct {
		since  int // major version that has it
		change string
	}{
		{12, "ALTER PUBLICATION outboxd DROP TABLE outbox"},
		{12, "ALTER PUBLICATION outboxd ADD TABLE outbox"},
		{12, "ALTER PUBLICATION outboxd SET (publish = 'update')"},
		{12, "ALTER PUBLICATION outboxd SET (publish = 'insert'); ALTER PUBLICATION outboxd DROP TABLE outbox; ALTER PUBLICATION outboxd ADD TABLE outbox"},
		{13, "ALTER PUBLICATION outboxd SET (publish_via_partition_root = true)"},
		{15, "ALTER PUBLICATION outboxd SET TABLE outbox WHERE (id > 7)"},
		{15, "ALTER PUBLICATION outboxd SET TABLE outbox (id)"},
		{15, "ALTER PUBLICATION outboxd SET TABLES IN SCHEMA public"},
		{15, "ALTER PUBLICATION outboxd DROP TABLES IN SCHEMA public"},
		{15, "ALTER PUBLICATION outboxd ADD TABLES IN SCHEMA public"},
		{12, "DROP PUBLICATION outboxd"},
		{12, "CREATE PUBLICATION outboxd FOR ALL TABLES"},
		{12, "ALTER TABLE outbox RENAME TO before; CREATE TABLE outbox (LIKE before INCLUDING ALL)"},
		{12, "ALTER TABLE outbox SET UNLOGGED"},
	} {
		if major < step.since {
			continue
		}
		f.exec(step.change)
		now := f.published()
		if before, was := seen[now]; was {
			t.Errorf("it is %q behind %s, as behind %s", now, step.change, before)
		}
		seen[now] = step.change
	}
}

func TestPublishedStaysTheSameWhereTheLogLacksNothing(t *testing.T) {
	f := setup(t)
	f.publish()
	before := f.published()
	for _, change := range []string{
		"ALTER TABLE outbox ADD COLUMN colour text", "CREATE INDEX ON outbox (colour)", "ANALYZE outbox", "TRUNCATE outbox", "VACUUM FULL outbox",
		"VACUUM FREEZE pg_publication", "VACUUM FULL pg_publication", "ALTER PUBLICATION outboxd SET (publish = 'insert, update')", "ALTER PUBLICATION outboxd OWNER TO CURRENT_USER",
		"CREATE TABLE other ()", "ALTER PUBLICATION outboxd ADD TABLE other", "ALTER PUBLICATION outboxd SET TABLE outbox",
	} {
		f.exec(change)
		if now := f.published(); now != before {
			t.Errorf("it is %q behind %s, was %q", now, change, before)
		}
	}
}
