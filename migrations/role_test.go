package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

func TestRoleWithTheScriptsRightsCanRun(t *testing.T) {
	for _, onSent := range []outbox.OnSent{outbox.Mark, outbox.Delete, outbox.Keep} {
		t.Run(string(onSent), func(t *testing.T) { runAsRole(t, testenv.Postgres(t), onSent) })
	}
}

func TestOldestAndNewestPostgres(t *testing.T) {
	for _, version := range []int{12, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			runAsRole(t, testenv.NewPostgres(t, testenv.PostgresOptions{Version: version}), outbox.Mark)
		})
	}
}

// A role that was made for the tables before a step need not be given the rights on what it adds.
func TestRoleThatMayParkMayDoSoAfterTheNextUp(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	up(t, conn, migrations.Options{})
	role := uniqueRole(t, conn)
	exec(t, conn, roleScript(t, migrations.Options{}, migrations.Role{Name: role}))
	backToThree(t, conn)
	if report := up(t, conn, migrations.Options{}); len(report.Steps) != 2 {
		t.Fatalf("Up applied %v, want the fourth step and the fifth", report.Steps)
	}
	if r, _, err := checkpoint.Load(t.Context(), conn, "outboxd", "a"); err != nil || r.Routing == nil || !r.Routing.Mixed || r.Published != "" {
		t.Errorf("how events were routed before the steps is %+v, and %q was published, %v; want that neither is known", r.Routing, r.Published, err)
	}
	var rights []string
	err := conn.QueryRow(t.Context(), `SELECT array_agg(right_ ORDER BY right_) FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) right_
		WHERE has_table_privilege($1, 'outboxd.tail_read', right_)`, role).Scan(&rights)
	if err != nil || strings.Join(rights, " ") != "DELETE INSERT SELECT UPDATE" {
		t.Errorf("the role may %v, %v", rights, err)
	}
}

// What else goes by the names of outboxd's tables, and by the rights on them, takes them from Objects.
func TestObjectsAreThoseOfTheSchemaWithTheRightsOfTheScript(t *testing.T) {
	conn := connect(t, testenv.Postgres(t).Database(t))
	up(t, conn, migrations.Options{})
	role := uniqueRole(t, conn)
	exec(t, conn, roleScript(t, migrations.Options{}, migrations.Role{Name: role}))
	rows, err := conn.Query(t.Context(), `SELECT relname, relkind = 'S', ARRAY(SELECT privilege_type FROM aclexplode(relacl) WHERE grantee = $1::regrole ORDER BY 1)
		FROM pg_class WHERE relnamespace = 'outboxd'::regnamespace AND relkind IN ('r', 'p', 'S', 'v', 'm', 'f') ORDER BY 1`, role)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[migrations.Object])
	if err != nil {
		t.Fatal(err)
	}
	want := migrations.Objects()
	slices.SortFunc(want, func(a, b migrations.Object) int { return strings.Compare(a.Name, b.Name) })
	var tables []string
	for _, o := range want {
		slices.Sort(o.Rights)
		if !o.Sequence {
			tables = append(tables, o.Name)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the schema has\n%v, and Objects says\n%v", got, want)
	}
	if names := migrations.Tables(); !slices.Equal(slices.Sorted(slices.Values(names)), tables) {
		t.Errorf("tables %v, want %v", names, tables)
	}
}

// On Amazon RDS nobody may give REPLICATION; the membership of a role stands for it.
func TestRoleScriptTakesTheMembershipForTheAttribute(t *testing.T) {
	conn, warnings := connectNoticed(t, testenv.Postgres(t).Database(t))
	up(t, conn, migrations.Options{})
	name := uniqueRole(t, conn)
	script := roleScript(t, migrations.Options{}, migrations.Role{Name: name})
	exec(t, conn, `CREATE ROLE `+name+` LOGIN`)
	exec(t, conn, script)
	if said := warnings(); !strings.Contains(said, "the role needs LOGIN and REPLICATION: ALTER ROLE \""+name) {
		t.Errorf("without a right to replicate the script says %q", said)
	}
	exec(t, conn, `CREATE ROLE rds_replication`)
	t.Cleanup(func() {
		if _, err := conn.Exec(context.WithoutCancel(t.Context()), `DROP ROLE rds_replication`); err != nil {
			t.Error(err)
		}
	})
	exec(t, conn, `GRANT rds_replication TO `+name)
	exec(t, conn, script)
	if said := warnings(); said != "" {
		t.Errorf("to a member of rds_replication the script says %q", said)
	}
}

