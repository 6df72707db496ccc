package wal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/wal"
)

// verify returns the failed checks of the fixture's configuration.
func (f *fixture) verify() (*wal.Server, []*wal.CheckError) {
	f.t.Helper()
	server, err := wal.Verify(f.t.Context(), f.Conn, f.cfg)
	checks := wal.CheckErrors(err)
	if err != nil && len(checks) == 0 {
		f.t.Fatalf("verify: %v", err)
	}
	return server, checks
}

func (f *fixture) mustVerify() *wal.Server {
	f.t.Helper()
	server, checks := f.verify()
	for _, check := range checks {
		f.t.Errorf("verify: %v", check)
	}
	return server
}

// fault is one thing that is wrong, and what Verify has to say of it.
type fault struct {
	name    string
	since   int // major version that has it
	plant   func(*fixture)
	check   wal.Check
	problem string // a part of it
	mend    string // a part of it
	mends   bool   // the mend is SQL that puts it right as it stands
}

func TestEachFaultIsNamedWithWhatMendsIt(t *testing.T) {
	for _, fault := range append(append(tableFaults, publicationFaults...), slotFaults...) {
		t.Run(fault.name, func(t *testing.T) {
			f := setup(t)
			if major := f.mustVerify().Major(); major < fault.since {
				t.Skipf("PostgreSQL %d does not have it", major)
			}
			fault.plant(f)
			_, checks := f.verify()
			if len(checks) != 1 {
				t.Fatalf("want one failed check, got %v", checks)
			}
			c := checks[0]
			if c.Check != fault.check || !strings.Contains(c.Problem, fault.problem) || !strings.Contains(c.Mend, fault.mend) {
				t.Errorf("want check %s with %q and %q, got check %s: %v", fault.check, fault.problem, fault.mend, c.Check, c)
			}
			if fault.mends {
				f.exec(c.Mend)
				f.mustVerify()
			}
		})
	}
}

var tableFaults = []fault{
	{
		name: "missing table", check: wal.CheckTable, problem: "public.nowhere does not exist", mend: "outboxd migrate up",
		plant: func(f *fixture) { f.cfg.Table = "nowhere" },
	},
	{
		name: "table in another case", check: wal.CheckTable, problem: "public.OutBox does not exist", mend: "did you mean public.outbox?",
		plant: func(f *fixture) { f.cfg.Table = "OutBox" },
	},
	{
		name: "view", check: wal.CheckTable, problem: "public.v is a view", mend: "name the table",
		plant: func(f *fixture) { f.exec("CREATE VIEW v AS TABLE outbox"); f.cfg.Table = "v" },
	},
	{
		name: "unlogged table", check: wal.CheckTable, problem: "UNLOGGED", mend: `ALTER TABLE "public"."outbox" SET LOGGED`, mends: true,
		plant: func(f *fixture) { f.exec("ALTER TABLE outbox SET UNLOGGED") },
	},
	{
		name: "temporary table", check: wal.CheckTable, problem: "temporary", mend: "permanent table",
		plant: func(f *fixture) {
			f.exec("CREATE TEMPORARY TABLE outbox (LIKE public.outbox)")
			f.cfg.Schema = query[string](f, "SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()")
		},
	},
	{
		name: "unlogged partition", since: 13, check: wal.CheckTable, problem: "p1 (UNLOGGED)", mend: "SET LOGGED",
		plant: func(f *fixture) {
			f.partitioned()
			f.exec("ALTER TABLE p1 SET UNLOGGED")
		},
	},
	{
		name: "children by inheritance", check: wal.CheckTable, problem: "tables inherit from public.outbox (child)", mend: `NO INHERIT "public"."outbox"`,
		plant: func(f *fixture) { f.exec("CREATE TABLE child () INHERITS (outbox)") },
	},
	{
		name: "missing columns", check: wal.CheckColumns, problem: `no column "topic", "Payload", it has "id", "payload"`, mend: "column mapping",
		plant: func(f *fixture) { f.cfg.Columns = []string{"id", "topic", "Payload"} },
	},
	{
		name: "status interval too long", check: wal.CheckTimeout, problem: "wal_sender_timeout is 1s and the status interval 500ms",
		mend: `SET wal_sender_timeout`, plant: func(f *fixture) {
			f.exec("SET wal_sender_timeout = '1s'")
			f.cfg.StatusInterval = 500e6
		},
	},
}

