package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/event"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
)

func TestColumnsThatDoNotServeAreFound(t *testing.T) {
	r := setup(t)
	r.want("columns", OK, "types that serve", "")
	r.exec(`CREATE DOMAIN moment AS timestamptz; CREATE DOMAIN occurrence AS moment; ALTER TABLE outbox ALTER COLUMN occurred_at TYPE occurrence`)
	r.want("columns", OK, "types that serve", "")
	r.exec(`ALTER TABLE outbox ALTER COLUMN occurred_at TYPE timestamp, ALTER COLUMN retry_count DROP DEFAULT, ALTER COLUMN retry_count TYPE text,
		ALTER COLUMN event_metadata DROP DEFAULT, ALTER COLUMN event_metadata TYPE bytea USING NULL, ALTER COLUMN tenant_id DROP NOT NULL`)
	findings := r.examine()
	wantFinding(t, findings, "column_type", Warning, `"occurred_at" has the type timestamp without time zone`, "TYPE timestamp with time zone")
	wantFinding(t, findings, "column_type", Warning, `"retry_count" has the type text`, "database.columns.retry_count")
	wantFinding(t, findings, "column_type", Warning, `"event_metadata" has the type bytea`, "database.columns.event_metadata")
	wantFinding(t, findings, "column_null", Warning, `"tenant_id" may be NULL`, `ALTER TABLE "public"."outbox" ALTER COLUMN "tenant_id" SET NOT NULL`)

	r.exec(`ALTER TABLE outbox DROP COLUMN topic`)
	r.want("columns", Error, `has no column "topic"`, "column mapping")
	r.exec(`ALTER TABLE outbox DROP COLUMN status`)
	r.want("table", Error, `no column "status"`, "on_sent to delete or keep")
}

func TestATableThatCannotBeSettledIsFound(t *testing.T) {
	r := setup(t)
	r.exec(`ALTER TABLE outbox DROP CONSTRAINT outbox_pkey`)
	r.want("table", Error, `no index begins with column "id"`, "CREATE UNIQUE INDEX CONCURRENTLY")
}

func TestIDsThatTwoRowsCanHaveAreFound(t *testing.T) {
	const pair = "two rows can have one id"
	r := setup(t)
	r.wantNone("index_unique", Warning)
	r.exec(`ALTER TABLE outbox DROP CONSTRAINT outbox_pkey`)
	r.exec(`CREATE INDEX plain ON outbox (id)`)
	r.want("index_unique", Warning, pair, `CREATE UNIQUE INDEX CONCURRENTLY ON "public"."outbox" ("id")`)
	r.exec(`CREATE UNIQUE INDEX partial ON outbox (id) WHERE status = 'NEW'`)
	r.exec(`CREATE UNIQUE INDEX wide ON outbox (id, created_at)`)
	r.exec(`CREATE UNIQUE INDEX another ON outbox (created_at)`)
	r.exec(`CREATE UNIQUE INDEX failed ON outbox (id)`)
	r.invalid("failed")
	r.want("index_unique", Warning, pair, "")
	r.cfg.Outbox.OnSent = outbox.Keep
	r.want("index_unique", Warning, pair, "")
	r.exec(`CREATE UNIQUE INDEX serves ON outbox (id) INCLUDE (topic)`)
	r.wantNone("index_unique", Warning)
}

func TestIDsThatTwoRowsOfPartitionsCanHaveAreFound(t *testing.T) {
	if testenv.Postgres(t).Major < 13 {
		return // it cannot publish partitioned tables
	}
	for _, one := range []struct {
		id, key, by string
		found       bool
	}{
		{"uuid", "id, created_at", "created_at", false},
		{"bigint", "id, created_at", "created_at", true},
		{"bigint", "id", "id", false},
	} {
		t.Run(one.id+" by "+one.by, func(t *testing.T) {
			r := bare(t, testenv.Postgres(t))
			r.exec(`CREATE TABLE outbox (id ` + one.id + `, tenant_id text NOT NULL, topic text NOT NULL, payload jsonb NOT NULL, status varchar(10) DEFAULT 'NEW',
				created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (` + one.key + `)) PARTITION BY RANGE (` + one.by + `)`)
			r.exec(`CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT`)
			r.migrate()
			r.stream()
			if one.found {
				r.want("index_unique", Warning, "two rows can have one id", `make "id" a uuid`)
			} else {
				r.wantNone("index_unique", Warning)
			}
		})
	}
}

