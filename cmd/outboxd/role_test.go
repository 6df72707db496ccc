package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Names that do harm, or name something else, where one of them is not quoted.
const (
	oddSchema = `Shop; DROP`
	oddTable  = `Out"box's --`
	oddOwn    = `Own "schema"; `
)

// oddColumns are the mapped columns of the odd table.
var oddColumns = map[string]string{
	"id": `Id"`, "tenant_id": `Tenant; x`, "topic": `select`, "aggregate_type": `Type'`, "aggregate_id": `$1`, "occurred_at": `At --`,
	"schema_id": `Schema /*`, "schema_version": `*/ Version`, "payload": `Pay\load`, "metadata": `{Meta}`,
	"status": `Sta"tus; DROP TABLE x`, "retry_count": `%s`, "retry_after": `After É`, "error_message": `Error 'message'`, "created_at": `Created`,
}

func quoted(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// oddly returns the SQL with the names of the odd columns for {id} and so on, and of the odd tables for {outbox} and {own}.
func oddly(sql string) string {
	sql = strings.ReplaceAll(strings.ReplaceAll(sql, "{outbox}", quoted(oddSchema, oddTable)), "{own}", quoted(oddOwn))
	for name, column := range oddColumns {
		sql = strings.ReplaceAll(sql, "{"+name+"}", quoted(column))
	}
	return sql
}

// newOddOperator makes the odd table and a role with no other rights than what migrate sql --role prints, by which outboxd then connects.
func newOddOperator(t *testing.T, settings ...string) *operator {
	o := newOperator(t, append(settings, "OUTBOXD_SINKS_REDIS_MAX_MESSAGE_BYTES=64KiB", "OUTBOXD_POLL_MAX_ATTEMPTS=1", "OUTBOXD_DATABASE_PUBLICATION=Pub \"x\"'; --",
		"OUTBOXD_DATABASE_SCHEMA="+oddOwn, "OUTBOXD_DATABASE_TABLE="+quoted(oddSchema, oddTable))...)
	for name, column := range oddColumns {
		o.environ = append(o.environ, "OUTBOXD_DATABASE_COLUMNS_"+strings.ToUpper(name)+"="+column)
	}
	o.exec(`DROP TABLE outbox; DROP SCHEMA outboxd CASCADE`)
	o.exec(`CREATE SCHEMA ` + quoted(oddSchema))
	o.exec(oddly(`CREATE TABLE {outbox} ({id} uuid PRIMARY KEY, {tenant_id} text NOT NULL, {topic} text NOT NULL, {aggregate_type} text, {aggregate_id} text,
		{occurred_at} timestamptz NOT NULL, {schema_id} text, {schema_version} int, {payload} jsonb NOT NULL, {metadata} jsonb, {status} text DEFAULT 'NEW',
		{retry_count} int DEFAULT 0, {retry_after} timestamptz, {error_message} text, {created_at} timestamptz DEFAULT now())`))
	role := fmt.Sprintf("Role \"%d\"; --", time.Now().UnixNano())
	o.exec(`CREATE ROLE ` + quoted(role) + ` LOGIN REPLICATION`)
	t.Cleanup(func() {
		o.kill()
		for _, sql := range []string{`DROP OWNED BY ` + quoted(role), `DROP ROLE ` + quoted(role)} {
			if _, err := o.conn.Exec(context.Background(), sql); err != nil { // the test's own is over
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	script, _ := o.run(exitFine, "migrate", "sql", "--role", role)
	o.exec(script)
	o.become(role)
	return o
}

// become makes outboxd and its commands connect by a role.
func (o *operator) become(role string) {
	o.t.Helper()
	u, err := url.Parse(o.conn.Config().ConnString())
	if err != nil {
		o.t.Fatal(err)
	}
	u.User = url.User(role)
	o.environ = append(o.environ, "DATABASE_URL="+u.String())
}

// insertOddly inserts events of one key each.
func (o *operator) insertOddly(tenant string, n, payloadBytes int) {
	o.t.Helper()
	o.exec(oddly(`INSERT INTO {outbox} ({id}, {tenant_id}, {topic}, {aggregate_type}, {aggregate_id}, {occurred_at}, {payload})
		SELECT md5($1 || i)::uuid, $1, 'order.paid', 'order', i::text, now(), jsonb_build_object('text', repeat('x', $3)) FROM generate_series(1, $2) i`), tenant, n, payloadBytes)
}

func (o *operator) oddStatus(tenant, status string) int {
	o.t.Helper()
	return o.count(oddly(`SELECT count(*) FROM {outbox} WHERE {tenant_id} = $1 AND {status} = $2`), tenant, status)
}

func TestTheLeastRoleDoesEverythingOnATableWhoseNamesNeedQuotes(t *testing.T) {
	t.Parallel()
	o := newOddOperator(t)
	o.insertOddly("old", 3, 1)
	o.launch()
	eventually(t, "older rows are delivered", func() bool { return o.oddStatus("old", "SENT") == 3 })
	o.insertOddly("acme", 5, 1)
	o.insertOddly("large", 1, 100_000)
	eventually(t, "fresh rows are delivered", func() bool { return o.oddStatus("acme", "SENT") == 5 })
	eventually(t, "a refused one is dead, with its reason", func() bool {
		return o.count(oddly(`SELECT count(*) FROM {outbox} WHERE {status} = 'DEAD' AND {error_message} LIKE '%max_message_bytes%'`)) == 1
	})
	if p := o.list("--status", "dead"); len(p.Events) != 1 {
		t.Errorf("dead events: %+v", p.Events)
	}
	o.want("events skip --status dead --yes", "1")
	eventually(t, "the skipped one is settled", func() bool { return o.oddStatus("large", "DEAD") == 0 })
	o.want("events replay --tenant acme --yes", "5")
	eventually(t, "the events are delivered again", func() bool {
		return len(o.stream("acme")) == 10 && o.count(oddly(`SELECT count(*) FROM {own}.parked`)) == 0
	})
	o.want("doctor", "0 errors, ", "has its rights in schema")
	o.want("slot status", "active")
	o.exec(oddly(`UPDATE {outbox} SET {created_at} = now() - interval '30 days'`))
	o.want("cleanup --yes", "deleted ")
	o.stop()
	o.want("slot drop --yes", "dropped slot")
	if got := o.oddStatus("acme", "SENT"); got != 0 {
		t.Errorf("cleanup left %d rows", got)
	}
}

func TestRowSecurityThatIsSwitchedOnUnderARunningOutboxdDoublesNothing(t *testing.T) {
	t.Parallel()
	o := newOddOperator(t)
	o.launch()
	o.insertOddly("before", 2, 1)
	eventually(t, "events are delivered", func() bool { return o.oddStatus("before", "SENT") == 2 })
	o.exec(oddly(`ALTER TABLE {outbox} ENABLE ROW LEVEL SECURITY`))
	o.insertOddly("acme", 2, 1)
	eventually(t, "the session has ended, as it cannot settle their rows", func() bool {
		return o.count(oddly(`SELECT count(*) FROM pg_replication_slots s JOIN {own}.checkpoint c ON c.slot = s.slot_name WHERE NOT s.active`)) == 1
	})
	o.exec(oddly(`ALTER TABLE {outbox} DISABLE ROW LEVEL SECURITY`))
	eventually(t, "their rows are marked", func() bool { return o.oddStatus("acme", "SENT") == 2 })
	o.stop()
	if got := o.stream("acme"); len(got) != 2 {
		t.Errorf("the stream holds %q, want two events", got)
	}
}

// The audit says which person it was.
func TestPeopleDoToEventsWhatTheDocumentGrantsThem(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.start(smallMessages)
	retried, skipped, sent := o.insert("acme", "1", 5000), o.insert("acme", "2", 5000), o.insert("acme", "3", 10)
	o.eventuallyIn("acme", sent)
	o.eventuallyListed(2, "dead")
	_, grants, _ := strings.Cut(document(t, "docs/security.md"), "<<'END'\n")
	grants, _, found := strings.Cut(grants, "\nEND\n")
	name := fmt.Sprintf("shop_%d", time.Now().UnixNano())
	if grants = strings.ReplaceAll(grants, "outboxd_app", name); !found || !strings.Contains(grants, "CREATE ROLE "+name+"_alice ") {
		t.Fatalf("docs/security.md grants %q", grants)
	}
	o.exec(grants)
	t.Cleanup(func() {
		if _, err := o.conn.Exec(context.Background(), `DROP OWNED BY `+name+`_people; DROP ROLE `+name+`_alice, `+name+`_people`); err != nil {
			t.Error(err)
		}
	})
	o.become(name + "_alice")
	o.want("events list --status dead", retried, skipped)
	o.want("events show "+retried, "state  dead", "outbox row  ")
	o.want("events retry "+retried, "retried 1 delivery\n")
	o.want("events skip "+skipped, "skipped 1 delivery\n")
	o.want("events replay "+sent, "parked for replay: 1 event, 1 delivery\n")
	o.eventuallyIn("acme", sent, sent+"+")
	if n := o.count(`SELECT count(*) FROM outboxd.audit WHERE by_role = $1`, name+"_alice"); n != 3 {
		t.Errorf("the audit notes %d acts of the person, want 3", n)
	}
	o.stop()
}
