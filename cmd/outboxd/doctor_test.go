package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/internal/doctor"
	"github.com/outboxd/outboxd/internal/testenv"
)

func TestDoctorFindsNothingWrongWithAHealthySystem(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Fsync: true})
	broker := testenv.NewRedis(t, testenv.RedisOptions{Settings: []string{"appendonly yes"}})
	url := server.Database(t)
	o := newOperator(t, "DATABASE_URL="+url, "REDIS_URL="+broker.URL)
	o.use(url)
	o.start()
	o.exec(`INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload) VALUES ('acme', 'order', '1', 'order.paid', now(), '{}')`)
	eventually(t, "the event is sent", func() bool { return o.count(`SELECT count(*) FROM outbox WHERE status = 'SENT'`) == 1 })

	out, _ := o.run(exitFine, "doctor")
	if !strings.HasSuffix(out, "0 errors, 0 warnings\n") {
		t.Errorf("findings:\n%s", out)
	}
	for _, want := range []string{"postgres\n", "is read by process", "one instance is active", "and the slot agrees", "accepts"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours without a terminal")
	}
	if out, _ = o.run(exitFine, "doctor", "--fix"); strings.Contains(out, "fixed") {
		t.Errorf("a fix of nothing:\n%s", out)
	}
	o.stop()
	if out, _ = o.run(exitFine, "doctor"); !strings.Contains(out, "nobody reads from slot") {
		t.Errorf("with outboxd stopped:\n%s", out)
	}
}

func TestDoctorMendsAndTells(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.exec(`DROP SCHEMA outboxd CASCADE`)
	o.exec(`DROP INDEX ix_outbox_retry_after`)
	out, _ := o.run(exitFailure, "doctor", "--output", "json")
	var r doctorReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if r.Errors != doctor.Count(r.Findings, doctor.Error) || r.Errors == 0 || r.Fixed != nil {
		t.Errorf("%d errors, fixed %v:\n%s", r.Errors, r.Fixed, out)
	}
	out, _ = o.run(exitFine, "doctor", "--fix")
	if !strings.Contains(out, "fixed migrations: applied to schema outboxd") || !strings.Contains(out, "fixed publication: made publication") ||
		!strings.Contains(out, "fixed index_missing: CREATE INDEX CONCURRENTLY") {
		t.Errorf("findings:\n%s", out)
	}
	if out, _ = o.run(exitFine, "doctor", "--fix"); strings.Contains(out, "fixed") {
		t.Errorf("a second fix:\n%s", out)
	}
}

// What is down is an error of its own, and the other parts are looked at.
func TestDoctorGoesOnBehindServersThatAreDown(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.environ = append(o.environ, "DATABASE_URL=postgres://127.0.0.1:1/app", "REDIS_URL="+testenv.Redis(t).URL)
	out, _ := o.run(exitFailure, "doctor")
	if !strings.Contains(out, "no connection to PostgreSQL") || !strings.Contains(out, "accepts") {
		t.Errorf("findings:\n%s", out)
	}
	o.environ = append(o.environ, "REDIS_URL=redis://127.0.0.1:1")
	if out, _ = o.run(exitFailure, "doctor"); !strings.Contains(out, "no answer from Redis") || !strings.Contains(out, "2 errors") {
		t.Errorf("findings:\n%s", out)
	}
}

func TestDoctorAsksNamedDestinations(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	if err := o.redis.Set(t.Context(), o.prefix+":odd", "no stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	out, _ := o.run(exitFailure, "doctor", "--destination", "redis:"+o.prefix+":odd")
	if !strings.Contains(out, "WRONGTYPE") {
		t.Errorf("findings:\n%s", out)
	}
	for _, args := range [][]string{{"--destination", "redis"}, {"--destination", "kafka:x"}, {"--timeout", "1ms"}, {"now"}, {"--output", "xml"}} {
		o.run(exitUsage, append([]string{"doctor"}, args...)...)
	}
}

// use makes the operator's database that of the settings' DATABASE_URL, and makes its tables.
func (o *operator) use(url string) {
	o.t.Helper()
	conn, err := pgx.Connect(o.t.Context(), url)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	o.conn = conn
	o.run(exitFine, "migrate", "up")
}
