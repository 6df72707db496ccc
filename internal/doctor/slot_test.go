package doctor

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

func TestFaultsOfThePublicationAreFoundAndFixed(t *testing.T) {
	r := setup(t)
	r.want("publication", OK, "publication outboxd exists", "")

	r.exec(`ALTER PUBLICATION outboxd DROP TABLE outbox`)
	r.want("publication", Error, "does not contain public.outbox", `ADD TABLE "public"."outbox"`)
	if f := r.fix("publication"); f.Error != "" {
		t.Error(f.Error)
	}
	r.wantNone("publication", Error)

	r.exec(`ALTER PUBLICATION outboxd SET (publish = 'update')`)
	r.want("publication", Error, "does not publish inserts", "SET (publish = 'insert')")

	r.exec(`DROP PUBLICATION outboxd`)
	r.want("publication", Error, "does not exist while slot", "drop the slot")
}

func TestWhatAPublicationLeavesOutIsFound(t *testing.T) {
	r := setup(t)
	if testenv.Postgres(t).Major < 15 {
		return // no filters and lists of columns there
	}
	r.exec(`ALTER PUBLICATION outboxd SET TABLE outbox WHERE (tenant_id = 'acme')`)
	r.want("publication", Warning, "publishes only rows WHERE", `SET TABLE "public"."outbox" (this drops its other tables); to share the table out among several, set shards`)
	r.exec(`ALTER PUBLICATION outboxd SET TABLE outbox WHERE (status = 'NEW')`)
	r.want("publication", OK, "fresh rows alone", "")
	r.exec(`ALTER PUBLICATION outboxd SET TABLE outbox (id, topic)`)
	r.want("publication", Error, "does not publish column", `SET TABLE "public"."outbox"`)

	r.cfg.WAL.Rows = `(hash_record_extended(ROW("tenant_id"), 0) & 9223372036854775807) % 2 = 0`
	r.exec(`ALTER PUBLICATION outboxd SET TABLE outbox WHERE (` + r.cfg.WAL.Rows + `)`)
	r.want("publication", OK, "publishes the rows of the shard alone", "")
	r.exec(`ALTER PUBLICATION outboxd SET TABLE outbox`)
	r.want("row_filter", Error, "publishes other rows than those of this shard (all of them)", "and SELECT pg_drop_replication_slot(")
}

func TestWhatIsNotThereYetIsFoundWithTheCommandThatMakesIt(t *testing.T) {
	r := bare(t, testenv.Postgres(t))
	r.want("table", Error, "table public.outbox does not exist", "outboxd migrate up")
	r.want("migrations", Error, "has version 0", "outboxd migrate up")
	r.migrate()
	r.want("publication", Warning, "does not exist yet", "outboxd run")
	r.want("slot", Warning, "does not exist yet", "outboxd run")
	if f := r.fix("publication"); f.Error != "" {
		t.Error(f.Error)
	}
	r.want("publication", OK, "exists", "")
}

// What mends a slot of one's own would harm whoever streams from this one.
func TestSlotOfAnotherDatabaseIsLeftAlone(t *testing.T) {
	r, other := setup(t), setup(t)
	r.cfg.WAL.Slot = other.cfg.WAL.Slot
	r.exec(`DROP PUBLICATION outboxd`)
	findings := r.examine()
	wantFinding(t, findings, "slot", Error, "belongs to database", "name another slot")
	if said := text(findings); strings.Contains(said, "slot drop") || strings.Contains(said, "pg_drop_replication_slot") {
		t.Errorf("doctor advises to drop it:\n%s", said)
	}
}