func TestAPartitionKeyThatChangesIsFound(t *testing.T) {
	if testenv.Postgres(t).Major < 13 {
		t.Skip("partitioned tables cannot be published there")
	}
	for key, says := range map[string]string{
		"LIST (status)": "by status", "LIST ((lower(status)))": "by status", "RANGE (created_at)": "", "RANGE (created_at, retry_after)": "by retry_after",
	} {
		t.Run(key, func(t *testing.T) {
			r := bare(t, testenv.Postgres(t))
			r.exec(`CREATE TABLE outbox (id uuid NOT NULL, tenant_id text NOT NULL, topic text NOT NULL, payload jsonb NOT NULL, status varchar(10) DEFAULT 'NEW',
				retry_after timestamptz, created_at timestamptz NOT NULL DEFAULT now()) PARTITION BY ` + key)
			r.exec(`CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT`)
			r.migrate()
			r.stream()
			if says == "" {
				r.wantNone("partition_key", Warning)
			} else {
				r.want("partition_key", Warning, says, "such as created_at")
			}
		})
	}
}

func TestAKeyOfPartitionsOfPartitionsThatChangesIsFound(t *testing.T) {
	if testenv.Postgres(t).Major < 13 {
		t.Skip("partitioned tables cannot be published there")
	}
	r := bare(t, testenv.Postgres(t))
	r.exec(`CREATE TABLE outbox (id uuid NOT NULL, tenant_id text NOT NULL, topic text NOT NULL, payload jsonb NOT NULL, status varchar(10) DEFAULT 'NEW',
		created_at timestamptz NOT NULL DEFAULT now()) PARTITION BY RANGE (created_at)`)
	r.exec(`CREATE TABLE outbox_days PARTITION OF outbox DEFAULT PARTITION BY LIST (status)`)
	r.exec(`CREATE TABLE outbox_rest PARTITION OF outbox_days DEFAULT`)
	r.migrate()
	r.stream()
	r.want("partition_key", Warning, "by status", "such as created_at")
}

func TestEachProblemOfTheTableIsAFinding(t *testing.T) {
	r := setup(t)
	r.cfg.Outbox.Statuses = outbox.Statuses{New: "NEW_NEW_NEW_NEW", Sent: "SENT_SENT_SENT"}
	findings := r.examine()
	wantFinding(t, findings, "table", Error, `status "NEW_NEW_NEW_NEW" does not fit`, "name a shorter one")
	wantFinding(t, findings, "table", Error, `status "SENT_SENT_SENT" does not fit`, "name a shorter one")
}

func TestAnInvalidIndexIsFoundAndOursIsDropped(t *testing.T) {
	r := setup(t)
	r.exec(`CREATE INDEX theirs ON outbox (topic)`)
	r.invalid("theirs")
	r.invalid("ix_outbox_retry_after")
	r.invalid("outboxd.parked_dead")
	r.exec(`CREATE INDEX tail_read_pkey_ccnew ON outboxd.tail_read (slot)`) // so REINDEX CONCURRENTLY calls it
	r.invalid("outboxd.tail_read_pkey_ccnew")
	findings := r.examine()
	wantFinding(t, findings, "index_invalid", Warning, "outboxd.tail_read_pkey_ccnew", `DROP INDEX CONCURRENTLY IF EXISTS "outboxd"."tail_read_pkey_ccnew"`)
	wantFinding(t, findings, "index_invalid", Warning, "public.theirs", "DROP INDEX CONCURRENTLY")
	wantFinding(t, findings, "index_invalid", Warning, "outboxd.parked_dead", `DROP INDEX CONCURRENTLY IF EXISTS "outboxd"."parked_dead"`)
	wantFinding(t, findings, "index_missing", Warning, "no index begins with", "CREATE INDEX CONCURRENTLY IF NOT EXISTS")

	fixed := Mend(t.Context(), r.cfg, findings)
	for _, f := range fixed {
		if f.Error != "" {
			t.Errorf("%s: %s", f.Check, f.Error)
		}
	}
	findings = r.examine()
	wantFinding(t, findings, "index_invalid", Warning, "public.theirs", "")
	for _, f := range findings {
		if f.Check == "index_missing" || f.Check == "index_invalid" && !strings.Contains(f.Saw, "theirs") {
			t.Errorf("not fixed: %s", f.Saw)
		}
	}
	if again := Mend(t.Context(), r.cfg, findings); len(again) > 0 {
		t.Errorf("a second fix did %v", again)
	}
}