// partitioned makes an outbox of two partitions.
func (f *fixture) partitioned() {
	f.exec(`CREATE TABLE parted (id bigint PRIMARY KEY, payload text) PARTITION BY RANGE (id)`)
	f.exec(`CREATE TABLE p1 PARTITION OF parted FOR VALUES FROM (0) TO (100)`)
	f.exec(`CREATE TABLE p2 PARTITION OF parted FOR VALUES FROM (100) TO (200)`)
	f.cfg.Table = "parted"
}

var publicationFaults = []fault{
	{
		name: "publication younger than the slot", check: wal.CheckPublication, problem: "while slot", mend: "pg_drop_replication_slot",
		plant: func(f *fixture) { f.exec(f.createSlot()) },
	},
	{
		name: "publication without inserts", check: wal.CheckPublication, problem: "does not publish inserts", mends: true,
		mend:  `ALTER PUBLICATION "outboxd" SET (publish = 'insert')`,
		plant: func(f *fixture) { f.exec("CREATE PUBLICATION outboxd FOR TABLE outbox WITH (publish = 'update')") },
	},
	{
		name: "publication without the table", check: wal.CheckPublication, problem: `"outboxd" does not contain public.outbox`, mends: true,
		mend:  `ALTER PUBLICATION "outboxd" ADD TABLE "public"."outbox"`,
		plant: func(f *fixture) { f.exec("CREATE PUBLICATION outboxd") },
	},
	{
		name: "column list without a column", since: 15, check: wal.CheckPublication, problem: `does not publish column "payload"`,
		mend:  `ALTER PUBLICATION "outboxd" SET TABLE "public"."outbox"`,
		plant: func(f *fixture) { f.exec("CREATE PUBLICATION outboxd FOR TABLE outbox (id)") },
	},
	{
		name: "updates beside a row filter", since: 15, check: wal.CheckFilter, problem: "publishes updates, and only rows WHERE (payload = 'NEW'::text)", mends: true,
		mend:  `ALTER PUBLICATION "outboxd" SET (publish = 'insert')`,
		plant: func(f *fixture) { f.exec("CREATE PUBLICATION outboxd FOR TABLE outbox WHERE (payload = 'NEW')") },
	},
	{
		name: "partitions under their own names", since: 13, check: wal.CheckPublication, problem: "under their own names", mends: true,
		mend: `ALTER PUBLICATION "outboxd" SET (publish_via_partition_root = true)`,
		plant: func(f *fixture) {
			f.partitioned()
			f.exec("CREATE PUBLICATION outboxd FOR TABLE parted")
		},
	},
	{
		name: "publication without the partitioned table", since: 13, check: wal.CheckPublication, problem: "does not contain public.parted", mends: true,
		mend: `ADD TABLE "public"."parted"; ALTER PUBLICATION "outboxd" SET (publish_via_partition_root = true)`,
		plant: func(f *fixture) {
			f.partitioned()
			f.exec("CREATE PUBLICATION outboxd FOR TABLE outbox")
		},
	},
	{
		name: "role that does not own the table", check: wal.CheckPublication, problem: `only "postgres", the owner of public.outbox, can create it`,
		mend: `as "postgres" or a superuser: CREATE PUBLICATION "outboxd" FOR TABLE`, plant: func(f *fixture) {
			f.become("REPLICATION")
			f.exec(`RESET ROLE`)
			f.exec(`GRANT CREATE ON DATABASE ` + pgx.Identifier{f.Config().Database}.Sanitize() + ` TO ` + f.role())
			f.exec(`SET ROLE ` + f.role())
		},
	},
}