func TestFaultsOfTheSlotAreFound(t *testing.T) {
	r := setup(t)
	r.want("slot_active", Warning, "nobody reads from slot", "start outboxd run")
	r.want("instances", Warning, "no instance", "start outboxd run")
	r.want("checkpoint", OK, "the slot agrees", "")

	r.cfg.MaxRetainedWAL = 1
	r.exec(`CREATE TABLE noise AS SELECT md5(g::text) FROM generate_series(1, 1000) g`)
	r.want("slot_wal", Warning, "more than outage.max_retained_wal", "see outboxd's log")

	r.exec(`UPDATE outboxd.checkpoint SET system_identifier = '1'`)
	r.want("checkpoint", Error, "another cluster", "On a copy")
	r.exec(`UPDATE outboxd.checkpoint SET system_identifier = (SELECT system_identifier::text FROM pg_control_system())`)

	r.exec(`SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, r.cfg.WAL.Slot)
	r.want("checkpoint", Error, "beyond its checkpoint", "outboxd run makes it anew")

	r.exec(`DELETE FROM outboxd.checkpoint`)
	r.want("checkpoint", Info, "no checkpoint", "")
	r.exec(`SELECT pg_drop_replication_slot($1)`, r.cfg.WAL.Slot)
	r.want("slot", Warning, "does not exist yet", "outboxd run")
}

// Only outboxd itself can say since when: what it has read is on record.
func TestALogThatMayLackRowsIsFound(t *testing.T) {
	r := setup(t)
	published, err := wal.Published(t.Context(), r.conn, r.cfg.WAL)
	if err != nil {
		t.Fatal(err)
	}
	r.exec(`UPDATE outboxd.checkpoint SET published = $1`, published)
	r.want("checkpoint", OK, "the slot agrees", "")
	r.exec(`ALTER PUBLICATION outboxd DROP TABLE outbox`)
	r.exec(`ALTER PUBLICATION outboxd ADD TABLE outbox`)
	r.want("checkpoint", Error, "its publication was changed", "outboxd run makes it anew")
	r.exec(`UPDATE outboxd.checkpoint SET lost = 'it was set back'`)
	r.want("checkpoint", Error, "is lost: it was set back", "outboxd run makes it anew")
}

func TestADroppedSlotIsToldFromOneThatNeverWas(t *testing.T) {
	r := setup(t)
	r.exec(`SELECT pg_drop_replication_slot($1)`, r.cfg.WAL.Slot)
	r.want("slot", Error, "has read from it before", "by itself")
	r.cfg.StopWhenLost = true
	r.want("slot", Error, "has read from it before", "slot.on_lost=recover")
}

func TestASlotOfAnotherKindIsAnError(t *testing.T) {
	r := setup(t)
	r.exec(`SELECT pg_drop_replication_slot($1)`, r.cfg.WAL.Slot)
	r.exec(`SELECT pg_create_physical_replication_slot($1)`, r.cfg.WAL.Slot)
	r.want("slot", Error, "is a physical one", "pg_drop_replication_slot")
	r.exec(`SELECT pg_drop_replication_slot($1)`, r.cfg.WAL.Slot) // it belongs to no database, so it would stay
}

func TestALostSlotIsFound(t *testing.T) {
	if testenv.Postgres(t).Major < 13 {
		return // nothing invalidates a slot there
	}
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"max_slot_wal_keep_size = 1MB", "min_wal_size = 32MB", "max_wal_size = 32MB"}})
	r := bare(t, server)
	r.migrate()
	r.stream()
	for i := 0; ; i++ {
		s, err := wal.SlotStatus(t.Context(), r.conn, r.cfg.WAL.Slot)
		if err != nil {
			t.Fatal(err)
		}
		if s.Lost() {
			break
		}
		if s.WALStatus == "unreserved" {
			r.want("slot_wal", Error, "is lost with the next checkpoint", "max_slot_wal_keep_size")
		}
		if i == 20 {
			t.Fatal("the slot is not lost")
		}
		r.exec(`SELECT pg_switch_wal(); CREATE TABLE IF NOT EXISTS noise (t text); INSERT INTO noise VALUES ('x'); SELECT pg_switch_wal()`)
		r.exec(`CHECKPOINT`)
	}
	r.want("slot_lost", Error, "was invalidated", "larger max_slot_wal_keep_size")
}

func TestASlotIsJudgedByWhatItHoldsBackAndByFailover(t *testing.T) {
	safe := int64(10 << 20)
	f := slotFacts{name: "s", slot: &wal.Slot{Name: "s", WALStatus: "extended", SafeWALSize: &safe, RetainedBytes: 90 << 20}, keep: 100 << 20, maxRetained: 1 << 30}
	wantFinding(t, f.retained(), "slot_wal", Warning, "is lost after 10.0 MiB more", "raise max_slot_wal_keep_size")
	f.slot.WALStatus = "unreserved"
	wantFinding(t, f.retained(), "slot_wal", Error, "with the next checkpoint", "at once")
	f = slotFacts{name: "s", slot: &wal.Slot{ActivePID: 7, Active: true}, recorded: true, wantFailover: true}
	wantFinding(t, f.findings(), "slot", OK, "process 7", "")
	wantFinding(t, f.findings(), "slot_failover", Warning, "not synchronised", "outboxd slot drop")
}

func TestStandbysThatTheServerWaitsForInVainAreFound(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Version: 18, Settings: []string{`synchronized_standby_slots = 'away, far'`}})
	r := bare(t, server)
	r.exec(`SELECT pg_create_physical_replication_slot('away', true), pg_create_physical_replication_slot('far', true)`)
	r.migrate()
	r.stream()
	r.wantNone("slot_standbys", Error) // it holds up no other slots
	r.exec(`SELECT pg_drop_replication_slot($1)`, r.cfg.WAL.Slot)
	r.cfg.WAL.Failover = true
	r.stream()
	r.want("slot_standbys", Error, "no standby reads: away, far", "start the standbys")
}

func TestInstancesAreCounted(t *testing.T) {
	r := setup(t)
	active := r.connect()
	if taken, err := park.TryLock(t.Context(), active, "outboxd", r.cfg.WAL.Slot); err != nil || !taken {
		t.Fatalf("take the lock: %v", err)
	}
	r.want("instances", Info, "none stands by", "second machine")
	standby := r.connect()
	waiting, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- park.Lock(waiting, standby, "outboxd", r.cfg.WAL.Slot) }()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, n, err := park.Instances(t.Context(), r.conn, "outboxd", r.cfg.WAL.Slot); err != nil || n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for the lock")
		}
	}
	r.want("instances", OK, "1 stand by", "")
	stop()
	if err := <-ended; err == nil {
		t.Error("the standby got the lock")
	}
}

func (r *rig) connect() *pgx.Conn {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), r.url)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestANewerSchemaIsFoundAndAPendingOneIsFixed(t *testing.T) {
	r := setup(t)
	r.exec(`UPDATE outboxd.schema_version SET version = 99`)
	r.want("migrations", Error, "has version 99", "newer")
	r.exec(`DROP SCHEMA outboxd CASCADE`)
	r.want("migrations", Error, "has version 0", "outboxd migrate up")
	if f := r.fix("migrations"); f.Error != "" {
		t.Error(f.Error)
	}
	r.want("migrations", OK, "as this program needs", "")
}

func TestMissingRightsAreFound(t *testing.T) {
	r := setup(t)
	role := r.role("LOGIN REPLICATION")
	r.as(role)
	findings := r.examine()
	wantFinding(t, findings, "rights", Error, "USAGE of the schema", "GRANT USAGE ON SCHEMA \"outboxd\" TO \""+role+"\"")
	wantFinding(t, findings, "table", Error, "may not", "GRANT")
	r.exec(`GRANT USAGE ON SCHEMA outboxd TO ` + role)
	r.exec(`GRANT ALL ON ALL TABLES IN SCHEMA outboxd TO ` + role)
	r.exec(`GRANT ALL ON ALL SEQUENCES IN SCHEMA outboxd TO ` + role)
	r.exec(`REVOKE DELETE ON outboxd.parked FROM ` + role)
	r.exec(`GRANT SELECT, UPDATE ON outbox TO ` + role)
	r.want("rights", Error, "DELETE on parked", `GRANT DELETE ON "outboxd"."parked"`)
	r.exec(`GRANT DELETE ON outboxd.parked TO ` + role)
	r.want("rights", OK, "has its rights", "")
	r.want("table", OK, "can be settled", "")
}

// What the script for the running role grants is what doctor wants, and enough for its own checks.
func TestTheRoleOfTheScriptHasItsRights(t *testing.T) {
	r := setup(t)
	role := r.role("LOGIN REPLICATION")
	var script strings.Builder
	if err := migrations.WriteRoleSQL(&script, r.cfg.Migrations, migrations.Role{Name: role}); err != nil {
		t.Fatal(err)
	}
	r.exec(script.String())
	r.as(role)
	findings := r.examine()
	wantFinding(t, findings, "rights", OK, "has its rights", "")
	wantFinding(t, findings, "table", OK, "can be settled", "")
	for _, f := range findings {
		if f.Level == Error || strings.Contains(f.Saw, "not checked") {
			t.Errorf("%s: %s", f.Check, f.Saw)
		}
	}
	r.exec(`REVOKE USAGE ON SEQUENCE outboxd.replay_number FROM ` + role)
	r.want("rights", Error, "USAGE on replay_number", "GRANT USAGE ON SEQUENCE")
}