func TestWhoMayNotMakeTheRoleIsToldWhoDoes(t *testing.T) {
	database := testenv.Postgres(t).Database(t)
	conn := connect(t, database)
	name := uniqueRole(t, conn)
	exec(t, conn, `CREATE ROLE `+name+`_dba LOGIN CREATEROLE`)
	dba := connect(t, asRole(t, database, name+"_dba"))
	_, err := dba.PgConn().Exec(t.Context(), roleScript(t, migrations.Options{}, migrations.Role{Name: name})).ReadAll()
	refused, _ := errors.AsType[*pgconn.PgError](err)
	if refused == nil || refused.Code != "42501" || !strings.Contains(refused.Message, "role \""+name+"\" cannot be made: ") || !strings.Contains(refused.Hint, "GRANT rds_replication") {
		t.Errorf("the script says %+v, %v", refused, err)
	}
}

// connectNoticed is connect, with what the server has warned of since it was last asked.
func connectNoticed(t *testing.T, url string) (conn *pgx.Conn, warnings func() string) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.Severity == "WARNING" {
			said = append(said, n.Message)
		}
	}
	if conn, err = pgx.ConnectConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn, func() string {
		defer func() { said = nil }()
		return strings.Join(said, "; ")
	}
}

// What a running outboxd does to its tables stands behind a step that waits for a lock.
func TestStepDoesNotWaitForALockForLong(t *testing.T) {
	url := testenv.Postgres(t).Database(t)
	conn, reader := connect(t, url), connect(t, url)
	up(t, conn, migrations.Options{})
	backToThree(t, conn)
	exec(t, reader, `BEGIN; LOCK TABLE outboxd.parked IN ACCESS SHARE MODE`)
	r, err := migrations.Up(t.Context(), conn, migrations.Options{})
	if err == nil || !strings.Contains(err.Error(), "run it again when that has ended") || len(r.Steps) != 0 {
		t.Errorf("Up beside a lock says %+v, %v", r, err)
	}
	exec(t, reader, `COMMIT`)
	if report := up(t, conn, migrations.Options{}); len(report.Steps) != 2 {
		t.Errorf("Up applied %v behind the lock", report.Steps)
	}
}

// backToThree takes back the fourth step and the fifth, and leaves a record of that time.
func backToThree(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, `DROP TABLE outboxd.tail_read; CREATE INDEX parked_doubt ON outboxd.parked (slot) WHERE landed_epoch IS NOT NULL;
		ALTER TABLE outboxd.checkpoint DROP COLUMN routing, DROP COLUMN lost, DROP COLUMN published; INSERT INTO outboxd.checkpoint (slot, epoch, system_identifier, timeline, confirmed_lsn) VALUES ('a', 1, '7', 1, '0/1');
		UPDATE outboxd.schema_version SET version = 3; DELETE FROM outboxd.schema_history WHERE version > 3`)
}

// runAsRole makes the tables and the role by script, and runs as the role.
func runAsRole(t *testing.T, server *testenv.PostgresServer, onSent outbox.OnSent) {
	database := server.Database(t)
	owner := connect(t, database)
	exec(t, owner, script(t, migrations.Options{Indexes: migrations.Full}))
	if r := up(t, owner, migrations.Options{}); len(r.Steps) != 0 || r.OutboxCreated {
		t.Errorf("Up after the script did %+v, want nothing", r)
	}
	role := migrations.Role{Name: uniqueRole(t, owner), OnSent: string(onSent)}
	exec(t, owner, roleScript(t, migrations.Options{}, role))
	exec(t, owner, roleScript(t, migrations.Options{}, role)) // it may be run again
	run(t, owner, asRole(t, database, role.Name), onSent)
}

