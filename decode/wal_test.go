package decode_test

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/decode"
	"github.com/outboxd/outboxd/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var record = flag.Bool("record", false, "write what the server sent to "+recorded+", the fuzz test's seeds")

// recorded holds one message a line, in hexadecimal, of a real server.
const recorded = "testdata/stream.hex"

// log is a database with a slot whose stream the tests read.
type log struct {
	t       *testing.T
	conn    *pgx.Conn
	version int
	slot    string
}

// newLog makes a database, runs setup in it, then makes a publication with the given options for all tables, and a slot.
func newLog(t *testing.T, publication string, setup ...string) *log {
	t.Helper()
	url := testenv.Postgres(t).Database(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the database is dropped after this
	l := &log{t: t, conn: conn, slot: fmt.Sprintf("decode_%d", time.Now().UnixNano())}
	l.query(&l.version, "SELECT current_setting('server_version_num')::int")
	if l.version < 13_00_00 { // which brought the function
		l.exec("CREATE FUNCTION gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT md5(random()::text || clock_timestamp())::uuid'")
	}
	l.exec(setup...)
	l.exec(publication)
	l.exec("SELECT pg_create_logical_replication_slot('" + l.slot + "', 'pgoutput')")
	l.exec("SET TimeZone = 'UTC'", "SET DateStyle = 'ISO'")
	return l
}

func (l *log) exec(statements ...string) {
	l.t.Helper()
	for _, s := range statements {
		if _, err := l.conn.Exec(l.t.Context(), s); err != nil {
			l.t.Fatalf("%.200s: %v", s, err)
		}
	}
}

func (l *log) query(to any, sql string) {
	l.t.Helper()
	if err := l.conn.QueryRow(l.t.Context(), sql).Scan(to); err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
}

// messages returns what the slot would stream.
func (l *log) messages() [][]byte {
	l.t.Helper()
	options := "'proto_version', '1', 'publication_names', 'p'"
	if l.version >= 14_00_00 {
		options += ", 'messages', 'true'"
	}
	rows, err := l.conn.Query(l.t.Context(), "SELECT data FROM pg_logical_slot_peek_binary_changes('"+l.slot+"', NULL, NULL, "+options+")")
	if err != nil {
		l.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

const seedTable = `CREATE TABLE outbox (
	id UUID PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id VARCHAR(128) NOT NULL, aggregate_id VARCHAR(128), aggregate_type VARCHAR(100),
	topic VARCHAR(128) NOT NULL, occurred_at TIMESTAMP WITH TIME ZONE NOT NULL, schema_id VARCHAR(128), schema_version INTEGER DEFAULT 1,
	payload JSONB NOT NULL, event_metadata JSONB DEFAULT '{}', status VARCHAR(10) DEFAULT 'NEW', retry_count INTEGER DEFAULT 0,
	retry_after TIMESTAMP WITH TIME ZONE, error_message VARCHAR(500), created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW())`

func insertSQL(tenant, payload string) string {
	return fmt.Sprintf(`INSERT INTO outbox (tenant_id, topic, occurred_at, payload) VALUES (%s, 'orders', '2026-11-24 09:30:00.123456+00', %s)`, tenant, payload)
}

// history is what an application, its database administrator and other tables do to a database, in one session.
var history = []string{
	// Rows of all shapes: every column, NULLs, empty strings, Unicode, a fraction of a second and none, infinity, a large value.
	insertSQL("'acme'", `'{"a": [1, 2.50, null, "x\\y"]}'`),
	`INSERT INTO outbox (tenant_id, aggregate_id, aggregate_type, topic, occurred_at, schema_id, schema_version, payload, event_metadata, status)
		VALUES ('Größe 東京 🏦', '', '', 'order.créé', '2026-01-01', 's', 2147483647, 'null', NULL, 'SENT'), ('', '1', 'order', '', 'infinity', '', NULL, '"é"', '{"k": "v"}', ''),
		('t', NULL, NULL, 't', '0044-03-15 00:00:00+00 BC', NULL, NULL, '[]', '{}', NULL)`,
	insertSQL("'big'", `to_jsonb(repeat('0123456789abcdef', 65536))`),
	insertSQL("'big'", `to_jsonb((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 40000) i))`),
	// Transactions: several rows, subtransactions that are rolled back, a whole one rolled back, none of the outbox, two alternating tables.
	"BEGIN", insertSQL("'a'", "'1'"), "SAVEPOINT s", insertSQL("'b'", "'2'"), "ROLLBACK TO s", insertSQL("'c'", "'3'"),
	"SAVEPOINT u", insertSQL("'d'", "'4'"), "RELEASE u", "COMMIT",
	"BEGIN", insertSQL("'never'", "'0'"), "ROLLBACK",
	"INSERT INTO other VALUES (1, 'happy', NULL, '\\x00ff', '{1,NULL}', 1.5, now())",
	"BEGIN", insertSQL("'a'", "'5'"), "INSERT INTO other (id, mood) VALUES (2, 'sad')", insertSQL("'a'", "'6'"), "COMMIT",
	"INSERT INTO audit.outbox VALUES (1), (NULL)",
	// Updates and deletes with every replica identity, truncates.
	"UPDATE outbox SET status = 'SENT' WHERE tenant_id = 'acme'", "UPDATE outbox SET id = gen_random_uuid() WHERE tenant_id = 'c'",
	"UPDATE outbox SET status = 'SENT' WHERE tenant_id = 'big'", // unchanged large values are not sent
	"DELETE FROM outbox WHERE tenant_id = 'd'",
	"ALTER TABLE outbox REPLICA IDENTITY FULL", "UPDATE outbox SET status = 'SENT' WHERE tenant_id IN ('a', 'big')", "DELETE FROM outbox WHERE tenant_id = 'a'",
	"ALTER TABLE other REPLICA IDENTITY FULL", "UPDATE other SET mood = 'ok'", "DELETE FROM other WHERE id = 2",
	"ALTER TABLE outbox REPLICA IDENTITY DEFAULT",
	"TRUNCATE other, audit.outbox RESTART IDENTITY CASCADE", "TRUNCATE outbox",
	// The table changes: a column more, one less, another order, another type; the same name made anew.
	"ALTER TABLE outbox ADD COLUMN extra text DEFAULT 'x'", insertSQL("'wider'", "'7'"),
	"ALTER TABLE outbox DROP COLUMN retry_after", insertSQL("'narrower'", "'8'"),
	"ALTER TABLE outbox DROP COLUMN topic, ADD COLUMN topic text", insertSQL("'reordered'", "'9'"),
	"BEGIN", insertSQL("'changed'", "'10'"), "ALTER TABLE outbox ALTER COLUMN payload TYPE json USING payload::json", insertSQL("'changed'", "'{ \"as\":\"written\" }'"), "COMMIT",
	"ALTER TABLE outbox ADD COLUMN feeling mood DEFAULT 'happy'", insertSQL("'typed'", "'11'"),
	"DROP TABLE outbox", seedTable, insertSQL("'anew'", "'12'"),
	// Messages and an origin.
	"SELECT pg_logical_emit_message(false, 'prefix', 'alone')",
	"BEGIN", "SELECT pg_logical_emit_message(true, 'prefix', 'inside')", insertSQL("'a'", "'13'"), "COMMIT",
	"BEGIN", "SELECT pg_logical_emit_message(false, '', 'although rolled back')", "ROLLBACK",
	"SELECT pg_replication_origin_create(ORIGIN)", "SELECT pg_replication_origin_session_setup(ORIGIN)", insertSQL("'from elsewhere'", "'14'"),
	"SELECT pg_replication_origin_session_reset()", "SELECT pg_replication_origin_drop(ORIGIN)",
}

// outboxInserts is how many rows of the history were committed.
const outboxInserts = 20

func TestDecoderReadsARealLogAsTheParserDoes(t *testing.T) {
	l := newLog(t, "CREATE PUBLICATION p FOR ALL TABLES",
		"CREATE SCHEMA audit", "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')", seedTable, "CREATE TABLE audit.outbox (id int)",
		"ALTER TABLE audit.outbox REPLICA IDENTITY FULL", "CREATE TABLE other (id int PRIMARY KEY, mood mood, n text, b bytea, a int[], f numeric, t timestamptz)")
	for _, s := range history {
		l.exec(strings.ReplaceAll(s, "ORIGIN", "'"+l.slot+"'"))
	}
	messages := l.messages()
	kinds := compareAll(t, messages, decode.DefaultColumns())
	want := []decode.Kind{
		decode.Begin, decode.Commit, decode.Origin, decode.Relation, decode.Type, decode.Insert, decode.Update, decode.Delete, decode.Truncate,
	}
	if l.version >= 14_00_00 {
		want = append(want, decode.LogicalMessage)
	}
	for _, kind := range want {
		if kinds[kind] == 0 {
			t.Errorf("no %s was sent", kind)
		}
	}
	if *record {
		saveStream(t, messages)
	}
}

// compareAll decodes the messages, compares each with the parser's reading, and counts them by kind.
func compareAll(t *testing.T, messages [][]byte, columns decode.Columns) map[decode.Kind]int {
	t.Helper()
	d, r := decode.New("public", "outbox", columns), newReference("public", "outbox", columns)
	kinds := map[decode.Kind]int{}
	var m decode.Message
	inserts, largest := 0, 0
	for i, data := range messages {
		if err := d.Decode(data, &m); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if err := r.compare(data, &m); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		kinds[m.Kind]++
		if m.Kind == decode.Insert && m.Outbox {
			inserts++
			largest = max(largest, len(m.Event.Payload))
		}
	}
	if inserts != outboxInserts || largest < 1<<20 {
		t.Errorf("%d inserts of the outbox, the largest payload %d bytes; want %d, and a megabyte", inserts, largest, outboxInserts)
	}
	return kinds
}

// saveStream writes the messages down, the largest ones excepted.
func saveStream(t *testing.T, messages [][]byte) {
	t.Helper()
	var b strings.Builder
	for _, data := range messages {
		if len(data) < 1<<12 {
			b.WriteString(hex.EncodeToString(data) + "\n")
		}
	}
	if err := os.WriteFile(recorded, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

const partitioned = `CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), tenant_id text, topic text, payload jsonb, at date) PARTITION BY RANGE (at)`

var partitionedColumns = decode.Columns{ID: "id", TenantID: "tenant_id", Topic: "topic", Payload: "payload"}

func TestPartitionsArePublishedAsTheOutboxOrRefused(t *testing.T) {
	if major := testenv.Postgres(t).Major; major < 13 {
		t.Skipf("PostgreSQL %d cannot publish a partitioned table", major)
	}
	const insert = `INSERT INTO outbox (tenant_id, topic, payload, at) VALUES ('a', 'o', '1', '2026-11-24')`
	for option, wantErr := range map[string]string{"true": "", "false": "table public.outbox_2026"} {
		l := newLog(t, "CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = "+option+")",
			partitioned, "CREATE TABLE outbox_2026 PARTITION OF outbox FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
		l.exec(insert)
		d := decode.New("public", "outbox", partitionedColumns)
		var m decode.Message
		var err error
		for _, data := range l.messages() {
			if err = d.Decode(data, &m); err != nil || m.Kind == decode.Insert {
				break
			}
		}
		switch {
		case wantErr == "" && (err != nil || !m.Outbox || string(m.Event.TenantID) != "a"):
			t.Errorf("via root: outbox %v, %v", m.Outbox, err)
		case wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)):
			t.Errorf("under its own name: %v", err)
		}
	}
}

func TestRenamedOutboxIsRefused(t *testing.T) {
	l := newLog(t, "CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')", seedTable)
	l.exec(insertSQL("'a'", "'1'"), "ALTER TABLE outbox RENAME TO outbox_old", strings.ReplaceAll(insertSQL("'a'", "'2'"), "outbox", "outbox_old"))
	d := newDecoder()
	var m decode.Message
	inserts := 0
	for _, data := range l.messages() {
		if err := d.Decode(data, &m); err != nil {
			if inserts != 1 || !strings.Contains(err.Error(), "table public.outbox_old") {
				t.Errorf("after %d inserts: %v", inserts, err)
			}
			return
		}
		if m.Kind == decode.Insert {
			inserts++
		}
	}
	t.Error("the row of the renamed table was passed over")
}
