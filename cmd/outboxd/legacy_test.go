package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/internal/workload"
)

// A team stops its polling projector and starts outboxd with the same environment and no file; only the slot's name is the test's own, since
// its server is shared.
func TestTheEnvironmentOfAProjectorIsEnough(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	value := func(name string) string {
		i := slices.IndexFunc(o.environ, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
		return strings.TrimPrefix(o.environ[i], name+"=")
	}
	tenant := fmt.Sprintf("t%d", time.Now().UnixNano())
	database := strings.Replace(value("DATABASE_URL"), "postgres://", "postgresql+asyncpg://", 1)
	database = strings.Replace(database, "sslmode=", "ssl=", 1) + "&command_timeout=20&prepared_statement_cache_size=0"
	o.environ = []string{
		"DATABASE_URL=" + database, "REDIS_URL=" + value("REDIS_URL"), "OUTBOXD_DATABASE_SLOT=" + value("OUTBOXD_DATABASE_SLOT"),
		"METRICS_PORT=0", "LOG_LEVEL=INFO", "BENTO_OUTBOX_BATCH_SIZE=100", "BENTO_OUTBOX_SLEEP_IDLE=0.5", "BENTO_OUTBOX_BACKOFF_MULTIPLIER=1.5",
		"BENTO_OUTBOX_DEFAULT_TENANT_ID=" + tenant, "BENTO_OUTBOX_CONNECTION_POOL_SIZE=20", "BENTO_OUTBOX_ENABLE_PERFORMANCE_MONITORING=true",
	}
	if _, err := o.conn.Exec(t.Context(), `ALTER TABLE outbox ALTER tenant_id DROP NOT NULL;
		INSERT INTO outbox (topic, occurred_at, payload, status) SELECT 'orders', now(), '{}', s FROM unnest('{NEW,FAILED,SENT,PUBLISHING}'::text[]) s`); err != nil {
		t.Fatal(err)
	}
	o.start()
	if _, err := o.conn.Exec(t.Context(), `INSERT INTO outbox (tenant_id, topic, occurred_at, payload) VALUES ($1, 'orders', now(), '{}')`, tenant); err != nil {
		t.Fatal(err)
	}
	stream := "outbox:" + tenant + ":orders"
	t.Cleanup(func() { _ = o.redis.Del(context.Background(), stream).Err() })
	eventually(t, "what was not delivered is, and settled", func() bool {
		return o.redis.XLen(t.Context(), stream).Val() == 4 && o.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0
	})
	if n := o.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'outboxd'`); n < 3 {
		t.Errorf("%d connections bear the name", n)
	}
	o.stop()
	for _, name := range []string{"BENTO_OUTBOX_SLEEP_IDLE", "BENTO_OUTBOX_CONNECTION_POOL_SIZE"} {
		if n := strings.Count(o.log.String(), `"source":"`+name+`"`); n != 1 {
			t.Errorf("%s is reported %d times", name, n)
		}
	}
	if !strings.Contains(o.log.String(), "prepared_statement_cache_size has no meaning here") {
		t.Error("a parameter of the address is not reported")
	}
}

func TestTheEnvironmentOfAProjectorIsEnoughOnPulsar(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	server := testenv.Pulsar(t)
	tenant := fmt.Sprintf("t%d", time.Now().UnixNano())
	for _, put := range []struct { // a namespace can be made when its tenant is there
		path string
		body any
	}{
		{"tenants/" + tenant, map[string]any{"allowedClusters": []string{"standalone"}}},
		{"namespaces/" + tenant + "/outbox", nil},
	} {
		eventually(t, put.path, func() bool {
			status, _ := testenv.PulsarAdmin(t, server.AdminURL, http.MethodPut, put.path, put.body)
			return status == http.StatusNoContent || status == http.StatusConflict
		})
	}
	reader, err := workload.NewPulsarReader(server.URL, workload.PulsarTopics{AdminURL: server.AdminURL, Namespaces: []string{tenant + "/outbox"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(reader.Delete(context.Background()), reader.Close()); err != nil { // t.Context is over
			t.Error(err)
		}
	})
	o.environ = slices.DeleteFunc(o.environ, func(pair string) bool {
		return strings.HasPrefix(pair, "REDIS_URL=") || strings.HasPrefix(pair, "OUTBOXD_") && !strings.HasPrefix(pair, "OUTBOXD_DATABASE_SLOT=")
	})
	o.environ = append(o.environ, "PULSAR_SERVICE_URL="+server.URL, "METRICS_PORT=0", "BENTO_OUTBOX_DEFAULT_TENANT_ID="+tenant)
	const insert = `INSERT INTO outbox (tenant_id, topic, occurred_at, payload, status) VALUES ($1, 'orders', now(), '{}', $2)`
	for _, status := range []string{"NEW", "FAILED", "SENT"} {
		if _, err := o.conn.Exec(t.Context(), insert, tenant, status); err != nil {
			t.Fatal(err)
		}
	}
	o.start()
	if _, err := o.conn.Exec(t.Context(), insert, tenant, "NEW"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every row is settled", func() bool { return o.count(`SELECT count(*) FROM outbox WHERE status <> 'SENT'`) == 0 })
	arrived := 0
	if err := reader.ReadAll(t.Context(), func(workload.Received) { arrived++ }); err != nil {
		t.Fatal(err)
	}
	if arrived != 3 {
		t.Errorf("%d messages in the topic, want 3", arrived)
	}
	o.stop()
}