// invalid makes an index what a CREATE INDEX CONCURRENTLY that failed leaves.
func (r *rig) invalid(name string) {
	r.Helper()
	r.exec(`UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::regclass`, name)
}

// Another process has made the index between the look and the fix.
func TestAFixThatIsDoneAlreadyDoesNoHarm(t *testing.T) {
	r := setup(t)
	r.exec(`ALTER PUBLICATION outboxd DROP TABLE outbox`)
	r.exec(`DROP INDEX ix_outbox_retry_after`)
	r.invalid("outboxd.parked_dead")
	findings := r.examine()
	r.exec(`ALTER PUBLICATION outboxd ADD TABLE outbox`)
	r.exec(`CREATE INDEX ix_outbox_retry_after ON outbox (retry_after) WHERE retry_after IS NOT NULL`)
	r.exec(`UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'outboxd.parked_dead'::regclass`)
	fixed := Mend(t.Context(), r.cfg, findings)
	if len(fixed) != 3 {
		t.Errorf("%d fixes, want 3: %v", len(fixed), fixed)
	}
	for _, f := range fixed {
		if f.Error != "" {
			t.Errorf("%s: %s", f.Check, f.Error)
		}
	}
	r.wantNone("publication", Error)
	r.wantNone("index_missing", Warning)
	r.exec(`DROP INDEX outboxd.parked_dead`) // it is there still
}

