package relay_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
)

// frameworkTable is the outbox as the framework's own migrations make it: the id is text, and it has a column that nobody else knows.
const frameworkTable = `CREATE TABLE outbox (
		id VARCHAR(36) PRIMARY KEY DEFAULT gen_random_uuid()::text, tenant_id VARCHAR(128) NOT NULL, aggregate_id VARCHAR(128), aggregate_type VARCHAR(100),
		topic VARCHAR(128) NOT NULL, routing_key VARCHAR(255), occurred_at TIMESTAMPTZ NOT NULL, schema_id VARCHAR(128), schema_version INTEGER DEFAULT 1,
		payload JSONB NOT NULL, event_metadata JSONB DEFAULT '{}', status VARCHAR(10) DEFAULT 'NEW', retry_count INTEGER DEFAULT 0,
		retry_after TIMESTAMPTZ, error_message VARCHAR(500), created_at TIMESTAMPTZ DEFAULT NOW());
	CREATE INDEX ix_outbox_processing ON outbox(status, retry_after)`

// shape is everything that the catalog says of the table: columns, constraints, indexes, triggers, options.
func (r *rig) shape() (text string) {
	r.t.Helper()
	err := r.conn.QueryRow(r.t.Context(), `SELECT concat_ws(E'\n',
		(SELECT string_agg(concat_ws(' ', attnum, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(d.adbin, d.adrelid)), E'\n' ORDER BY attnum)
			FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = attrelid AND d.adnum = attnum WHERE attrelid = c.oid AND attnum > 0),
		(SELECT string_agg(pg_get_constraintdef(oid), E'\n' ORDER BY conname) FROM pg_constraint WHERE conrelid = c.oid),
		(SELECT string_agg(pg_get_indexdef(indexrelid), E'\n' ORDER BY indexrelid) FROM pg_index WHERE indrelid = c.oid),
		(SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid), c.reloptions::text, c.relreplident)
		FROM pg_class c WHERE oid = 'outbox'::regclass`).Scan(&text)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

func TestTheFrameworksOwnTableIsTakenAsItIs(t *testing.T) {
	server := testenv.Postgres(t)
	url := server.Database(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if server.Major < 13 { // which has gen_random_uuid only there
		if _, err := conn.Exec(t.Context(), `CREATE EXTENSION pgcrypto`); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(t.Context(), frameworkTable); err != nil {
		t.Fatal(err)
	}
	before := (&rig{t: t, conn: conn}).shape()
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, url, "") // which migrates up
	r.unrecord()
	r.insert("acme", 0, 100, 7)
	r.exec(`UPDATE outbox SET id = 'order:' || (payload->>'seq') || ' "x", {y}', routing_key = 'r'`)
	r.exec(`UPDATE outbox SET created_at = now() - interval '1 hour' + (payload->>'seq')::int * interval '1 microsecond'`)
	run := r.start(r.limit(smallLimit))
	r.eventually("the rows that the projector left", func() bool { return r.length("acme:orders") == 100 })
	r.insert("acme", 100, 100, 7)
	r.insertLarge("acme", fmt.Sprint(200%7), 200)
	r.insert("acme", 201, 100, 7)
	r.eventually("the refused event's row says so", func() bool {
		return r.count(`SELECT count(*) FROM outbox WHERE status = 'FAILED' AND retry_count > 0 AND error_message LIKE '%max_message_bytes%'`) == 1
	})
	r.eventually("those of other keys are settled", func() bool { return r.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) >= 280 })
	run.crash()
	r.start(nil)
	r.settled()
	r.keysInOrder("acme:orders", 301, 7)
	r.exec(`UPDATE outbox SET status = 'NEW' WHERE (payload->>'seq')::int = 5`)
	r.eventually("a row that was set back to NEW", func() bool { return r.length("acme:orders") == 302 })
	r.settled()
	if after := r.shape(); after != before {
		t.Errorf("the table was\n%s\nand is now\n%s", before, after)
	}
	if _, err := migrations.Down(t.Context(), r.connect(), migrations.Options{}); err == nil && r.shape() != before {
		t.Error("migrate down changed the table")
	}
}