// role is a name of the fixture's own: roles are the server's, not the database's.
func (f *fixture) role() string { return "r" + f.cfg.Slot }

// become goes on as a new role with the attributes.
func (f *fixture) become(attributes string) {
	f.exec("CREATE ROLE " + f.role() + " LOGIN " + attributes)
	f.t.Cleanup(func() {
		ctx, conn := afterTest(f.t), f.Conn
		for _, sql := range []string{"RESET ROLE", "DROP OWNED BY " + f.role(), "DROP ROLE " + f.role()} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				f.t.Errorf("%s: %v", sql, err)
			}
		}
	})
	f.exec("SET ROLE " + f.role())
}

func (f *fixture) createSlot() string {
	return "SELECT pg_create_logical_replication_slot('" + f.cfg.Slot + "', 'pgoutput')"
}

var slotFaults = []fault{
	{
		name: "role without REPLICATION", check: wal.CheckRole, problem: "may not replicate", mend: "REPLICATION",
		plant: func(f *fixture) { f.create(); f.become("") },
	},
	{
		name: "missing slot", check: wal.CheckSlot, problem: "does not exist", mend: "outboxd slot create",
		plant: func(f *fixture) { f.cfg.Create = false; f.publish() },
	},
	{
		name: "physical slot", check: wal.CheckSlot, problem: "physical", mend: "pg_drop_replication_slot", plant: func(f *fixture) {
			f.publish()
			f.exec("SELECT pg_create_physical_replication_slot($1)", f.cfg.Slot)
			f.dropSlotAtEnd()
		},
	},
	{
		name: "slot of another plugin", check: wal.CheckSlot, problem: `plugin "test_decoding", want "pgoutput"`, mend: "pg_drop_replication_slot",
		plant: func(f *fixture) {
			f.publish()
			f.exec("SELECT pg_create_logical_replication_slot($1, 'test_decoding')", f.cfg.Slot)
		},
	},
	{
		name: "slot of another database, and no publication", check: wal.CheckSlot, problem: "belongs to database", mend: "name another slot", plant: func(f *fixture) {
			elsewhere := setup(f.t)
			elsewhere.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", f.cfg.Slot)
		},
	},
	{
		name: "slot of another database", check: wal.CheckSlot, problem: "belongs to database", mend: "name another slot", plant: func(f *fixture) {
			f.publish()
			elsewhere := setup(f.t)
			elsewhere.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", f.cfg.Slot)
		},
	},
	{
		name: "slot with two_phase", since: 14, check: wal.CheckSlot, problem: "two_phase", mend: "without two_phase", plant: func(f *fixture) {
			f.publish()
			f.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput', false, true)", f.cfg.Slot)
		},
	},
	{
		name: "temporary slot", check: wal.CheckSlot, problem: "temporary", mend: "name another slot", plant: func(f *fixture) {
			f.publish()
			session := f.other()
			session.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput', true)", f.cfg.Slot)
			// A session holds its temporary slot, but nobody can take it over either.
		},
	},
	{
		name: "slot in use", check: wal.CheckSlotActive, problem: "is in use by process", mend: "pg_terminate_backend(", plant: func(f *fixture) {
			f.create()
			f.open(0)
		},
	},
}

// publish makes the publication only.
func (f *fixture) publish() {
	f.t.Helper()
	if err := wal.CreatePublication(f.t.Context(), f.Conn, f.cfg); err != nil {
		f.t.Fatal(err)
	}
}

// dropSlotAtEnd is for slots that do not belong to the fixture's database.
func (f *fixture) dropSlotAtEnd() {
	f.t.Cleanup(func() {
		if _, err := f.Exec(afterTest(f.t), "SELECT pg_drop_replication_slot($1)", f.cfg.Slot); err != nil {
			f.t.Errorf("drop slot: %v", err)
		}
	})
}