// run does with the role's connections what outboxd does: check, raise the term, make the slot, record, stream, settle, save.
func run(t *testing.T, owner *pgx.Conn, roleURL string, onSent outbox.OnSent) {
	ctx := t.Context()
	conn := connect(t, roleURL)
	if err := migrations.Verify(ctx, conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	table, err := outbox.Describe(ctx, conn, outbox.Config{OnSent: onSent})
	if err != nil {
		t.Fatal(err)
	}
	source := wal.Config{
		URL: roleURL, Schema: "public", Table: "outbox", Columns: []string{"id", "status", "payload"},
		Slot: fmt.Sprintf("role_%s_%d", onSent, time.Now().UnixNano()), Publication: "outboxd", Create: true,
	}
	if _, err := wal.Setup(ctx, conn, source); err != nil { // makes the slot; the publication is the script's
		t.Fatal(err)
	}
	stream, err := wal.Open(ctx, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	lease, err := park.Raise(ctx, conn, "outboxd", source.Slot, "test")
	if err != nil {
		t.Fatal(err)
	}
	record := checkpoint.Record{SystemID: stream.SystemID, Timeline: stream.Timeline, Confirmed: stream.Start}
	if _, err := checkpoint.NewEpoch(ctx, conn, lease, record, time.Now()); err != nil {
		t.Fatal(err)
	}
	var id []byte
	err = owner.QueryRow(ctx, `INSERT INTO outbox (tenant_id, topic, occurred_at, payload) VALUES ('a', 'b', now(), '{}')
		RETURNING id::text::bytea`).Scan(&id)
	if err != nil {
		t.Fatal(err)
	}
	receiveInsert(t, stream)
	if _, _, err := table.Settle(ctx, conn, lease, [][]byte{id}); err != nil {
		t.Fatal(err)
	}
	runTableLane(t, conn, table, lease)
	if err := checkpoint.Save(ctx, conn, lease, stream.Start+8); err != nil {
		t.Fatal(err)
	}
	if _, found, err := checkpoint.Load(ctx, conn, "outboxd", source.Slot); err != nil || !found {
		t.Fatalf("load the checkpoint: found %v, %v", found, err)
	}
	if err := stream.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := wal.DropSlot(ctx, conn, source.Slot); err != nil {
		t.Fatal(err)
	}
	checkSettled(t, owner, onSent)
	checkRefused(t, conn, onSent)
}

// runTableLane does what the table lane and its commands do, on events that have no row in the outbox.
func runTableLane(t *testing.T, conn *pgx.Conn, table *outbox.Table, held lease.Lease) {
	ctx := t.Context()
	const nowhere = "00000000-0000-0000-0000-000000000001"
	ref := event.Ref{ID: nowhere}
	err := conn.QueryRow(ctx, `INSERT INTO outboxd.parked (slot, id, replay, sink, destination, target, state, epoch, commit_lsn, ordinal, key_hash, bytes, tenant_id, topic)
		SELECT $1, $2, nextval('outboxd.replay_number'), 's', 'd', 'd', 'waiting', 0, '0/1', 1, 1, 1, 'a', 'b' RETURNING replay`, held.Slot, nowhere).Scan(&ref.Replay)
	if err != nil {
		t.Fatal(err)
	}
	passed := event.Position{Epoch: 1, Commit: 1}
	_, mirrorErr := table.Mirror(ctx, conn, held, []outbox.Mirror{{ID: nowhere, Status: "FAILED"}})
	_, _, repairErr := table.RepairMirrors(ctx, conn, held, "", 10)
	_, _, skipErr := table.SkipSent(ctx, conn, held, "", 10)
	_, _, _, finishErr := table.Finish(ctx, conn, held, passed, 10)
	deliverErr := table.Deliver(ctx, conn, held, "s", "d", passed, []event.Ref{ref})
	_, _, findErr := table.Adoptable(ctx, conn, 0, "", 10)
	_, adoptErr := table.StillAdoptable(ctx, conn, []string{nowhere})
	_, _, _, cleanupErr := table.Cleanup(ctx, conn, outbox.Retention{Sent: time.Hour, Settled: &outbox.Snapshot{}, Schema: "outboxd"}, "", 10)
	_, auditErr := conn.Exec(ctx, `INSERT INTO outboxd.audit (slot, id, sink, destination, action) VALUES ('a', 'b', 'c', 'd', 'skip')`)
	if err := errors.Join(mirrorErr, repairErr, skipErr, finishErr, deliverErr, findErr, adoptErr, cleanupErr, auditErr); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := conn.QueryRow(ctx, `SELECT count(*) FROM outboxd.parked`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d events are parked, %v; want none", left, err)
	}
}

func checkSettled(t *testing.T, owner *pgx.Conn, onSent outbox.OnSent) {
	var got string
	if err := owner.QueryRow(t.Context(), `SELECT coalesce(string_agg(status, ','), '') FROM outbox`).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if want := map[outbox.OnSent]string{outbox.Mark: "SENT", outbox.Delete: "", outbox.Keep: "NEW"}[onSent]; got != want {
		t.Errorf("the row's status is %q, want %q", got, want)
	}
}

// checkRefused makes sure that the rights are no more than the least.
func checkRefused(t *testing.T, conn *pgx.Conn, onSent outbox.OnSent) {
	refused := []string{
		`INSERT INTO outbox (tenant_id, topic, occurred_at, payload) VALUES ('a', 'b', now(), '{}')`,
		`UPDATE outbox SET payload = '{}'`, `TRUNCATE outbox`, `DELETE FROM outboxd.lease`, `DROP TABLE outboxd.checkpoint`,
		`CREATE TABLE outboxd.mine (i int)`, `UPDATE outboxd.schema_version SET version = 0`, `DELETE FROM outboxd.audit`, `TRUNCATE outboxd.parked`,
	}
	if onSent == outbox.Keep {
		refused = append(refused, `UPDATE outbox SET status = 'SENT'`)
	}
	for _, sql := range refused {
		if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("the role ran %s: %v, want permission denied", sql, err)
		}
	}
}

// receiveInsert streams until the first Insert arrives.
func receiveInsert(t *testing.T, stream *wal.Stream) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		message, err := stream.Receive(time.Now().Add(time.Second))
		if err != nil {
			t.Fatalf("receive the insert: %v", err)
		}
		if message.Kind == wal.Data && message.Data[0] == 'I' {
			return
		}
	}
	t.Fatal("the insert did not arrive")
}

func roleScript(t *testing.T, o migrations.Options, r migrations.Role) string {
	t.Helper()
	var b strings.Builder
	if err := migrations.WriteRoleSQL(&b, o, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// uniqueRole returns a name that no other test has, and drops the roles that begin with it, with their rights, when the test ends.
func uniqueRole(t *testing.T, owner *pgx.Conn) string {
	name := fmt.Sprintf("role%d", time.Now().UnixNano())
	t.Cleanup(func() {
		_, err := owner.Exec(context.WithoutCancel(t.Context()), fmt.Sprintf(`DO $$
			DECLARE r text;
			BEGIN
				FOR r IN SELECT rolname FROM pg_roles WHERE starts_with(rolname, '%s') LOOP
					EXECUTE format('DROP OWNED BY %%I', r);
					EXECUTE format('DROP ROLE %%I', r);
				END LOOP;
			END $$`, name))
		if err != nil {
			t.Error(err)
		}
	})
	return name
}

// asRole returns the database's URL with the role as its user; the test's server trusts local connections.
func asRole(t *testing.T, database, role string) string {
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}