// A standby instance holds a snapshot for a minute, for which CREATE INDEX CONCURRENTLY waits; giving up would leave an invalid index.
func TestAnIndexIsMadeBesideOpenSnapshots(t *testing.T) {
	r := setup(t)
	r.exec(`DROP INDEX ix_outbox_retry_after`)
	before := mendLockTimeout
	mendLockTimeout = "50ms"
	defer func() { mendLockTimeout = before }()
	findings := r.examine()
	standby := r.connect()
	if _, err := standby.Exec(t.Context(), `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1`); err != nil {
		t.Fatal(err)
	}
	fixed := make(chan []Fixed, 1)
	go func() { fixed <- Mend(t.Context(), r.cfg, findings) }()
	r.eventually("the index waits longer than for a lock of the application", func() bool {
		var waits bool
		if err := r.conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
			AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event = 'virtualxid' AND query_start < clock_timestamp() - interval '200ms')`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		return waits
	})
	if _, err := standby.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if all := <-fixed; len(all) != 1 || all[0].Error != "" {
		t.Errorf("fixes: %+v", all)
	}
	r.wantNone("index_missing", Warning)
	r.wantNone("index_invalid", Warning)
}

// Each fix is tried and told, also behind one that failed.
func TestAFixThatFailsIsTold(t *testing.T) {
	r := setup(t)
	r.exec(`ALTER PUBLICATION outboxd DROP TABLE outbox`)
	r.invalid("outboxd.parked_dead")
	findings := r.examine()
	r.exec(`DROP PUBLICATION outboxd`)
	fixed := Mend(t.Context(), r.cfg, findings)
	if len(fixed) != 2 || !strings.Contains(fixed[0].Error, "does not exist") || fixed[1].Error != "" {
		t.Errorf("fixes: %+v", fixed)
	}
}

func TestIndexesThatCostMoreThanTheyServeAreFound(t *testing.T) {
	r := setup(t)
	r.exec(`CREATE INDEX by_status ON outbox (topic) WHERE status = 'NEW'`)
	r.exec(`CREATE INDEX by_topic ON outbox (topic)`)
	r.want("index_hot", Info, "1 indexes name the status: by_status", "DROP INDEX CONCURRENTLY")
	r.events(fewChanges, "SENT", "0s")
	r.eventually("the statistics show the rows", func() bool {
		r.exec(`SELECT`) // a session before 15 tells its counts with a later command
		for _, f := range r.examine() {
			if f.Check == "index_unused" && f.Level == Info && strings.Contains(f.Saw, "by_topic") {
				return true
			}
		}
		return false
	})
}

// eventually waits for what the server does in its own time: statistics.
func (r *rig) eventually(what string, is func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(deadline) {
			r.Fatalf("not so after 20 s: %s", what)
		}
	}
}

func TestDeadRowsBloatAndNoAutovacuumAreFound(t *testing.T) {
	r := setup(t)
	r.exec(`ALTER TABLE outbox SET (autovacuum_enabled = false)`)
	r.want("autovacuum_table", Warning, "public.outbox", "RESET (autovacuum_enabled)")
	for _, table := range migrations.Tables() {
		r.exec(`ALTER TABLE outboxd.` + table + ` SET (autovacuum_enabled = false)`)
	}
	findings := r.examine()
	for _, table := range migrations.Tables() {
		wantFinding(t, findings, "autovacuum_table", Warning, "outboxd."+table, "RESET (autovacuum_enabled)")
	}
	r.events(deadRows+1, "NEW", "0s")
	r.exec(`DELETE FROM outbox`)
	r.eventually("the statistics show the dead rows", func() bool {
		r.exec(`SELECT`) // a session before 15 tells its counts with a later command
		for _, f := range r.examine() {
			if f.Check == "dead_rows" && f.Level == Warning && strings.Contains(f.Mend, "VACUUM (ANALYZE) public.outbox") {
				return true
			}
		}
		return false
	})
	h := heap{Name: "public.outbox", Bytes: 1 << 30, EstimatedBytes: 1 << 27}
	wantFinding(t, h.findings(), "bloat", Info, "takes 1.0 GiB", "pg_repack")
}

func TestStatusesAreShownAndOldRowsAreFound(t *testing.T) {
	r := setup(t)
	r.want("statuses", OK, "the table is empty", "")
	r.want("old", OK, "no row is older", "")
	r.events(3, "SENT", "2h")
	r.events(1, "NEW", "10min")
	r.want("statuses", OK, "SENT 75.0 %, NEW 25.0 %, of the first", "")
	r.want("old", OK, "no row is older", "")
	r.events(1, "NEW", "2h")
	r.events(2, "FAILED", "2h")
	findings := r.examine()
	wantFinding(t, findings, "old", Warning, "1 rows are NEW and older than an hour", "events show")
	wantFinding(t, findings, "old", Warning, "2 rows are FAILED and older than an hour", "events show")
	r.exec(`ANALYZE outbox`)
	r.want("statuses", OK, "by the last ANALYZE", "")
}

// With standard_conforming_strings off, a backslash in a plain literal is an escape.
func TestOldRowsAreFoundByAStatusWithABackslash(t *testing.T) {
	r := setup(t)
	r.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off', current_database()); END $$`)
	r.cfg.Outbox.Statuses.New = `N\W`
	r.events(1, `N\W`, "2h")
	r.want("old", Warning, `1 rows are N\W and older than an hour`, "")
}

// Without an index on the status, doctor would read the whole table.
func TestALargeTableIsNotReadForOldRows(t *testing.T) {
	r := setup(t)
	r.exec(`ALTER TABLE outbox ALTER COLUMN payload SET STORAGE PLAIN`)
	r.exec(`INSERT INTO outbox (tenant_id, topic, occurred_at, payload, created_at)
		SELECT 'acme', 't', now(), jsonb_build_object('x', repeat('x', 7000)), now() - interval '2h' FROM generate_series(1, $1) g`, smallTable/8192+100)
	r.want("old", Info, "are not looked for", "")
	r.exec(`CREATE INDEX ON outbox (status)`)
	r.want("old", Warning, "are NEW and older than an hour", "events show")
}

