package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A team stops its polling projector and starts outboxd with the same environment and no file; only the slot's name is the test's own, since
// its server is shared.
func TestTheEnvironmentOfAProjectorIsEnough(t *testing.T) {
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
