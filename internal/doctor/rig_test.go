package doctor

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/checkpoint"
	"github.com/outboxd/outboxd/decode"
	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/lease"
	"github.com/outboxd/outboxd/migrations"
	"github.com/outboxd/outboxd/outbox"
	"github.com/outboxd/outboxd/park"
	"github.com/outboxd/outboxd/wal"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// rig is a database that is ready for outboxd, and a person who breaks something in it as a superuser.
type rig struct {
	*testing.T
	conn *pgx.Conn
	url  string
	cfg  Config
}

// setup is a rig with outboxd's schema, a publication, and a slot with its record, on the server that tests share.
func setup(t *testing.T) *rig {
	t.Helper()
	r := bare(t, testenv.Postgres(t))
	r.migrate()
	r.stream()
	return r
}

// bare is a rig with an empty database.
func bare(t *testing.T, server *testenv.PostgresServer) *rig {
	t.Helper()
	r := &rig{T: t, url: server.Database(t)}
	slot := fmt.Sprintf("doctor_%d", time.Now().UnixNano())
	r.cfg = Config{
		WAL: wal.Config{
			URL: r.url, Schema: "public", Table: "outbox", Slot: slot, Publication: "outboxd", Create: true, StatusInterval: time.Second,
			Columns: decode.Columns{ID: "id", TenantID: "tenant_id", Topic: "topic", Payload: "payload", Status: "status"}.Names(),
		},
		Outbox:         outbox.Config{Schema: "public", Table: "outbox", OnSent: outbox.Mark},
		Migrations:     migrations.Options{Schema: "outboxd", TableSchema: "public", Table: "outbox"},
		MaxRetainedWAL: 1 << 30, MaxConnections: 9, Timeout: 10 * time.Second,
	}
	r.as("")
	conn, err := pgx.Connect(t.Context(), r.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	r.conn = conn
	return r
}

// as lets doctor connect as the role, "" for the superuser.
func (r *rig) as(role string) {
	r.cfg.Connect = func(ctx context.Context, parameters map[string]string) (*pgx.Conn, error) {
		config, err := pgx.ParseConfig(r.url)
		if err != nil {
			return nil, err
		}
		if role != "" {
			config.User = role
		}
		maps.Copy(config.RuntimeParams, parameters)
		return pgx.ConnectConfig(ctx, config)
	}
}

func (r *rig) exec(sql string, args ...any) {
	r.Helper()
	if _, err := r.conn.Exec(r.Context(), sql, args...); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
}

func (r *rig) migrate() {
	r.Helper()
	if _, err := migrations.Up(r.Context(), r.conn, r.cfg.Migrations); err != nil {
		r.Fatal(err)
	}
}

// stream makes publication and slot, and the record that a first session makes.
func (r *rig) stream() lease.Lease {
	r.Helper()
	server, err := wal.Setup(r.Context(), r.conn, r.cfg.WAL)
	if err != nil {
		r.Fatal(err)
	}
	lease, err := park.Raise(r.Context(), r.conn, r.cfg.Migrations.Schema, r.cfg.WAL.Slot, "test")
	if err != nil {
		r.Fatal(err)
	}
	record := checkpoint.Record{SystemID: server.SystemID, Timeline: server.Timeline, Confirmed: server.Slot.ConfirmedFlush}
	if _, err := checkpoint.NewEpoch(r.Context(), r.conn, lease, record, time.Now()); err != nil {
		r.Fatal(err)
	}
	return lease
}

func (r *rig) examine() []Finding {
	r.Helper()
	return Examine(r.Context(), r.cfg)
}

// want examines and fails the test unless the check has found something with the text at the level, with a mend that has the other text.
func (r *rig) want(check string, level Level, saw, mend string) {
	r.Helper()
	wantFinding(r.T, r.examine(), check, level, saw, mend)
}

func wantFinding(t *testing.T, findings []Finding, check string, level Level, saw, mend string) {
	t.Helper()
	for _, f := range findings {
		if f.Check == check && f.Level == level && strings.Contains(f.Saw, saw) && strings.Contains(f.Mend, mend) {
			if (level == Warning || level == Error) && (f.Mend == "" || f.Why == "") {
				t.Errorf("%s says neither why nor how to mend: %+v", check, f)
			}
			return
		}
	}
	t.Errorf("no finding %s %q with %q and the mend %q among\n%s", check, level, saw, mend, text(findings))
}

// wantNone fails the test when the check has found something at the level.
func (r *rig) wantNone(check string, level Level) {
	r.Helper()
	for _, f := range r.examine() {
		if f.Check == check && f.Level == level {
			r.Errorf("%s: %s: %s", check, level, f.Saw)
		}
	}
}

func text(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s %s %s: %s | %s\n", f.Area, f.Level, f.Check, f.Saw, f.Mend)
	}
	return b.String()
}

// fix does what the findings offer and returns what became of the check's.
func (r *rig) fix(check string) Fixed {
	r.Helper()
	for _, f := range Mend(r.Context(), r.cfg, r.examine()) {
		if f.Check == check {
			return f
		}
	}
	r.Errorf("nothing of %s was fixed", check)
	return Fixed{}
}

// events inserts rows with the status, created so long ago.
func (r *rig) events(n int, status, age string) {
	r.Helper()
	r.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload, status, created_at)
		SELECT 'acme', 'order', g::text, 'order.paid', now(), '{}', $2, now() - $3::interval FROM generate_series(1, $1) g`, n, status, age)
}

// worst is the highest level among the findings, OK without any.
func worst(findings []Finding) Level {
	for _, level := range []Level{Error, Warning, Info} {
		if Count(findings, level) > 0 {
			return level
		}
	}
	return OK
}