func TestPartitionsAreLookedAt(t *testing.T) {
	if testenv.Postgres(t).Major < 13 {
		return // it cannot publish partitioned tables
	}
	r := bare(t, testenv.Postgres(t))
	r.exec(`CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), tenant_id text NOT NULL, aggregate_type text, aggregate_id text, topic text NOT NULL, occurred_at timestamptz,
		payload jsonb NOT NULL, status varchar(10) DEFAULT 'NEW', retry_after timestamptz, retry_count int, error_message text, created_at timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at)`)
	r.exec(`CREATE TABLE outbox_all PARTITION OF outbox FOR VALUES FROM ('2000-01-01') TO ('2100-01-01') WITH (autovacuum_enabled = false)`)
	r.migrate()
	r.stream()
	r.events(2, "NEW", "2h")
	findings := r.examine()
	wantFinding(t, findings, "autovacuum_table", Warning, "public.outbox_all", "")
	wantFinding(t, findings, "old", Warning, "2 rows are NEW", "")
	wantFinding(t, findings, "index_missing", Warning, "no index begins with the status", "CREATE INDEX IF NOT EXISTS")
	for _, f := range findings {
		if f.Fixable {
			t.Errorf("an index on a partitioned table locks it: %+v", f)
		}
	}
}

func TestWhatIsParkedIsFound(t *testing.T) {
	r := bare(t, testenv.Postgres(t))
	r.migrate()
	lease := r.stream()
	row := func(id, reason string, state park.State, blocks bool) park.Row {
		return park.Row{
			Destination: park.Destination{Sink: "redis", Name: "outbox:acme:order.paid"}, Target: "outbox:acme:order.paid",
			Event: event.Event{
				Position: event.Position{Epoch: 1, Commit: event.LSN(len(id)), Ordinal: uint32(id[0])},
				ID:       []byte(id), TenantID: []byte("acme"), Topic: []byte("order.paid"), AggregateType: []byte("order"), AggregateID: []byte(id), Payload: []byte("{}"),
			},
			State: state, Reason: reason, Blocks: blocks,
		}
	}
	rows := []park.Row{
		row("a", "the broker refuses it", park.Dead, true), row("b", "the broker refuses it", park.Dead, false), row("c", "no answer", park.Waiting, false),
	}
	for i := range rows {
		rows[i].Key, _ = park.KeyOf(&rows[i].Event, 0, nil)
	}
	if _, err := park.Insert(t.Context(), r.conn, lease, rows); err != nil {
		t.Fatal(err)
	}
	findings := r.examine()
	wantFinding(t, findings, "dead", Warning, "2 deliveries are dead", "outboxd events list --status dead")
	wantFinding(t, findings, "waiting", Info, "1 deliveries wait", "")
	wantFinding(t, findings, "reason", Info, "2 dead: the broker refuses it", "")
	wantFinding(t, findings, "reason", Info, "1 waiting: no answer", "")
	wantFinding(t, findings, "keys", Info, "2 keys wait", "")
	wantFinding(t, findings, "blocked", Warning, "1 keys are held back", "outboxd events retry")
	if _, got := examineDatabase(t.Context(), &r.cfg); len(got) != 1 || got[0].Name != "outbox:acme:order.paid" {
		t.Errorf("the brokers are told of %v", got)
	}
	r.exec(`UPDATE outboxd.parked SET parked_at = now() - interval '2h'`)
	r.want("waiting", Warning, "the oldest for 2h0m", "outboxd events list --status waiting")
}

func TestAnIndexByATimeThatAllRowsHaveIsNotEnough(t *testing.T) {
	r := setup(t)
	r.wantNone("index_missing", Info)
	r.exec(`ALTER TABLE outbox ALTER retry_after SET DEFAULT now()`)
	r.want("index_missing", Info, "no index begins with the status", `CREATE INDEX CONCURRENTLY ON "public"."outbox" ("status")`)
}