func TestWithoutCreateTheSQLForWhatIsMissingIsNamed(t *testing.T) {
	f := setup(t)
	f.cfg.Create = false
	_, checks := f.verify()
	if len(checks) != 2 || checks[0].Check != wal.CheckSlot || checks[1].Check != wal.CheckPublication {
		t.Fatalf("want slot and publication, got %v", checks)
	}
	f.exec(checks[1].Mend)
	_, create, _ := strings.Cut(checks[0].Mend, ": ")
	f.exec(create)
	f.mustVerify()
	if _, err := wal.Setup(t.Context(), f.Conn, f.cfg); err != nil {
		t.Errorf("set up: %v", err)
	}
}

func TestAllProblemsAreFoundAtOnce(t *testing.T) {
	f := setup(t)
	f.cfg.Create = false
	f.exec("CREATE PUBLICATION outboxd WITH (publish = 'delete')")
	f.exec("ALTER TABLE outbox SET UNLOGGED")
	f.cfg.Columns = append(f.cfg.Columns, "nothing")
	f.become("")
	_, checks := f.verify()
	var found []string
	for _, check := range checks {
		found = append(found, string(check.Check))
	}
	if got, want := fmt.Sprint(found), "[role table columns slot publication publication]"; got != want {
		t.Errorf("found %s, want %s", got, want)
	}
}

func TestSlotInUseIsTheErrorThatOpenGives(t *testing.T) {
	f := setup(t)
	f.create()
	f.open(0)
	if _, err := wal.Verify(t.Context(), f.Conn, f.cfg); !errors.Is(err, wal.ErrSlotActive) {
		t.Errorf("verify: want ErrSlotActive, got %v", err)
	}
	if _, err := wal.Open(t.Context(), f.cfg, 0); !errors.Is(err, wal.ErrSlotActive) {
		t.Errorf("open: want ErrSlotActive, got %v", err)
	}
}

func TestBadNamesAreRefusedBeforeTheServerIsAsked(t *testing.T) {
	cfg := wal.Config{Schema: "public", Table: "", Slot: "Out-Box", Publication: strings.Repeat("p", 64)}
	_, err := wal.Verify(t.Context(), nil, cfg)
	for _, want := range []string{`slot name "Out-Box"`, `identifier ""`, `identifier "ppp`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s in %v", want, err)
		}
	}
}

// The remaining checks need servers with settings of their own.
func TestServerSettingsAreChecked(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: []string{"wal_level = replica", "max_replication_slots = 0", "max_wal_senders = 0"}})
	f := setupOn(t, server.Database(t))
	_, checks := f.verify()
	want := []wal.Check{wal.CheckWALLevel, wal.CheckSenders, wal.CheckSlots}
	if len(checks) != len(want) {
		t.Fatalf("want %v, got %v", want, checks)
	}
	for i, check := range checks {
		if check.Check != want[i] || !strings.Contains(check.Mend, "ALTER SYSTEM SET "+string(want[i])) {
			t.Errorf("want check %s, got %s: %v", want[i], check.Check, check)
		}
	}
}

func TestAStandbyIsRefused(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	f := setupOn(t, server.Database(t))
	f.create()
	signal := filepath.Join(query[string](f, "SHOW data_directory"), "standby.signal")
	server.Stop()
	if err := os.WriteFile(signal, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	server.Start()
	_, checks := f.other().verify()
	if len(checks) != 1 || checks[0].Check != wal.CheckPrimary || !strings.Contains(checks[0].Mend, "connect to the primary") {
		t.Errorf("want only the primary check, got %v", checks)
	}
	server.Stop()
	if err := os.Remove(signal); err != nil {
		t.Fatal(err)
	}
	server.Start() // the cleanup drops the database
}
